"""No copy, near-copy or group is ever on two sides; counts are exact; the same data gives the same split."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.errors import DataError, SpecError
from luthier.task import load_task
from luthier.task.duplicates import measure, normal_form
from luthier.task.sketches import SHINGLE
from luthier.types import Example, Task

SOUNDS = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]


def sentence(seed: int, words: int = 8) -> str:
    """A text of made-up words; two seeds never give near-copies."""
    rng = random.Random(seed)
    return " ".join("".join(rng.choices(SOUNDS, k=3)) for _ in range(words))


def make(
    folder: Path, rows: Sequence[dict[str, str]], toml: str = "", data: str = "", test: Sequence[dict[str, str]] = ()
) -> Task:
    """The task of these rows."""
    for name, part in (("d.jsonl", rows), ("t.jsonl", test)):
        if part:
            (folder / name).write_text("\n".join(json.dumps(row) for row in part), encoding="utf-8")
    head = f'[task]\nname = "t"\n[data]\npath = "d.jsonl"\ninput = "text"\nreference = "label"\n{data}\n'
    head += 'test = "t.jsonl"\n' if test else ""
    (folder / "luthier.toml").write_text(f"{head}[target]\nat_least = 0.85\n{toml}", encoding="utf-8")
    return load_task(folder)


def plain(n: int, labels: str = "ab") -> list[dict[str, str]]:
    return [{"text": sentence(i), "label": labels[i % len(labels)]} for i in range(n)]


def splits(task: Task) -> dict[str, tuple[Example, ...]]:
    return {"train": task.train, "dev": task.dev, "test": task.test.order}


def jaccard(one: str, other: str) -> float:
    sets = [
        {form[i : i + SHINGLE] for i in range(max(len(form) - SHINGLE + 1, 1))}
        for form in map(normal_form, (one, other))
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def check_no_leak(task: Task, threshold: float = 0.8) -> None:
    """No input, near-copy or group on two sides, found by brute force."""
    sides = splits(task)
    for name, examples in sides.items():
        for other in [other for other in sides if other > name]:
            for left in examples:
                for right in sides[other]:
                    assert jaccard(str(left.input), str(right.input)) < threshold, (name, left, other, right)
                    assert left.group is None or left.group != right.group, (name, left, other, right)


# ---------------------------------------------------------------- near-copies


def test_similarity_is_exact_and_complete() -> None:
    """Against brute force, on texts from nearly equal to barely alike."""
    rng = random.Random(0)
    texts = []
    for base in range(25):
        words = sentence(base, 12).split()
        for changes in range(5):
            copy = list(words)
            for place in rng.sample(range(12), changes):
                copy[place] = sentence(1000 + 31 * base + changes, 1)
            texts.append(normal_form(" ".join(copy)))
    texts = list(dict.fromkeys(texts))
    pairs = measure(texts)
    found = {
        (left, right): similarity
        for left, right, similarity in zip(pairs.left, pairs.right, pairs.similarity, strict=True)
    }
    truth = {(i, j): jaccard(texts[i], texts[j]) for i in range(len(texts)) for j in range(i + 1, len(texts))}
    high = {pair for pair, similarity in truth.items() if similarity >= 0.65}
    assert len(high) > 20
    assert high <= set(found), "nothing well above the floor is missed"
    for pair, similarity in found.items():
        assert similarity == pytest.approx(truth[pair], abs=1e-12)
        assert similarity >= 0.5


def test_pairs_are_cut_again_without_measuring() -> None:
    pairs = measure(
        [
            normal_form(text)
            for text in ("where is my new card?", "where is my new card!", "where is my new card? hello")
        ]
    )
    assert pairs.above(0.85).clusters() == [[0, 1]]
    assert pairs.above(0.5).clusters() == [[0, 1, 2]]
    assert len(pairs.above(1.0)) == 0
    with pytest.raises(ValueError, match="below"):
        pairs.above(0.4)


def test_a_crowd_of_letters_from_one_template_is_linked() -> None:
    letters = [
        f"dear customer, your parcel {number} has left our house and will be with you soon, thank you for ordering"
        for number in range(1000, 1600)
    ]
    clusters = measure(letters).above(0.8).clusters()
    assert len(clusters) == 1
    assert len(clusters[0]) == 600


def test_nothing_and_short_texts_are_measured_too() -> None:
    assert len(measure([])) == 0
    assert len(measure(["a"])) == 0
    assert len(measure(["yes", "no", "ok"])) == 0


# ---------------------------------------------------------------- copies


def test_exact_copies_become_one_example_with_a_weight(tmp_path: Path) -> None:
    rows = plain(30)
    rows += [{"text": f"  {rows[0]['text'].upper()} ", "label": "a"}, {"text": rows[0]["text"], "label": "a"}]
    task = make(tmp_path, rows)
    weights = {example.weight for split in splits(task).values() for example in split}
    assert sum(len(split) for split in splits(task).values()) == 30
    assert weights == {1.0, 3.0}
    assert task.findings["exact_duplicates_merged"] == 2
    assert task.findings["lines"]["exact_duplicates_merged"] == [[1, 31, 32]]


def test_where_copies_disagree_the_majority_decides_and_a_tie_is_left_out(tmp_path: Path) -> None:
    rows = plain(30)
    rows += [{"text": rows[0]["text"], "label": label} for label in "bb"]
    rows += [{"text": rows[1]["text"], "label": "a"}]
    task = make(tmp_path, rows)
    labels = {str(example.input): example.reference for split in splits(task).values() for example in split}
    assert labels[rows[0]["text"]] == "b"
    assert rows[1]["text"] not in labels
    assert (task.findings["conflicts_resolved"], task.findings["conflicts_dropped"]) == (1, 1)
    assert task.findings["lines"]["conflicts_dropped"] == [[2, 33]]
    assert task.findings["distinct"] == 29


def near(text: str, number: int) -> str:
    return f"{text} {'xyzuvw'[number]}"


def test_near_copies_stay_together_and_only_one_of_them_is_tested(tmp_path: Path) -> None:
    rows = []
    for i in range(60):
        text = sentence(i, 10)
        copies = 3 if i % 2 else 1
        rows += [{"text": near(text, copy), "label": "ab"[i // 2 % 2]} for copy in range(copies)]
    task = make(tmp_path, rows, "[split]\ntrain = 40\ndev = 10\ntest = 20\n")
    check_no_leak(task)
    assert [len(split) for split in splits(task).values()] == [40, 10, 20]
    assert task.test.groups == 20, "each test example is a new observation"
    assert task.findings["near_duplicate_groups"] == 30
    assert task.findings["near_duplicate_members"] == 90
    aside = task.findings["set_aside"]
    tested = [example.group for example in (*task.dev, *task.test.order)]
    assert aside == 2 * sum(group is not None for group in tested) > 0
    assert any(Counter(example.group for example in task.train if example.group).values()), "train keeps near-copies"
    assert max(Counter(example.group for example in task.train if example.group).values()) == 3
    assert aside + task.findings["unused"] + 70 == 120, "every example is accounted for"


def test_switched_off_near_copies_are_plain_examples(tmp_path: Path) -> None:
    rows = [{"text": near(sentence(i, 10), copy), "label": "ab"[i % 2]} for i in range(20) for copy in range(2)]
    task = make(tmp_path, rows, data="near_duplicates = false")
    assert sum(len(split) for split in splits(task).values()) == 40
    assert "near_duplicate_groups" not in task.findings


def test_a_large_cluster_is_a_warning(tmp_path: Path) -> None:
    rows = plain(30) + [{"text": near(sentence(99, 12), i), "label": "a"} for i in range(6)]
    assert any("linked as near-copies" in warning for warning in make(tmp_path, rows).findings["warnings"])


# ---------------------------------------------------------------- groups of the user


def test_groups_enter_a_split_whole_and_stand_together(tmp_path: Path) -> None:
    rows = [{"text": sentence(i), "label": "ab"[i // 4 % 2], "who": f"c{i // 4}" if i < 80 else ""} for i in range(120)]
    task = make(tmp_path, rows, "[split]\ndev = 20\ntest = 40\n", 'group = "who"')
    sides = splits(task)
    where = {example.group: name for name, side in sides.items() for example in side if example.group}
    for name, side in sides.items():
        sizes = Counter(example.group for example in side if example.group)
        assert set(sizes.values()) <= {4}, "a group is never cut"
        assert {where[group] for group in sizes} <= {name}
    assert task.test.groups == 20, "a third of the 60 groups, since a third of the examples was asked for"
    order = [example.group or example.id for example in task.test.order]
    assert sum(left != right for left, right in pairwise(order)) == task.test.groups - 1


def test_a_copy_in_two_groups_joins_them(tmp_path: Path) -> None:
    """Customer 1 and customer 2 wrote the same text: apart, one would leak into the other."""
    rows = [{"text": sentence(i), "label": "ab"[i % 2], "who": f"c{i // 2}"} for i in range(80)]
    rows += [{"text": rows[0]["text"], "label": rows[0]["label"], "who": "c7"}]
    task = make(tmp_path, rows, data='group = "who"')
    groups = {example.id: example.group for side in splits(task).values() for example in side}
    assert groups["line 1"] == groups["line 2"] == groups["line 15"] == groups["line 16"]
    check_no_leak(task)


def test_groups_larger_than_their_splits_still_give_one_each(tmp_path: Path) -> None:
    rows = [{"text": sentence(i), "label": "ab"[i % 2], "who": f"c{i // 20}"} for i in range(60)]
    task = make(tmp_path, rows, "[split]\ndev = 5\ntest = 5\n", 'group = "who"')
    assert [len(side) for side in splits(task).values()] == [20, 20, 20]


# ---------------------------------------------------------------- a fixed test file


def test_what_a_fixed_test_file_shares_is_taken_out_of_train(tmp_path: Path) -> None:
    rows = plain(60)
    test = [{"text": sentence(500 + i), "label": "ab"[i % 2]} for i in range(20)]
    test += [rows[0], {"text": near(rows[1]["text"], 0), "label": "b"}]
    task = make(tmp_path, rows, "[split]\ndev = 10\n", test=test)
    check_no_leak(task)
    assert {example.input for example in task.test.order} == {row["text"] for row in test}
    assert task.findings["leaked_from_train"] == 2
    assert sorted(task.findings["lines"]["leaked_from_train"]) == ["line 1", "line 2"]
    assert (len(task.dev), len(task.train)) == (10, 48)
    assert {example.id for example in task.test.order} >= {"test line 1", "test line 22"}


def test_a_copy_of_a_test_input_leaves_train_even_where_near_copies_are_not_looked_for(tmp_path: Path) -> None:
    rows = plain(60)
    test = [{"text": rows[i]["text"].upper(), "label": rows[i]["label"]} for i in range(10)]
    task = make(tmp_path, rows, data="near_duplicates = false", test=test)
    assert task.findings["leaked_from_train"] == 10
    assert (len(task.test), len(task.train) + len(task.dev)) == (10, 50)


def test_defects_of_the_test_file_are_told_as_its_own(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.jsonl: 1 empty label"):
        make(tmp_path, plain(20), test=[{"text": "x", "label": ""}, {"text": "y", "label": "a"}])
    with pytest.raises(DataError, match="'A' in test line 1"):
        make(tmp_path, plain(20), test=[{"text": "x", "label": "A"}, {"text": "y", "label": "a"}])
    ids = [{**row, "nr": str(i)} for i, row in enumerate(plain(20))]
    with pytest.raises(DataError, match="'3' stands in both files"):
        make(tmp_path, ids, data='id = "nr"', test=[{"text": "x", "label": "a", "nr": "3"}])


# ---------------------------------------------------------------- sizes


def test_shares_are_of_the_distinct_examples_and_stratified(tmp_path: Path) -> None:
    task = make(tmp_path, plain(100, "aaab"), "[split]\ndev = 0.2\ntest = 0.4\n")
    assert [len(split) for split in splits(task).values()] == [40, 20, 40]
    assert [Counter(example.reference for example in side)["b"] for side in splits(task).values()] == [10, 5, 10]


def test_train_may_be_smaller_than_the_rest(tmp_path: Path) -> None:
    task = make(tmp_path, plain(100), "[split]\ntrain = 30\ndev = 10\ntest = 0.2\n")
    assert [len(split) for split in splits(task).values()] == [30, 10, 20]
    assert task.findings["unused"] == 40


def test_train_is_exact_even_if_near_copies_have_to_be_parted(tmp_path: Path) -> None:
    rows = [{"text": near(sentence(i, 10), copy), "label": "ab"[i % 2]} for i in range(20) for copy in range(2)]
    task = make(tmp_path, rows, "[split]\ntrain = 7\ndev = 5\ntest = 5\n")
    assert [len(split) for split in splits(task).values()] == [7, 5, 5]
    check_no_leak(task)


@pytest.mark.parametrize(
    "sizes",
    ["train = 50\ndev = 20\ntest = 31", "dev = 50\ntest = 50", "test = 1000", "train = 90\ndev = 0.15\ntest = 0.05"],
)
def test_more_than_there_is_says_how_many_there_are(tmp_path: Path, sizes: str) -> None:
    with pytest.raises(SpecError, match="the data has 100 distinct examples") as caught:
        make(tmp_path, plain(100) + plain(40), f"[split]\n{sizes}\n")
    assert caught.value.where == "luthier.toml, [split]"


def test_near_copies_set_aside_are_not_counted_twice(tmp_path: Path) -> None:
    rows = [{"text": near(sentence(i, 10), copy), "label": "ab"[i % 2]} for i in range(20) for copy in range(2)]
    with pytest.raises(SpecError, match="40 distinct examples in 20 groups"):
        make(tmp_path, rows, "[split]\ndev = 10\ntest = 15\n")
    with pytest.raises(SpecError, match="20 of 40 distinct examples are left after dev and test"):
        make(tmp_path, rows, "[split]\ntrain = 30\ndev = 5\ntest = 5\n")


def test_labels_that_cannot_be_learnt_or_judged_are_warnings(tmp_path: Path) -> None:
    warnings = make(tmp_path, [*plain(60), {"text": "a lone text", "label": "c"}]).findings["warnings"]
    assert any("test has fewer than 5 examples of 'c'" in warning for warning in warnings)


# ---------------------------------------------------------------- the same data, the same split


def test_the_split_depends_on_content_and_seed_alone(tmp_path: Path) -> None:
    rows = plain(80)
    task = make(tmp_path, rows)
    again = make(tmp_path, [*reversed(rows)])
    assert [example.input for example in again.test.order] == [example.input for example in task.test.order]
    assert [example.input for example in again.train] == [example.input for example in task.train]
    assert again.fingerprint == task.fingerprint
    other = make(tmp_path, rows, "[split]\nseed = 1\n")
    assert {example.input for example in other.test.order} != {example.input for example in task.test.order}
    assert other.test.hash != task.test.hash
    assert other.fingerprint != task.fingerprint


def test_the_split_is_pinned(tmp_path: Path) -> None:
    """A split that moves under a user leaks what was tested: it may only change with a word in the changelog."""
    task = make(tmp_path, plain(40))
    assert [example.id for example in task.test.order][:4] == ["line 7", "line 14", "line 12", "line 30"]
    assert task.test.hash == "342935c11c4a90700f2a391e2f25019f"


def test_a_file_that_grows_keeps_most_of_its_test_split(tmp_path: Path) -> None:
    before = {example.input for example in make(tmp_path, plain(200)).test.order}
    after = {example.input for example in make(tmp_path, plain(220)).test.order}
    assert len(before & after) >= 0.9 * len(before)


def test_the_seal_knows_content_and_nothing_else(tmp_path: Path) -> None:
    rows, test = plain(40), [{"text": sentence(500 + i), "label": "ab"[i % 2]} for i in range(20)]
    task = make(tmp_path, rows, test=test)
    other_order = make(tmp_path, rows, "[split]\nseed = 5\n", test=test)
    assert [example.input for example in other_order.test.order] != [example.input for example in task.test.order]
    assert other_order.test.hash == task.test.hash
    named = make(
        tmp_path,
        [{**row, "nr": row["text"]} for row in rows],
        data='id = "nr"',
        test=[{**row, "nr": row["text"]} for row in test],
    )
    assert named.test.hash == task.test.hash
    assert named.fingerprint == task.fingerprint, "ids are no content"
    test[0]["label"] = "b"
    relabelled = make(tmp_path, rows, test=test)
    assert relabelled.test.hash != task.test.hash
    assert relabelled.fingerprint != task.fingerprint


def test_the_fingerprint_follows_the_spec(tmp_path: Path) -> None:
    task = make(tmp_path, plain(40))
    assert make(tmp_path, plain(40), "confidence = 0.9\n").fingerprint != task.fingerprint
    assert make(tmp_path, plain(40), '[models]\nstudent = "x"\n').fingerprint != task.fingerprint
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    assert make(moved, plain(40)).fingerprint == task.fingerprint


@st.composite
def files(draw: st.DrawFn) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """Rows with planted copies, near-copies and groups, shuffled; and split sizes that they can bear."""
    texts = draw(st.integers(24, 40))
    rows = []
    for i in range(texts):
        kind = draw(st.sampled_from(["once", "once", "copies", "near"]))
        label, who = draw(st.sampled_from("abc")), draw(st.sampled_from(["", "", "", "g1", "g2", "g3"]))
        for copy in range(1 if kind == "once" else draw(st.integers(2, 3))):
            text = sentence(i, 10)
            text = near(text, copy) if kind == "near" else (text.upper() if copy == 1 else text)
            rows.append({"text": text, "label": label, "who": who})
    sizes = {"dev": draw(st.integers(2, 5)), "test": draw(st.integers(3, 9)), "seed": draw(st.integers(0, 9))}
    return draw(st.permutations(rows)), sizes


@given(files(), st.booleans())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_the_file_holds_nothing_leaks(
    file: tuple[list[dict[str, str]], dict[str, Any]], grouped: bool
) -> None:
    rows, sizes = file
    if len({row["label"] for row in rows}) < 2:
        return
    toml = "[split]\n" + "".join(f"{key} = {value}\n" for key, value in sizes.items())
    with TemporaryDirectory() as name:
        try:
            task = make(Path(name), rows, toml, 'group = "who"' if grouped else "")
        except SpecError as mistake:
            # groups may be too large for the sizes that were drawn
            if not grouped or "no example is left for" not in mistake.what:
                raise
            return
        again = make(Path(name), rows, toml, 'group = "who"' if grouped else "")
    check_no_leak(task)
    assert again == task
    sides = splits(task)
    inputs = [normal_form(str(example.input)) for side in sides.values() for example in side]
    assert len(inputs) == len(set(inputs))
    assert {example.reference for side in sides.values() for example in side} <= set(task.spec.label_names)
    if not grouped:
        assert (len(task.dev), len(task.test)) == (sizes["dev"], sizes["test"])
        assert task.test.groups == len(task.test)
    else:
        # groups are drawn by number, whatever their sizes: no more of them than examples were asked for
        assert task.test.groups <= sizes["test"]
    kept = sum(len(side) for side in sides.values())
    assert kept + task.findings["set_aside"] + task.findings["unused"] == task.findings["distinct"]


def test_large_groups_are_tested_as_often_as_small_ones(tmp_path: Path) -> None:
    """A test split that is filled up with the groups that still fit has too many small ones."""
    rows = []
    for group in range(40):
        for part in range(1 if group % 2 else 12):
            text = sentence(1000 * group + part)
            rows.append(
                {"text": text, "label": "ab"[part % 2], "group": f"{'small' if group % 2 else 'large'} {group}"}
            )
    large = []
    for seed in range(8):
        task = make(tmp_path, rows, f"[split]\ntest = 80\nseed = {seed}", 'group = "group"\nnear_duplicates = false')
        drawn = {example.group for example in task.test.order}
        large.append(sum("large" in str(rowgroup) for rowgroup in named(task, rows, drawn)) / len(drawn))
    assert 0.4 < sum(large) / len(large) < 0.6


def named(task: Task, rows: Sequence[dict[str, str]], drawn: set[str | None]) -> set[str]:
    """The users' names of the groups whose texts were drawn."""
    asked = {str(example.input) for example in task.test.order}
    return {row["group"] for row in rows if row["text"] in asked}


def test_a_test_file_that_is_the_data_file_is_called_that(tmp_path: Path) -> None:
    for at, data in enumerate(('test = "d.jsonl"', 'test = "./d.jsonl"', 'test = "copy.jsonl"')):
        folder = tmp_path / str(at)
        folder.mkdir()
        (folder / "copy.jsonl").write_text("\n".join(json.dumps(row) for row in plain(40)), encoding="utf-8")
        with pytest.raises(SpecError, match=r"\[data\] test: .* the very rows of \[data\] path"):
            make(folder, plain(40), data=data)
