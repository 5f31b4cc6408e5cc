"""The audit, on defects that were planted in real data, and near-duplicates among a million rows.

    python benchmarks/audit.py DATA                     planted defects; DATA holds banking77/
    python benchmarks/audit.py --scale                  near-duplicates at 10^4, 10^5 and 10^6 rows of 100 characters

One example: row 812 of banking77, "How do I locate my card?", is written once more as "how do i locate  my card?" (an
exact copy), once as "How do I locate my card, thanks?" (a near-copy), or with the label of another class (a flip); the
audit has to name both lines, or the one.

Planted: copies 3 %, near-copies 3 % (edits that keep a Jaccard similarity of 0.8 or more, which is what a near-copy is
here; measured apart from the code under test), flipped labels 5 % (to any other class; in a second file to the class
with the most similar words, which is harder), 2 % of the test file's rows leaked into the other file, half of them
edited, and 40 pieces of personal data of five kinds. Recall of what was planted; the precision of label errors counts
each row that was not planted as a false alarm, although real data has errors of its own.

--output FILE keeps the results in one JSON object; the part that was not run stays as it was there.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import random
import resource
import string
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

from luthier import demo
from luthier.audit import Audit, Effort, Material, audit_of, material_at
from luthier.task.duplicates import measure, normal_form

Rows = list[tuple[str, str]]
EFFORT = Effort()
SHARES = {"copies": 0.03, "near": 0.03, "flips": 0.05, "leaked": 0.02}
PIECES = 8  # of personal data, of each of the five kinds


# ---------------------------------------------------------------- the data


def banking(folder: Path) -> tuple[Rows, Rows]:
    found = []
    for name in ("train.csv", "test.csv"):
        with (folder / "banking77" / name).open(encoding="utf-8", newline="") as lines:
            found.append([(row["text"], row["category"]) for row in csv.DictReader(lines)])
    return found[0], found[1]


def questions(home: Path) -> tuple[Rows, Rows]:
    """The distinct questions of the demo, a fifth of them as the test file."""
    material = material_at(demo.prepare("question-routing", home))
    rows = [(str(same[0].input), same[0].reference) for same in material.distinct]
    random.Random(0).shuffle(rows)
    return rows[len(rows) // 5 :], rows[: len(rows) // 5]


# ---------------------------------------------------------------- what is planted


def shingle_likeness(one: str, other: str) -> float:
    first, second = (
        {text[at : at + 5] for at in range(max(1, len(text) - 4))} for text in map(normal_form, (one, other))
    )
    return len(first & second) / len(first | second)


def copied(text: str, rng: random.Random) -> str:
    return rng.choice((text, text.upper(), text.replace(" ", "  ", 1), f" {text} "))


def edited(text: str, rng: random.Random) -> str | None:
    """The text with one small edit that keeps it a near-copy; None where ten tries gave none."""
    for _ in range(10):
        at = rng.randrange(1, len(text))
        new = rng.choice(
            (
                text[: at - 1] + text[at : at + 1] + text[at - 1] + text[at + 1 :],
                text[:at] + text[at + 1 :],
                text[:at] + rng.choice(string.ascii_lowercase) + text[at:],
                text.rstrip("?!. ") + rng.choice((", thanks?", " please", "!!", " asap")),
                rng.choice(("Hi, ", "Hello, ", "So ")) + text,
            )
        )
        if normal_form(new) != normal_form(text) and shingle_likeness(new, text) >= 0.8:
            return new
    return None


def personal(kind: str, rng: random.Random) -> str:
    def digits(count: int) -> str:
        return "".join(rng.choices(string.digits, k=count))

    if kind == "e-mail":
        name = "".join(rng.choices(string.ascii_lowercase, k=6))
        home = rng.choice(("example.org", "mail.example.co.uk", "exämple.de"))
        return f"{name}.{rng.choice(('ng', 'lee', 'okafor'))}@{home}"
    if kind == "phone":
        return rng.choice(
            (
                f"+44 20 7{digits(3)} {digits(4)}",
                f"+49 (0)30 {digits(7)}",
                f"0{rng.randint(1, 9)}{digits(2)} {digits(3)} {digits(4)}",
                f"({rng.randint(2, 9)}{digits(2)}) {rng.randint(2, 9)}{digits(2)}-{digits(4)}",
                f"{rng.randint(2, 9)}{digits(2)}-{rng.randint(2, 9)}{digits(2)}-{digits(4)}",
            )
        )
    if kind == "iban":
        country, body = rng.choice((("DE", digits(18)), ("GB", f"NWBK{digits(14)}"), ("FR", digits(23))))
        number = int("".join(str(int(sign, 36)) for sign in f"{body}{country}00"))
        code = f"{country}{98 - number % 97:02d}{body}"
        return rng.choice((code, " ".join(code[at : at + 4] for at in range(0, len(code), 4))))
    if kind == "card":
        body = rng.choice(("4", "51", "37"))
        body += digits((14 if body == "37" else 15) - len(body))
        doubled = [int(sign) * (2 if at % 2 == 0 else 1) for at, sign in enumerate(body[::-1])]
        code = body + str(-sum(value - 9 if value > 9 else value for value in doubled) % 10)
        return rng.choice((code, "-".join(code[at : at + 4] for at in range(0, len(code), 4))))
    return rng.choice(
        (
            ".".join(str(rng.randint(1, 254)) for _ in range(4)),
            f"2001:db8:{rng.randint(16, 9999):x}::{rng.randint(16, 9999):x}",
        )
    )


def neighbours(rows: Rows) -> dict[str, str]:
    """For each class the other one that shares most of its words, weighted by rarity."""
    words: dict[str, Counter[str]] = defaultdict(Counter)
    for text, label in rows:
        words[label].update(normal_form(text).split())
    spread = Counter(word for counts in words.values() for word in counts)
    names = sorted(words)
    vocabulary = {word: at for at, word in enumerate(spread)}
    table = np.zeros((len(names), len(vocabulary)))
    for at, name in enumerate(names):
        for word, count in words[name].items():
            table[at, vocabulary[word]] = np.log1p(count) * np.log(len(names) / spread[word] + 1e-9)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    alike = table @ table.T
    np.fill_diagonal(alike, -1)
    return {name: names[int(alike[at].argmax())] for at, name in enumerate(names)}


class Planted:
    """A train and a test file with known defects. What was planted is kept by the text, lines are known at the end."""

    def __init__(self, train: Rows, test: Rows, *, seed: int, hard: bool) -> None:
        rng = random.Random(seed)
        self.lines: list[tuple[str, str, str, int]] = [(text, label, "", at) for at, (text, label) in enumerate(train)]
        self.test, n = test, len(train)
        long = [at for at in range(n) if len(train[at][0]) >= 30]
        chosen = rng.sample(long, sum(round(SHARES[kind] * n) for kind in ("copies", "near", "flips")) + 5 * PIECES)
        to = neighbours(train) if hard else {}
        labels = sorted({label for _, label in train})
        extra = []
        for kind in ("copies", "near", "flips"):
            for _ in range(round(SHARES[kind] * n)):
                at = chosen.pop()
                text, label = train[at]
                if kind == "flips":
                    other = to[label] if hard else rng.choice([name for name in labels if name != label])
                    self.lines[at] = (text, other, "flip", at)
                else:
                    new = copied(text, rng) if kind == "copies" else edited(text, rng)
                    extra += [(new, label, kind, at)] if new is not None else []
        for kind in ("e-mail", "phone", "iban", "card", "ip address"):
            for _ in range(PIECES):
                at = chosen.pop()
                text, label = train[at]
                words = text.split(" ")
                words.insert(rng.randrange(len(words) + 1), personal(kind, rng))
                self.lines[at] = (" ".join(words), label, kind, at)
        candidates = [at for at in range(len(test)) if len(test[at][0]) >= 30]
        for turn, at in enumerate(rng.sample(candidates, round(SHARES["leaked"] * len(test)))):
            new = copied(test[at][0], rng) if turn % 2 else edited(test[at][0], rng)
            extra += [(new, test[at][1], "leaked", at)] if new is not None else []
        self.lines += extra
        rng.shuffle(self.lines)

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        for name, rows in (("train.csv", [(text, label) for text, label, _, _ in self.lines]), ("test.csv", self.test)):
            with (folder / name).open("w", encoding="utf-8", newline="") as file:
                out = csv.writer(file)
                out.writerows([("text", "label"), *((" ".join(text.split("\n")), label) for text, label in rows)])
        path = folder / "luthier.toml"
        path.write_text(
            '[task]\nname = "planted"\n[data]\npath = "train.csv"\ntest = "test.csv"\ninput = "text"\n'
            'reference = "label"\n[target]\nat_least = 0.8\n[ladder]\nrungs = ["majority", "tfidf"]\n',
            encoding="utf-8",
        )
        return path

    def of(self, kind: str) -> dict[int, int]:
        """Line in train.csv -> the row of the original."""
        return {at + 2: origin for at, (_, _, what, origin) in enumerate(self.lines) if what == kind}

    def line_of(self) -> dict[int, int]:
        """The row of the original -> its line, for those that are still there as they were."""
        return {origin: at + 2 for at, (_, _, what, origin) in enumerate(self.lines) if what in ("", "flip")}


# ---------------------------------------------------------------- what is found


def together(found: Audit, kind: str, material: Material, wanted: dict[int, int], lines: dict[int, int]) -> float:
    """The share of planted lines that stand in one piece of evidence with their original, or a copy of it."""
    form = {row.place: row.form for row in material.rows}
    groups = [{form[place] for place in each.places} for finding in found.of_kind(kind) for each in finding.evidence]
    of: dict[str, list[set[str]]] = defaultdict(list)
    for group in groups:
        for one in group:
            of[one].append(group)
    hits = [
        any(form[lines[origin]] in group for group in of[form[line]])
        for line, origin in wanted.items()
        if origin in lines
    ]
    return float(np.mean(hits))


def planted(name: str, train: Rows, test: Rows, folder: Path, *, seed: int, hard: bool) -> dict[str, Any]:
    data = Planted(train, test, seed=seed, hard=hard)
    started = time.process_time()
    material = material_at(data.write(folder))
    read = time.process_time() - started
    found, suspects = audit_of(material, EFFORT)
    lines = data.line_of()
    flips = set(data.of("flip"))
    looked = {row.place for row in material.rows if row.split in ("train", "dev")}
    named = {each.place for each in suspects.suspects}
    leaks = {f"test line {origin + 2}" for origin in data.of("leaked").values()}
    leaked = {place for finding in found.of_kind("leakage") for place in finding.places}
    private = {each.places[0]: each.note for finding in found.of_kind("personal_data") for each in finding.evidence}
    pieces = [(line, kind) for kind in ("e-mail", "phone", "iban", "card", "ip address") for line in data.of(kind)]
    hits = len(named & flips)
    result = {
        "data": name,
        "flipped_to": "the most similar class" if hard else "any class",
        "rows": len(material.rows),
        "recall": {
            "copies": together(found, "exact_duplicates", material, data.of("copies"), lines),
            "near_copies": together(found, "near_duplicates", material, data.of("near"), lines),
            "leaked": len(leaks & leaked) / len(leaks),
            "personal_data": float(np.mean([kind in private.get(line, "") for line, kind in pieces])),
            "flipped_labels": hits / len(flips & looked),
        },
        "precision_of_label_errors": hits / max(1, len(named)),
        "label_errors_named": len(named),
        "labels_flipped": len(flips & looked),
        "rows_with_personal_data_that_was_not_planted": len(set(private) - {line for line, _ in pieces}),
        "cpu_seconds": {"read": round(read, 2), "audit": round(time.process_time() - started - read, 2)},
    }
    told = "  ".join(f"{key} {value:.3f}" for key, value in result["recall"].items())
    print(
        f"{name:17} {'similar' if hard else 'any':8} recall: {told}   precision of label errors "
        f"{result['precision_of_label_errors']:.3f} ({len(named)})   {sum(result['cpu_seconds'].values()):.1f} s CPU",
        flush=True,
    )
    return result


def own_repetitions(home: Path) -> dict[str, Any]:
    """What the demo's own files repeat, counted here and found by the audit."""
    rows = {}
    for name in demo.demos():
        material = material_at(demo.prepare(name, home / name))
        forms = Counter(normal_form(str(row.input)) for row in material.rows)
        found, _ = audit_of(material, Effort(label_work=0))
        rows[name] = {
            "rows": len(material.rows),
            "distinct": len(forms),
            "repeats": len(material.rows) - len(forms),
            "repeats_found": sum(finding.count for finding in found.of_kind("exact_duplicates")),
            "near_copies_found": sum(finding.count for finding in found.of_kind("near_duplicates")),
        }
        print(f"{name:17} {rows[name]}", flush=True)
    return rows


# ---------------------------------------------------------------- scale


def sentences(n: int, seed: int, data: Path | None) -> list[str]:
    """`n` texts of 100 characters: chains of words in which each word follows another as it does in real messages.

    They share phrases as real texts do, which is what makes candidates; 5 % are near-copies of the one before.
    """
    rng = random.Random(seed)
    follows: dict[str, list[str]] = defaultdict(list)
    texts = [text for text, _ in banking(data)[0]] if data else []
    for text in texts:
        words = normal_form(text).split()
        for one, other in zip(words, [*words[1:], "and"], strict=True):
            follows[one].append(other)
    starts, found = list(follows), []
    for at in range(n):
        if at % 20 == 19:
            found.append(edited(found[-1], rng) or found[-1] + ".")
            continue
        word, parts, size = rng.choice(starts), [], 0
        while size < 101:
            parts.append(word)
            size += len(word) + 1
            # a word anew now and then: the chain alone would repeat whole messages
            word = rng.choice(follows[word]) if rng.random() < 0.85 else rng.choice(starts)
        found.append(" ".join(parts)[:100])
    return found


def one_size(n: int, data: Path, queue: Any) -> None:
    texts = sentences(n, 0, data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    pairs = measure(texts, 0.8)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    found = set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    wanted = [(at - 1, at) for at in range(19, n, 20) if shingle_likeness(texts[at - 1], texts[at]) >= 0.8]
    result = {
        "rows": n,
        "seconds": round(wall, 2),
        "cpu_seconds": round(cpu, 2),
        "cpu_microseconds_per_row_and_log2": round(float(1e6 * cpu / (n * np.log2(n))), 3),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 3),
        "gb_before": round(before / 1e6, 3),
        "pairs": len(pairs),
        "planted": len(wanted),
        "recall": sum(pair in found for pair in wanted) / len(wanted),
    }
    if n <= 10_000:
        result["oracle"] = oracle(texts, found)
    queue.put(result)


def oracle(texts: list[str], found: set[tuple[int, int]]) -> dict[str, Any]:
    """datasketch's own index, each of its candidates measured exactly: what it finds, and how much of it we do."""
    from datasketch import MinHash, MinHashLSH

    started = time.process_time()
    index, sketches = MinHashLSH(threshold=0.8, num_perm=128), []
    for at, text in enumerate(texts):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([text[place : place + 5].encode() for place in range(max(1, len(text) - 4))])
        sketches.append(sketch)
        index.insert(at, sketch)
    pairs = {
        (min(at, other), max(at, other))
        for at, sketch in enumerate(sketches)
        for other in index.query(sketch)
        if other != at
    }
    true = {pair for pair in pairs if shingle_likeness(texts[pair[0]], texts[pair[1]]) >= 0.8}
    return {
        "pairs": len(true),
        "of_them_found_here": len(true & found) / max(1, len(true)),
        "found_here_and_not_by_it": len(found - true),
        "cpu_seconds": round(time.process_time() - started, 2),
    }


def scale(sizes: list[int], data: Path) -> list[dict[str, Any]]:
    """Each size in a process of its own, so that its peak of memory is its own."""
    rows = []
    for n in sizes:
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        child = context.Process(target=one_size, args=(n, data, queue))
        child.start()
        rows.append(queue.get())
        child.join()
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder that holds banking77/")
    parser.add_argument("--scale", action="store_true", help="near-duplicates among many rows, instead of the defects")
    parser.add_argument("--sizes", default="10000,100000,1000000", help="with --scale: how many rows")
    parser.add_argument("--seeds", type=int, default=2, help="how often the defects are planted anew")
    parser.add_argument("--output", type=Path, help="where to keep the JSON object")
    options = parser.parse_args()
    about = describe("numpy", "scipy", "scikit-learn", "datasketch", "cleanlab")
    kept = json.loads(options.output.read_text(encoding="utf-8")) if options.output and options.output.exists() else {}
    if options.scale:
        kept["scale"] = {**about, "sizes": scale([int(size) for size in options.sizes.split(",")], options.data)}
    else:
        with tempfile.TemporaryDirectory() as name:
            home = Path(name)
            sources = {"banking77": banking(options.data), "question-routing": questions(home / "questions")}
            cases = [
                planted(which, train, test, home / f"{which}-{seed}-{hard}", seed=seed, hard=hard)
                for which, (train, test) in sources.items()
                for seed, hard in [*((seed, False) for seed in range(options.seeds)), (0, True)]
            ]
            kept["planted"] = {**about, "cases": cases, "own_repetitions": own_repetitions(home / "demos")}
    if options.output:
        options.output.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(kept))


if __name__ == "__main__":
    main()
