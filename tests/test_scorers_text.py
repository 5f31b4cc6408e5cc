"""The scorers of free texts and records against the public contract and against the libraries' own figures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU, CHRF

from luthier.evaluate.extraction import FieldF1, RecordExact, field_f1, record_rates
from luthier.evaluate.scorers import Pooled, metric
from luthier.evaluate.texts import Bleu, ChrF, RougeL, SameText, bleu
from luthier.testing import ScorerContract
from luthier.types import Candidate, EvalRun, Example, Prediction, Row, Score, Scorer, Target

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "nights": {"type": "integer"}},
    "required": ["city"],
    "additionalProperties": False,
}
TEXT = Example("e", "When was Ada Lovelace born ?", ("on the tenth of December", "10 December 1815"))
RECORD = Example("r", "Two nights in Oslo.", ('{"city": "Oslo", "nights": 2}',))


class _OfTexts(ScorerContract):
    scorer: Scorer

    def make_scorer(self) -> Scorer:
        return self.scorer

    def right(self) -> tuple[Example, Prediction]:
        return TEXT, Prediction("10 December 1815")

    def wrong(self) -> tuple[Example, Prediction]:
        return TEXT, Prediction("xyz qqq")


class TestSameText(_OfTexts):
    scorer = SameText()


class TestRougeL(_OfTexts):
    scorer = RougeL()


class TestChrF(_OfTexts):
    scorer = ChrF()


class TestBleu(_OfTexts):
    scorer = Bleu()

    def right(self) -> tuple[Example, Prediction]:
        return TEXT, Prediction("on the tenth of December")


class _OfRecords(_OfTexts):
    def right(self) -> tuple[Example, Prediction]:
        return RECORD, Prediction(' {"nights": 2.0, "city": "Oslo"}\n')

    def wrong(self) -> tuple[Example, Prediction]:
        return RECORD, Prediction('{"town": "Oslo"}')


class TestRecordExact(_OfRecords):
    scorer = RecordExact(SCHEMA)


class TestFieldF1(_OfRecords):
    scorer = FieldF1(SCHEMA)


del _OfTexts, _OfRecords  # abstract suites: pytest would collect them


def one(scorer: Scorer, example: Example, output: str) -> Score:
    (score,) = scorer.score([example], [Prediction(output)])
    return score


# ---------------------------------------------------------------- texts


def test_exact_match_forgives_case_and_white_space_and_nothing_else() -> None:
    assert one(SameText(), TEXT, " 10  december\n1815 ").value == 1.0
    assert one(SameText(), TEXT, "10 December 1815.").value == 0.0
    assert one(SameText(), Example("e", "x", ("caf\u00e9",)), "CAFE\u0301").value == 1.0
    assert one(SameText(), TEXT, " ") == Score(0.0, "the answer is empty")


def test_rouge_l_is_the_librarys_on_ascii_and_knows_other_letters() -> None:
    library = rouge_scorer.RougeScorer(["rougeL"])
    for answer in ("She was born on 10 December, 1815", "december", "10-december_1815"):
        expected = max(library.score(reference, answer)["rougeL"].fmeasure for reference in TEXT.references)
        assert one(RougeL(), TEXT, answer).value == pytest.approx(expected)
    greek = Example("g", "x", ("Αθήνα και Σπάρτη",))
    assert one(RougeL(), greek, "Σπάρτη").value == pytest.approx(0.5)


def test_chrf_is_the_librarys_best_over_the_references() -> None:
    expected = CHRF().sentence_score("the 10 December", list(TEXT.references)).score / 100
    assert one(ChrF(), TEXT, "the 10 December").value == pytest.approx(expected)
    assert "version" in ChrF().signature


SENTENCES = [
    ("the cat sat on the mat today", ("the cat sat on a mat today", "a cat was sitting on the mat")),
    ("it rains", ("it is raining in the city",)),
    ("no", ("completely different words here",)),
    ("a long answer that goes on and on and on", ("a long answer that goes on and on",)),
    ("red blue green white black", ("blue red white green grey brown",)),  # hits of single words only: smoothed
]


def rows_of(pairs: list[tuple[str | None, tuple[str, ...]]]) -> list[Row]:
    return [
        Row(
            Example(str(at), "x", references),
            Prediction(answer, error=None if answer is not None else "it failed"),
            Score(None if answer is None else 0.0, "-"),
        )
        for at, (answer, references) in enumerate(pairs)
    ]


@settings(max_examples=60, deadline=None)
@example([(SENTENCES[4], 8)])
@given(st.lists(st.tuples(st.sampled_from(SENTENCES), st.integers(0, 8)), min_size=1, max_size=12))
def test_bleu_of_all_answers_is_sacrebleus(drawn: list[tuple[tuple[str, tuple[str, ...]], int]]) -> None:
    pairs = [(" ".join(answer.split()[: cut + 1]), references) for (answer, references), cut in drawn]
    columns = [[references[min(k, len(references) - 1)] for _, references in pairs] for k in range(2)]
    expected = BLEU().corpus_score([answer for answer, _ in pairs], columns).score / 100
    found = bleu(Bleu().counts(rows_of(list(pairs)), hopeful=False).sum(axis=0))
    assert float(found) == pytest.approx(expected, abs=1e-9)


def test_bleu_takes_a_failed_answer_as_empty_or_as_its_reference() -> None:
    rows = rows_of([*SENTENCES, (None, ("one two three four five",))])
    found = metric(Target("bleu", 0.5), ())
    assert isinstance(found, Pooled)
    worst, best = (found.counts(rows, hopeful=hopeful).sum(axis=0) for hopeful in (False, True))
    assert found.statistic(worst) < found.statistic(best)
    assert Bleu().signature.startswith("nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|version:")


# ---------------------------------------------------------------- records


def test_an_extra_key_is_a_false_positive_and_a_missing_one_a_false_negative() -> None:
    reference = {"a": 1, "b": 2, "c": 3}
    assert field_f1({"a": 1, "b": 2, "c": 3}, reference) == 1.0
    assert field_f1({"a": 1, "b": 2, "c": 3, "d": 4}, reference) == pytest.approx(2 * 3 / (4 + 3))
    assert field_f1({"a": 1, "b": 2}, reference) == pytest.approx(2 * 2 / (2 + 3))
    assert field_f1({"a": 1, "b": 2, "c": 9}, reference) == pytest.approx(2 * 2 / (3 + 3)), "wrong is both"
    assert field_f1({}, reference) == 0.0
    assert field_f1({"a": 1, "b": None}, {"a": 1}) == pytest.approx(2 / 3), "null is a value"
    assert field_f1({}, {}) == 1.0


def test_paths_are_nested_and_lists_are_paired_by_what_agrees() -> None:
    reference = {"who": {"name": "Ada"}, "items": [{"n": "tea", "p": 1}, {"n": "jam", "p": 2}]}
    assert field_f1({"who": {"name": "Ada"}, "items": reference["items"][::-1]}, reference) == 1.0  # type: ignore[index]
    swapped = {"who": {"name": "Ada"}, "items": [{"n": "tea", "p": 2}, {"n": "jam", "p": 1}]}
    assert field_f1(swapped, reference) == pytest.approx(2 * 3 / 10), "prices that belong to other names"
    more = {**reference, "items": [{"n": "salt", "p": 9}, *reference["items"]]}
    assert field_f1(more, reference) == pytest.approx(2 * 5 / (7 + 5))
    assert field_f1({"name": "Ada", "items": []}, reference) == 0.0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from("xyz"), JSON), st.dictionaries(st.sampled_from("xyz"), JSON))
def test_field_f1_is_symmetric_bounded_and_one_for_itself(first: dict[str, object], second: dict[str, object]) -> None:
    assert field_f1(first, first) == 1.0
    assert 0.0 <= field_f1(first, second) <= 1.0
    assert field_f1(first, second) == field_f1(second, first)


@pytest.mark.parametrize("scorer", [RecordExact(SCHEMA), FieldF1(SCHEMA)])
@pytest.mark.parametrize(
    ("output", "why"),
    [
        ('{"city": "Oslo", "nights": 2, "nights": 2}', "not JSON: the key 'nights' stands twice"),
        ('{"city": "Oslo", "nights": NaN}', "not JSON: NaN"),
        ('{"city": "Oslo", "nights": 2} That is all.', "not JSON: Extra data"),
        ("Oslo", "not JSON"),
        ("", "not JSON"),
        ("[" * 5000, "not JSON"),
        ('{"city":' * 400 + "1" + "}" * 400, "not JSON: nested too deeply"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_not_json_is_wrong_and_says_why(scorer: Scorer, output: str, why: str) -> None:
    score = one(scorer, RECORD, output)
    assert score.value == 0.0
    assert score.reason.startswith(why)


def test_the_reason_names_the_fields_that_differ() -> None:
    score = one(RecordExact(SCHEMA), RECORD, '{"city": "Bergen", "stars": 3}')
    assert score == Score(
        0.0,
        "does not fit the schema (Additional properties are not allowed ('stars' was unexpected)): city 'Bergen' "
        "instead of 'Oslo'; nights is missing; stars is extra",
    )


def test_the_best_of_several_records_counts() -> None:
    example = Example("r", "x", ('{"city": "Oslo"}', '{"city": "Oslo", "nights": 2}'))
    assert one(RecordExact(SCHEMA), example, '{"city": "Oslo", "nights": 2}').value == 1.0
    assert one(FieldF1(SCHEMA), example, '{"city": "Oslo", "nights": 3}').value == pytest.approx(2 / 3)


def test_the_rates_tell_where_records_fail() -> None:
    outputs = [json.dumps({"city": "Oslo", "nights": 2})] * 6 + ['{"city": "Bergen"}', '{"town": 1}', "Oslo", None]
    rows = tuple(
        Row(Example(str(at), "x", RECORD.references), Prediction(output), Score(0.0, "-"))
        for at, output in enumerate(outputs)
    )
    run = EvalRun(Candidate("zero-shot", None, 40), "test", rows, "f", 0.05, 10, 10)
    found = record_rates(run, SCHEMA)
    assert [round(found[name].mean * 9) for name in ("parses", "schema_valid", "record_exact")] == [8, 7, 6]
    for rate in found.values():
        assert rate.low < rate.mean < rate.high
        assert rate.n == 9
    assert record_rates(EvalRun(Candidate("x", None, 1), "test", rows[-1:], "f", 0.05, 1, 1), SCHEMA) == {}


def test_numpy_is_not_needed_to_read_a_score() -> None:
    assert type(one(FieldF1(SCHEMA), RECORD, "{}").value) is float
    assert np.isclose(one(FieldF1(SCHEMA), RECORD, "{}").value or 0.0, 0.0)
