"""Licence: what a model's folder says about its licence. Nobody has read it for you: this only finds its name."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

CARD = "README.md"
FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "COPYING")
_NOTHING = {"", "unknown", "other", "none", "null"}
_LONGEST = 80
_LONGEST_CHAIN = 8
_BASE = re.compile(r"^base_model:[ \t]*((?:\n[ \t]*-[^\n]*)+|[^\n]*)", re.MULTILINE)
_KEY = re.compile(r"^(license|license_name):[ \t]*(?:\n[ \t]*-)?([^\n]*)", re.MULTILINE)


def licence_of(folder: Path) -> str | None:
    """The licence that the model card's head, config.json or a licence file names; None where none does.

    Of a licence file it is the first line that says something. Does not cover: whether that licence allows what you do.
    """
    return _of_card(folder / CARD) or _of_config(folder / "config.json") or _of_file(folder)


def card_licence(card: str) -> str | None:
    """The licence in a model card's head (YAML between two lines of dashes).

    >>> card_licence("---\\nlanguage: en\\nlicense: apache-2.0\\n---\\n# A model")
    'apache-2.0'
    >>> card_licence("---\\nlicense: other\\nlicense_name: gemma\\n---")
    'gemma'
    >>> [card_licence(f"---\\nlicense:{said}\\n---") for said in ("\\n- mit", " unknown", "")]
    ['mit', None, None]
    """
    head = re.match(r"---\s*\n(.*?)\n---", card, re.DOTALL)
    if head is None:
        return None
    found = {key: value.strip().strip("'\"") for key, value in _KEY.findall(head.group(1))}
    return _known(found.get("license", "")) or _known(found.get("license_name", ""))


@dataclass(frozen=True, slots=True)
class Link:
    """One model of a chain of bases: its name, its licence (None: nobody knows), and what is built on it."""

    name: str
    licence: str | None
    under: str = ""


def chain_of(folder: Path, name: str) -> tuple[Link, ...]:
    """The model in a folder, what it was made from, what that was made from, and so on, with their licences.

    A base is what the model card's head calls `base_model`, or an adapter's config `base_model_name_or_path`. It is
    looked for beside the folder; of one that is not there nobody knows the licence. An adapter that may be used is no
    use on a base that may not.
    """
    found: list[Link] = []
    waiting = [(folder, name, "")]
    seen: set[str] = set()
    while waiting and len(found) < _LONGEST_CHAIN:
        place, called, under = waiting.pop(0)
        if called in seen:
            continue
        seen.add(called)
        found.append(Link(called, licence_of(place) if place.is_dir() else None, under))
        if place.is_dir():
            waiting += [(_beside(place, base), base, called) for base in bases_of(place)]
    return tuple(found)


def bases_of(folder: Path) -> tuple[str, ...]:
    """What the model in a folder was made from, by the names its files give: nothing where they do not say."""
    named = [*_bases_of_card(folder / CARD), _of_json(folder / "adapter_config.json", "base_model_name_or_path")]
    return tuple(dict.fromkeys(name for name in named if name))


def _bases_of_card(path: Path) -> list[str]:
    try:
        head = re.match(r"---\s*\n(.*?)\n---", path.read_text("utf-8").lstrip("\ufeff"), re.DOTALL)
    except (OSError, UnicodeDecodeError):
        return []
    said = _BASE.search(head.group(1)) if head else None
    lines = said.group(1).splitlines() if said else []
    return [name for line in lines if (name := line.strip().removeprefix("- ").strip().strip("'\""))]


def _beside(folder: Path, base: str) -> Path:
    """Where a base could be: a path, a folder beside this one, or one named as the part after the slash."""
    tail = base.rstrip("/").rsplit("/", 1)[-1]
    places = (folder.parent / base, folder.parent / tail, folder / base)
    return next((place for place in places if place.is_dir() and place.resolve() != folder.resolve()), places[0])


def _known(name: object) -> str | None:
    return name.strip()[:_LONGEST] if isinstance(name, str) and name.strip().lower() not in _NOTHING else None


def _of_card(path: Path) -> str | None:
    try:
        return card_licence(path.read_text("utf-8").lstrip("\ufeff"))
    except (OSError, UnicodeDecodeError):
        return None


def _of_config(path: Path) -> str | None:
    return _of_json(path, "license")


def _of_json(path: Path, key: str) -> str | None:
    try:
        return _known(json.loads(path.read_text("utf-8")).get(key))
    except (OSError, ValueError, AttributeError):
        return None


def _of_file(folder: Path) -> str | None:
    for name in FILES:
        try:
            lines = (folder / name).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        said = next((line.strip() for line in lines if line.strip()), "")
        if _known(said):
            return _known(said)
    return None
