"""Licence: what a model's folder says about its licence. Nobody has read it for you: this only finds its name."""

from __future__ import annotations

import json
import re
from pathlib import Path

CARD = "README.md"
FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "COPYING")
_NOTHING = {"", "unknown", "other", "none", "null"}
_LONGEST = 80
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


def _known(name: object) -> str | None:
    return name.strip()[:_LONGEST] if isinstance(name, str) and name.strip().lower() not in _NOTHING else None


def _of_card(path: Path) -> str | None:
    try:
        return card_licence(path.read_text("utf-8").lstrip("\ufeff"))
    except (OSError, UnicodeDecodeError):
        return None


def _of_config(path: Path) -> str | None:
    try:
        return _known(json.loads(path.read_text("utf-8")).get("license"))
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
