"""Template: an input made of several columns, `"{subject}\\n\\n{body}"`."""

from __future__ import annotations

import re

_SLOT = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


def template_columns(template: str) -> tuple[str, ...]:
    """The columns a template names, each once, in order. Raises ValueError on a brace without partner.

    >>> template_columns("{subject}: {body} {{not this}} {subject}")
    ('subject', 'body')
    """
    if set(_SLOT.sub("", template)) & {"{", "}"}:
        raise ValueError(f"a brace in {template!r} has no partner")
    return tuple(dict.fromkeys(slot.group(1) for slot in _SLOT.finditer(template) if slot.group(1) is not None))


def fill(template: str, values: dict[str, str]) -> str:
    """The template with each slot replaced by its column's value.

    >>> fill("{subject} {{x}}", {"subject": "a {body}"})
    'a {body} {x}'
    """
    return _SLOT.sub(lambda slot: slot.group()[0] if slot.group(1) is None else values[slot.group(1)], template)
