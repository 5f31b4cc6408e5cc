"""Looking answers up: how well passages are found, and what a small model makes of them.

    python benchmarks/rag.py FOLDER [--questions 120] [--results benchmarks/results/rag.json]

FOLDER holds `xquad/xquad.en.json`: 240 passages and 1,190 questions about them. One example: "How many points did the
Panthers defense surrender?" is about the passage that begins "The Panthers defense gave up just 308 points", and the
answer is "308".

Finding is measured on all questions, among all passages: plain BM25 (bm25s), and luthier's index by words, by meaning
and fused, each against plain BM25. Reading is measured on one question of each of some passages, drawn by a seed, with
the embedded model: without any passage, with the best one by each way, and with the right one; and the same after three
solved examples from passages that nobody is asked about. (The best passages are often the same, and so are their
prompts: a prompt is asked once.)
Questions about one passage are no independent observations, so that all intervals are over passages (t, 95 %).
Grounded is how much of an answer is: the share of its words that stand in the passage it cites, 0 where it cites none;
an answer without passages cites none, and its words are looked for in the best one. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import re
import string
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
from machine import describe
from scipy.stats import t as student

from luthier.documents import Chunk, Hit, Library, open_library
from luthier.documents.library import BYS
from luthier.models.cache import CachedModel, ResponseCache
from luthier.models.catalog import open_embedder, open_model
from luthier.rungs.base import Writing
from luthier.rungs.prompted import PromptPredictor
from luthier.rungs.reading import Look, ReadingPredictor
from luthier.rungs.shots import FixedShots
from luthier.types import Documents

DEPTH = 20
SOLVED = 3  # examples
WHOLE = 4000  # characters: no passage of the file is longer, so that each is one passage of the index too
INSTRUCTION = "Answer the question with as few words as possible."
READ = "Answer the question with as few words as possible, in the words of the passage."


def read(path: Path) -> tuple[list[str], list[tuple[int, str, list[str]]]]:
    """The passages, and each question with the number of its passage and its right answers."""
    passages, questions = [], []
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                questions.append((len(passages), asked["question"], [each["text"] for each in asked["answers"]]))
            passages.append(paragraph["context"])
    return passages, questions


# ---------------------------------------------------------------- figures


def estimate(scores: Sequence[float], groups: Sequence[int]) -> dict[str, float]:
    """The mean over groups of their means, with a t interval."""
    by_group = defaultdict(list)
    for score, group in zip(scores, groups, strict=True):
        by_group[group].append(score)
    means = np.array([np.mean(some) for some in by_group.values()])
    half = float(student.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means)))
    mean = float(means.mean())
    return {"mean": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4), "groups": len(means)}


def shown(figure: dict[str, float]) -> str:
    return f"{figure['mean']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def words(text: str) -> list[str]:
    """Lower case, without punctuation and articles, as SQuAD's own script counts words."""
    plain = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def token_f1(answer: str, references: Sequence[str]) -> float:
    """The best F1 over words against one of the references (Rajpurkar et al. 2016)."""
    best = 0.0
    for reference in references:
        said, right = words(answer), words(reference)
        same = sum((Counter(said) & Counter(right)).values())
        best = max(best, 2 * same / (len(said) + len(right)) if same else 0.0)
    return best


# ---------------------------------------------------------------- finding


def plain_bm25(passages: Sequence[str], queries: Sequence[str]) -> list[list[int]]:
    def tokens(texts: Sequence[str]) -> Any:
        pattern = r"(?u)\b\w+\b"
        return bm25s.tokenize(list(texts), stopwords=None, return_ids=False, show_progress=False, token_pattern=pattern)

    index = bm25s.BM25(method="lucene")
    index.index(tokens(passages), show_progress=False)
    found = []
    for row in tokens(queries):
        known = list(dict.fromkeys(word for word in row if word in index.vocab_dict))
        scores = index.get_scores(known) if known else np.zeros(len(passages))
        found.append([int(at) for at in np.argsort(-scores, kind="stable")[:DEPTH]])
    return found


def numbers(hits: Sequence[Hit]) -> list[int]:
    return [int(hit.chunk.document.rpartition("#")[2]) for hit in hits]


def finding(library: Library, passages: Sequence[str], questions: Sequence[Any]) -> dict[str, Any]:
    queries, groups = [asked for _, asked, _ in questions], [group for group, _, _ in questions]
    lists = {"plain BM25 (bm25s)": plain_bm25(passages, queries)}
    for by in BYS[::-1]:
        lists[f"luthier, {by}"] = [numbers(hits) for hits in library.search(queries, DEPTH, by=by)]
    scores: dict[str, dict[str, list[float]]] = {}
    for name, found in lists.items():
        ranks = [each.index(group) + 1 if group in each else None for each, group in zip(found, groups, strict=True)]
        scores[name] = {
            "recall@1": [float(rank == 1) for rank in ranks],
            "recall@5": [float(rank is not None and rank <= 5) for rank in ranks],
            "mrr": [1 / rank if rank else 0.0 for rank in ranks],
        }
    plain = scores["plain BM25 (bm25s)"]
    told = {}
    for name, each in scores.items():
        told[name] = {
            key: {
                **estimate(values, groups),
                "minus plain BM25": estimate(
                    [mine - other for mine, other in zip(values, plain[key], strict=True)], groups
                ),
            }
            for key, values in each.items()
        }
        print(f"  {name:20} " + "  ".join(f"{key} {shown(told[name][key])}" for key in told[name]))
        less = "  ".join(f"{key} {shown(told[name][key]['minus plain BM25'])}" for key in told[name])
        print(f"  {'minus plain BM25':20} {less}")
    return told


# ---------------------------------------------------------------- reading


def reading(
    library: Library, questions: Sequence[Any], solved: Sequence[Any], passages: Sequence[str], model: Any
) -> dict[str, Any]:
    asked, groups = [text for _, text, _ in questions], [group for group, _, _ in questions]
    told: dict[str, Any] = {}
    scored: dict[str, list[float]] = {}
    for shots in ((), tuple(solved)):
        after = f" after {len(shots)} solved examples" if shots else ""
        plain = tuple((text, answers[0]) for _, text, answers in shots)
        full = tuple((shown_with(text, passages[group]), answers[0]) for group, text, answers in shots)
        alone, reader = (
            PromptPredictor(model, system, FixedShots(each), (), writing=Writing(16))
            for system, each in ((INSTRUCTION, plain), (READ, full))
        )
        best = [hits[0].chunk.text for hits in library.search(asked, 1)]
        answers = {
            "closed-book": [(each.output or "", text) for each, text in zip(alone.predict(asked), best, strict=True)]
        }
        for by in BYS[::-1]:
            look = Look(library, by, WHOLE, 1)
            texts = [hits[0].chunk.text if hits else "" for hits in look.up(asked)]
            found = ReadingPredictor(reader, look).predict(asked)
            answers[f"best passage, {by}"] = [
                (each.output or "", text if each.citations else "") for each, text in zip(found, texts, strict=True)
            ]
        right = [passages[group] for group in groups]
        found = reader.predict([shown_with(text, passage) for text, passage in zip(asked, right, strict=True)])
        answers["the right passage"] = [(each.output or "", text) for each, text in zip(found, right, strict=True)]
        for name, given in answers.items():
            scored[name + after] = [
                token_f1(answer, references) for (answer, _), (_, _, references) in zip(given, questions, strict=True)
            ]
            less = [one - other for one, other in zip(scored[name + after], scored["closed-book" + after], strict=True)]
            figures = told[name + after] = {
                "token_f1": estimate(scored[name + after], groups),
                "token_f1 minus closed-book": estimate(less, groups),
                "grounded": estimate([grounded(answer, text) for answer, text in given], groups),
                "said": [answer for answer, _ in given[:3]],
            }
            print(
                f"  {name + after:44} token F1 {shown(figures['token_f1'])}  minus closed-book "
                f"{shown(figures['token_f1 minus closed-book'])}  grounded {shown(figures['grounded'])}",
                flush=True,
            )
    return told


def shown_with(question: str, passage: str) -> str:
    """A question as `rag` shows it, with this passage."""
    return str(ReadingPredictor.shown(question, [Hit(Chunk("", 0, len(passage), (), passage), 1.0)]))


def grounded(answer: str, passage: str) -> float:
    """The share of an answer's words that stand in a passage; an empty answer has none."""
    said, there = words(answer), set(words(passage))
    return sum(word in there for word in said) / len(said) if said else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--questions", type=int, default=120, help="how many are read, one of each passage")
    parser.add_argument("--results", type=Path, help="where to write the figures")
    parser.add_argument("--parts", nargs="+", default=["finding", "reading"], choices=["finding", "reading"])
    options = parser.parse_args()
    about = describe("lancedb", "bm25s", "torch", "transformers", "sentence-transformers")
    passages, questions = read(options.data / "xquad" / "xquad.en.json")
    rng = np.random.default_rng(0)
    by_passage = [[each for each in questions if each[0] == at] for at in range(len(passages))]
    order = rng.permutation(len(passages))
    drawn = [int(at) for at in order[: min(options.questions, len(passages) - SOLVED)]]
    few = [by_passage[at][int(rng.integers(len(by_passage[at])))] for at in drawn]
    solved = [by_passage[int(at)][0] for at in order[-SOLVED:]]
    with tempfile.TemporaryDirectory() as home:
        rows = [json.dumps({"text": text, "id": str(at)}, ensure_ascii=False) for at, text in enumerate(passages)]
        (Path(home) / "passages.jsonl").write_text("\n".join(rows), encoding="utf-8")
        started = time.perf_counter()
        documents = Documents((f"{home}/passages.jsonl",), home, chunk_chars=(WHOLE,), id="id")
        library = open_library(documents, Path(home) / "index", open_embedder("all-minilm-l6-v2"))
        indexed_s = time.perf_counter() - started
        print(f"{len(passages)} passages indexed in {indexed_s:.1f} s")
        figures = known(options.results) | about | {"passages": len(passages), "indexed_s": round(indexed_s, 1)}
        if "finding" in options.parts:
            print(f"\nfinding, {len(questions)} questions:")
            figures["finding"] = {"questions": len(questions), **finding(library, passages, questions)}
            save(figures, options.results)  # finding does not wait for reading, which takes several times as long
        if "reading" in options.parts:
            print(f"\nreading, {len(few)} questions:", flush=True)
            replies = ResponseCache(Path(home) / "replies.db")
            model = CachedModel(open_model("smollm2-135m"), replies)
            figures["reading"] = {"questions": len(few), **reading(library, few, solved, passages, model)}
            replies.close()
            save(figures, options.results)
    print(json.dumps(figures))


def known(path: Path | None) -> dict[str, Any]:
    """The figures of a run before, of which a part is measured again."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path is not None and path.exists() else {}
    return found


def save(figures: dict[str, Any], path: Path | None) -> None:
    if path is not None:
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
