"""luthier.toml: each mistake is one SpecError with its place and its fix, and each key is documented."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthier.errors import SpecError
from luthier.task.kinds import ON_REQUEST, WITH_DOCUMENTS
from luthier.task.parse import keys, named_sections, parse, sections
from luthier.task.reference import configuration_markdown
from luthier.task.spec import RUNG_NAMES

DOCS = Path(__file__).parent.parent / "docs" / "configuration.md"


def toml(target: str = "at_least = 0.85", data: str = 'input = "text"\nreference = "label"', **tables: str) -> str:
    """A luthier.toml that is right but for what is passed."""
    parts = {"task": 'name = "t"', "data": f'path = "d.csv"\n{data}', "target": target, **tables}
    return "\n".join(f"[{name}]\n{body}" for name, body in parts.items())


def test_the_defaults_are_those_of_the_documentation() -> None:
    settings = parse(toml())
    out = ("nearest", *ON_REQUEST, *WITH_DOCUMENTS)
    assert settings.rungs == tuple(name for name in RUNG_NAMES if name not in out)
    assert (settings.target.metric, settings.target.confidence, settings.target.about) == (
        "accuracy",
        0.95,
        "inputs to come",
    )
    assert (settings.split.train, settings.split.dev, settings.split.test, settings.split.seed) == (None, 0.15, 0.35, 0)
    assert settings.data.near_duplicates == 0.8
    assert settings.constraints.local_only is False
    assert settings.models == {
        "prompted": "smollm2-135m",
        "student": "smollm2-135m",
        "embedder": "all-minilm-l6-v2",
    }


def test_what_is_written_is_what_is_read() -> None:
    settings = parse(
        toml(
            'metric = "f1"\nclass = "b"\nat_least = 0.7\nconfidence = 0.9\nabout = "split"',
            'template = "{a}: {b}"\nreference = "label"\nnear_duplicates = false\nencoding = "latin-1"',
            task='name = "t"\ninstruction = "Do."\n[task.labels]\nb = "the b"\na = ""',
            split="train = 100\ndev = 20\ntest = 0.5\nseed = 3",
            ladder='rungs = ["lora", "majority"]\nseed = 4',
            constraints="local_only = true",
        )
    )
    assert [(label.name, label.description) for label in settings.labels] == [("b", "the b"), ("a", "")]
    assert (settings.target.label, settings.target.at_least, settings.target.about) == ("b", 0.7, "split")
    assert settings.target.alpha == 0.1
    assert settings.rungs == ("majority", "lora"), "the ladder has one order, whatever the file says"
    assert settings.data.near_duplicates == 0.0
    assert (settings.split.train, settings.split.test) == (100, 0.5)
    assert settings.constraints.local_only


IN = 'input = "text"\nreference = "label"\n'
DEFECTS = [
    # (text, place, what, fix)
    (toml("at_least = 85"), "[target] at_least", "85 is not between 0 and 1", "0.85"),
    (toml('at_least = "0.85"'), "[target] at_least", "not a number", "at_least = 0.85"),
    (toml("at_least = true"), "[target] at_least", "not a number", "0.85"),
    (toml("at_least = 1"), "[target] at_least", "no sample can prove", "0.95"),
    (toml("at_least = 0"), "[target] at_least", "nothing to prove", "0.95"),
    (toml("at_least = -0.5"), "[target] at_least", "not between 0 and 1", "0.95"),
    (toml("at_least = nan"), "[target] at_least", "not a finite number", "0.85"),
    (toml("at_leest = 0.85"), "[target] at_leest", "not a known key", "'at_least'"),
    (toml('metric = "accuracy"'), "[target] at_least", "missing", "at_least = "),
    (toml("at_least = 0.8\nconfidence = 95"), "[target] confidence", "not between 0 and 1", "0.95"),
    (toml("at_least = 0.8\nconfidence = 0.05"), "[target] confidence", "a guess", "0.95"),
    (toml('at_least = 0.8\nmetric = "acuracy"'), "[target] metric", "not a choice", "did you mean 'accuracy'"),
    (toml('at_least = 0.8\nmetric = "f1"'), "[target]", "`class` is missing", "class ="),
    (toml('at_least = 0.8\nclass = "a"'), "[target]", "about all classes", "remove `class`"),
    (toml('at_least = 0.8\nabout = "tomorrow"'), "[target] about", "not a choice", '"split"'),
    (toml(data=IN + 'colour = "red"'), "[data] colour", "not a known key", "near_duplicates"),
    (toml(data=IN + "at_least = 0.8"), "[data] at_least", "not a known key", "move it to [target]"),
    (toml(data='reference = "label"'), "[data]", "neither", 'input = "a column"'),
    (toml(data=IN + 'template = "{a}"'), "[data]", "both", "exactly one"),
    (toml(data='reference = "l"\ntemplate = "a"'), "[data] template", "names no column", "{subject}"),
    (toml(data='reference = "l"\ntemplate = "{a} }"'), "[data] template", "no partner", "}}"),
    (toml(data='reference = "l"\ntemplate = "{a} {l}"'), "[data]", "the right answer", "out of the input"),
    (toml(data='input = "l"\nreference = "l"'), "[data]", "the right answer", "out of the input"),
    (toml(data='input = "text"'), "[data] reference", "missing", "reference = "),
    (toml(data='input = 3\nreference = "label"'), "[data] input", "3 is not text", 'input = "3"'),
    (toml(data=IN + 'encoding = "utf-9"'), "[data] encoding", "no character encoding", "latin-1"),
    (toml(data=IN + 'encoding = "base64"'), "[data] encoding", "no character encoding", "latin-1"),
    (toml(data=IN + 'delimiter = ";;"'), "[data] delimiter", "cannot part", "one character"),
    (toml(data=IN + 'format = "xlsx"'), "[data] format", "not a choice", '"csv"'),
    (toml(data=IN + 'on_empty = "ignore"'), "[data] on_empty", "not a choice", '"drop"'),
    (toml(data=IN + 'normalise_labels = "true"'), "[data] normalise_labels", "not true or false", "= true"),
    (toml(data=IN + "near_duplicates = true"), "[data] near_duplicates", "no similarity", "0.8"),
    (toml(data=IN + "near_duplicates = 0.1"), "[data] near_duplicates", "no similarity", "0.8"),
    (toml(data=IN + "near_duplicates = 80"), "[data] near_duplicates", "no similarity", "0.8"),
    (toml(split="test = 1.0"), "[split] test", "no share", "no decimal point"),
    (toml(split="test = 0"), "[split] test", "too few", "at least 1"),
    (toml(split='test = "all"'), "[split] test", "no number", "0.35"),
    (toml(split="train = 0.7"), "[split]", "train 0.7 + dev 0.15 + test 0.35 = 1.2", "all three shares"),
    (toml(split="dev = 0.5\ntest = 0.5"), "[split]", "nothing for train", "smaller"),
    (toml(split="seed = -1"), "[split] seed", "not 0 or more", "whole number"),
    (toml(split="seed = 0.5"), "[split] seed", "not a whole number", "whole number"),
    (toml(data=IN + 'test = "t.csv"', split="test = 100"), "", "names a file", "keep one"),
    (toml(ladder='rungs = ["lorra"]'), "[ladder] rungs", "'lorra' is no rung", "did you mean 'lora'"),
    (toml(ladder="rungs = []"), "[ladder] rungs", "no rung is named", "leave the key out"),
    (toml(ladder='rungs = "lora"'), "[ladder] rungs", "not a list", "list"),
    (toml(models='student = ""'), "[models] student", "empty", "between the quotes"),
    (toml(models='embeder = "x"'), "[models] embeder", "not a known key", "'embedder'"),
    (toml(task='name = "t"\nlabels = ["a"]'), "[task] labels", "1 label is no choice", "two labels"),
    (toml(task='name = "t"\nlabels = ["a", "A"]'), "[task] labels", "differ only in case", "one of the two"),
    (toml(task='name = "t"\nlabels = ["a", "a"]'), "[task] labels", "twice", "once"),
    (toml(task='name = "t"\nlabels = ["a ", "b"]'), "[task] labels", "spaces", "without"),
    (toml(task='name = "t"\nlabels = [1, 2]'), "[task] labels", "not text", "quotes"),
    (toml(task='name = "t"\nkind = "regression"'), "[task] kind", "not a choice", '"classification"'),
    (toml(task="name = 3"), "[task] name", "3 is not text", 'name = "3"'),
    (toml(targets="x = 1"), "", "[targets] is not a section", "did you mean 'target'"),
    ("seed = 1\n" + toml(), "", "outside every section", "[split] or [ladder]"),
    ("split = 1\n" + toml(), "", "is a section", "[split]"),
    ("[task", "", "not valid TOML", "toml.io"),
    ("", "", "says nothing", "luthier init DATA"),
    ("[data]", "[task]", "missing", "add the section [task]"),
    (toml("at_least = 85%"), "", "`at_least = 85%`", "0.85 for 85 %"),
]


@pytest.mark.parametrize(("text", "place", "what", "fix"), DEFECTS, ids=lambda value: str(value)[-30:])
def test_a_mistake_is_told_with_its_place_and_its_fix(text: str, place: str, what: str, fix: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert caught.value.where == ("luthier.toml" + (f", {place}" if place else ""))
    assert what in caught.value.what
    assert fix in caught.value.fix


def test_further_mistakes_are_named_too() -> None:
    with pytest.raises(SpecError, match=r"then look at \[split\] seed, \[target\] at_least too"):
        parse(toml("at_least = 85", data=IN + "colour = 1", split="seed = -1"))


def test_the_page_of_keys_is_up_to_date() -> None:
    assert DOCS.read_text(encoding="utf-8") == configuration_markdown(), (
        "run: python -m luthier.task.reference > docs/configuration.md"
    )


def test_each_key_is_documented_with_a_meaning() -> None:
    page = DOCS.read_text(encoding="utf-8")
    for name, model in sections().items():
        title = f"{name}.NAME" if name in named_sections() else name
        part = page.split(f"## [{title}]")[1].split("\n## ")[0]
        for key in keys(model):
            (row,) = [line for line in part.splitlines() if line.startswith(f"| `{key}` |")]
            assert len(row.split(" | ")[3].strip(" |")) > 10, f"[{name}] {key} has no meaning"
