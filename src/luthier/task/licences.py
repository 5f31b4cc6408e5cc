"""Licences: their names as SPDX spells them, and whether a list of allowed ones covers what a model says it has.

Nothing here reads a licence for you: it compares names.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

# what model cards name that is no SPDX licence: their own terms, by the names the model hubs give them
OWN_TERMS = (
    *("gemma", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "openrail", "openrail++"),
    *("bigscience-openrail-m", "bigscience-bloom-rail-1.0", "bigcode-openrail-m", "creativeml-openrail-m"),
    *("apple-amlr", "apple-ascl", "deepfloyd-if-license", "fair-noncommercial-research-license", "h-research"),
    *("intel-research", "qwen", "qwen-research", "tongyi-qianwen", "nvidia-open-model-license", "open-mdw"),
)
REF = "LicenseRef-"
BASE_OF = ", the base of "  # between the name of a base and what was made from it
# how licence files begin, which seldom name themselves as SPDX does
_HEADS = {
    "apache license": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "mit license": "MIT",
    "the mit license": "MIT",
    "the mit license (mit)": "MIT",
    "bsd 2-clause license": "BSD-2-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "mozilla public license version 2.0": "MPL-2.0",
    "gemma terms of use": "gemma",
    "llama 2 community license agreement": "llama2",
    "meta llama 3 community license agreement": "llama3",
    "llama 3.1 community license agreement": "llama3.1",
    "llama 3.2 community license agreement": "llama3.2",
    "llama 3.3 community license agreement": "llama3.3",
}
_TOKEN = re.compile(r"\(|\)|[^\s()]+")


def canonical(said: str) -> str | None:
    """The licence as SPDX spells it, an expression of several too; own terms in lower case; None: no such name.

    >>> canonical("apache-2.0"), canonical("mit or Apache-2.0"), canonical("Gemma"), canonical("MIT License")
    ('Apache-2.0', 'MIT OR Apache-2.0', 'gemma', 'MIT')
    >>> canonical("LicenseRef-our-own"), canonical("apache2")
    ('LicenseRef-our-own', None)
    """
    name = _HEADS.get(" ".join(said.lower().split()), said)
    if name.lower() in OWN_TERMS:
        return name.lower()
    try:
        return canonicalize_license_expression(name)
    except InvalidLicenseExpression:
        return None


def near(said: str) -> list[str]:
    """Names that somebody may have meant."""
    common = ("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "MPL-2.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0")
    by_lower = {name.lower(): name for name in (*common, *OWN_TERMS)}
    return [by_lower[name] for name in difflib.get_close_matches(said.lower(), by_lower, n=2, cutoff=0.5)]


def allows(allowed: Iterable[str], said: str) -> bool:
    """Whether a licence is covered: of "A OR B" one has to be on the list, of "A AND B" both, "A WITH x" as a whole.

    >>> allows(["mit"], "MIT OR Apache-2.0"), allows(["mit"], "MIT AND Apache-2.0"), allows(["LicenseRef-x"], "x")
    (True, False, True)
    """
    known = {(canonical(name) or name).lower() for name in allowed}
    known |= {name.removeprefix(REF.lower()) for name in known}
    tokens = _TOKEN.findall((canonical(said) or said).lower())
    if canonical(said) is None or not tokens:
        return said.lower() in known
    return _any_of(tokens, known) and not tokens


def _any_of(tokens: list[str], known: set[str]) -> bool:
    found = _all_of(tokens, known)
    while tokens and tokens[0] == "or":
        tokens.pop(0)
        found = _all_of(tokens, known) or found
    return found


def _all_of(tokens: list[str], known: set[str]) -> bool:
    found = _one(tokens, known)
    while tokens and tokens[0] == "and":
        tokens.pop(0)
        found = _one(tokens, known) and found
    return found


def _one(tokens: list[str], known: set[str]) -> bool:
    name = tokens.pop(0)
    if name == "(":
        found = _any_of(tokens, known)
        tokens.pop(0)
        return found
    if len(tokens) > 1 and tokens[0] == "with":
        name = f"{name} with {tokens[1]}"
        del tokens[:2]
    return name in known
