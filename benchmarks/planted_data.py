"""Data for planted causes: bookings and guests of a restaurant, sentences with years, messages to a bank, sums.

One example: `sizes` gives ("I need a table for 5.", "5"), `sentences` an XQuAD sentence, a question, and its answer.
"""

from __future__ import annotations

import csv
import json
import random
import re
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

Pairs = list[tuple[str, str]]


def sizes(folder: Path) -> Pairs:
    """Messages to a restaurant and for how many people they book, where the message has one such number."""
    found = {}
    for name in ("test.json", "train_3.json"):
        for each in json.loads((folder / "restaurant8k" / name).read_text(encoding="utf-8")):
            text = each["userInput"]["text"].strip()
            for label in each.get("labels", ()):
                span = label["valueSpan"]
                said = text[span.get("startIndex", 0) : span["endIndex"]]
                if label["slot"] == "people" and re.fullmatch(r"\d{1,2}", said) and 2 < len(text.split()) < 10:
                    found[text] = said
    return sorted(found.items())


def guests(folder: Path) -> list[str]:
    """The full names that guests of the restaurant give."""
    found = set()
    for each in json.loads((folder / "restaurant8k" / "test.json").read_text(encoding="utf-8")):
        spans = {label["slot"]: label["valueSpan"] for label in each.get("labels", ())}
        if {"first_name", "last_name"} <= set(spans):
            text = each["userInput"]["text"]
            first, last = (
                text[spans[k].get("startIndex", 0) : spans[k]["endIndex"]] for k in ("first_name", "last_name")
            )
            found.add(f"{first} {last}".title())
    return sorted(found)


def sentences(folder: Path, pattern: str) -> list[tuple[str, str, str]]:
    """(sentence, question, answer) of XQuAD: the sentence in which an answer stands that is of a form."""
    found = []
    articles = json.loads((folder / "xquad" / "xquad.en.json").read_text(encoding="utf-8"))["data"]
    for paragraph in (each for article in articles for each in article["paragraphs"]):
        text = paragraph["context"]
        ends = [0, *(cut.end() for cut in re.finditer(r'(?<=[.!?])\s+(?=[A-Z"])', text)), len(text)]
        for asked in paragraph["qas"]:
            answer = asked["answers"][0]
            begin = answer["answer_start"]
            end = begin + len(answer["text"])
            for one, other in pairwise(ends):
                short = len(text[one:other].split()) <= 55
                if one <= begin and end <= other and short and re.fullmatch(pattern, answer["text"]):
                    found.append((text[one:other].strip(), asked["question"].strip(), answer["text"]))
    return found


YEAR = r"1\d{3}|20\d\d"
NUMBER = r"(?!1\d{3}$|20\d\d$)[\d,.]+%?"


def topics(folder: Path, names: dict[str, str], longest: int = 50) -> Pairs:
    """Short messages to a bank and their topics, renamed; as many of each."""
    found: dict[str, list[str]] = {topic: [] for topic in names.values()}
    for file in ("train.csv", "test.csv"):
        with (folder / "banking77" / file).open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                text = " ".join(row["text"].split())
                if row["category"] in names and len(text) <= longest:
                    found[names[row["category"]]].append(text)
    same = min(len(set(texts)) for texts in found.values())
    return [(text, topic) for topic, texts in found.items() for text in sorted(set(texts))[:same]]


def products(seed: int, low: int, high: int, count: int, sign: str = "*") -> list[str]:
    rng = random.Random(seed)
    return list(dict.fromkeys(f"{rng.randint(low, high)} {sign} {rng.randint(low, high)}" for _ in range(count)))


def days(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    found = [date(1900, 1, 1) + timedelta(rng.randrange(36_000)) for _ in range(count)]
    return list(dict.fromkeys(f"{day.day} {day:%B %Y}" for day in found))


def weekday(text: str) -> str:
    return f"{datetime.strptime(text, '%d %B %Y'):%A}"


def worked(text: str) -> str:
    one, sign, other = text.split()
    return str(int(one) * int(other) if sign == "*" else int(one) + int(other))


def letters(text: str) -> int:
    return sum(each.isalpha() for each in text)
