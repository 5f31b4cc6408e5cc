"""Parse: luthier.toml from its text to `Settings`; each mistake becomes one SpecError with its place and its fix."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from luthier.errors import SpecError
from luthier.task.section import Written
from luthier.task.settings import Settings, constraints_noun, settings
from luthier.task.spec import File, Numbers
from luthier.task.spelling import number_fix, suggest
from luthier.task.worth import economics_noun
from luthier.types import Constraints, Economics, Endpoint, Target

FILE_NAME = "luthier.toml"
DATA_ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".ndjson", ".parquet", ".xlsx")


def sections() -> dict[str, type[BaseModel]]:
    """Each section of luthier.toml with its model, in the order of the documentation; of `[remote.NAME]`: "remote"."""
    found: dict[str, type[BaseModel]] = {}
    for name, field in File.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        found[name] = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))
    return found


def named_sections() -> tuple[str, ...]:
    """The sections that stand once for each name: `[remote.NAME]`."""
    return tuple(name for name, field in File.model_fields.items() if get_origin(field.annotation) is dict)


def tables_of(section: str) -> dict[str, type[BaseModel]]:
    """The tables that stand several times in a section, by their titles: `[[slices.target]]`."""
    found = {}
    for name, field in sections()[section].model_fields.items():
        (inner,) = get_args(field.annotation) if get_origin(field.annotation) is list else (None,)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found[f"{section}.{name}"] = inner
    return found


def keys(section: type[BaseModel]) -> list[str]:
    """The keys of one section, as they are typed."""
    return [field.alias or name for name, field in section.model_fields.items()]


def read_settings(path: Path) -> Settings:
    """luthier.toml, checked. Raises SpecError."""
    return parse(_text(path), path.name)


@dataclass(frozen=True)
class Worth:
    """What luthier.toml says about money; `name` and `target` are None where it says nothing about a task."""

    economics: Economics | None
    constraints: Constraints
    remote: Mapping[str, Endpoint]
    name: str | None = None
    target: Target | None = None
    seed: int = 0


def read_worth(path: Path, changes: Sequence[str] = ()) -> Worth:
    """The sections about money, each of `changes` ("economics.monthly_requests=3e6") put in place first.

    A file without [task], [data] and [target] is for people who only have numbers: their sections may then be missing.
    Raises SpecError.
    """
    tables = {} if changes and not path.exists() and path.parent.is_dir() else _tables(_worth_text(path), path.name)
    for change in changes:
        _merge(tables, _change(change))
    _known_sections(tables, path.name)
    try:
        if not {"task", "data", "target"} & set(tables):
            alone = Numbers.model_validate(tables)
            noun = economics_noun(alone.economics, alone.option, alone.price)
            return Worth(noun, constraints_noun(alone.constraints), {})
        found = settings(File.model_validate(tables), path.name)
    except ValidationError as mistakes:
        raise _spec_error(mistakes, tables, path.name) from None
    return Worth(found.economics, found.constraints, found.remote, found.name, found.target, found.seed)


def _worth_text(path: Path) -> str:
    """The text; where there is no file, the error shows the shortest one that can be priced."""
    if not path.exists() and path.name == FILE_NAME and path.parent.is_dir():
        raise SpecError(
            "there is no such file",
            where=str(path),
            fix="`luthier init DATA` writes one for your data. With numbers alone, write into it: [economics] "
            'monthly_requests = 300000, and for each way [option.NAME] model = "gpt-4.1-mini", prompt_tokens = 1500, '
            "output_tokens = 50 (or usd_per_request = 0.08); --set says the same: economics.monthly_requests=300000",
        )
    return _text(path)


def _change(text: str) -> dict[str, Any]:
    """One change as tables: a value that is not TOML is taken as text."""
    key, equals, value = text.partition("=")
    for line in (text, f"{key} = {json.dumps(value.strip())}"):
        try:
            found = tomllib.loads(line, parse_float=Written)
        except tomllib.TOMLDecodeError:
            continue
        if equals and all(isinstance(each, dict) for each in found.values()):
            return found
    raise SpecError(
        f"{text!r} changes nothing", where="--set", fix="write --set section.key=value: economics.monthly_requests=3e6"
    )


def _merge(tables: dict[str, Any], change: Mapping[str, Any]) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(tables.get(key), dict):
            _merge(tables[key], value)
        else:
            tables[key] = value


def parse(text: str, where: str = FILE_NAME) -> Settings:
    """The text of a luthier.toml, checked; `where` names the file in errors. Raises SpecError."""
    tables = _tables(text, where)
    _known_sections(tables, where)
    try:
        return settings(File.model_validate(tables), where)
    except ValidationError as mistakes:
        raise _spec_error(mistakes, tables, where) from None


def _tables(text: str, where: str) -> dict[str, Any]:
    try:
        tables = tomllib.loads(text, parse_float=Written)
    except tomllib.TOMLDecodeError as mistake:
        raise _toml_error(mistake, text, where) from None
    if not tables:
        raise SpecError("it says nothing", where=where, fix="`luthier init DATA` writes a luthier.toml for your data")
    return tables


def _toml_error(mistake: tomllib.TOMLDecodeError, text: str, where: str) -> SpecError:
    """What is wrong with the TOML, with the line as it stands: the parser's words alone seldom help."""
    at = re.search(r"at line (\d+)", str(mistake))
    lines = text.splitlines()
    line = lines[int(at.group(1)) - 1].strip() if at and int(at.group(1)) <= len(lines) else ""
    fix = "text needs quotes, numbers have none, and each key stands once; see toml.io"
    if re.search(r"=\s*[\d.]+\s*%", line):
        fix = "write a share as a number: 0.85 for 85 %"
    shown = f"not valid TOML in `{line}`: {mistake}" if line else f"not valid TOML: {mistake}"
    return SpecError(shown, where=where, fix=fix)


def _text(path: Path) -> str:
    if path.suffix.lower() in DATA_ENDINGS and path.is_file():
        raise SpecError(
            "this is a data file, not a task",
            where=str(path),
            fix=f"`luthier init {path}` writes a luthier.toml for it; then: luthier run",
        )
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, _names(path.parent), n=1)
        raise SpecError(
            "there is no such file",
            where=str(path),
            fix=f"did you mean {near[0]}?" if near else "`luthier init DATA` writes one for your data",
        ) from None
    except UnicodeDecodeError as mistake:
        raise SpecError(
            f"byte {mistake.start + 1} is not UTF-8",
            where=path.name,
            fix="save the file as UTF-8; TOML allows nothing else",
        ) from None
    except OSError as mistake:
        raise SpecError(
            f"cannot be read: {mistake.strerror}", where=str(path), fix="check the path and its permissions"
        ) from None


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    except OSError:
        return []


def _known_sections(tables: Mapping[str, Any], where: str) -> None:
    known = sections()
    for name, value in tables.items():
        if isinstance(value, dict) and name in known:
            continue
        if name in known:
            raise SpecError(
                f"[{name}] is a section, not a key", where=where, fix=f"write [{name}] on a line of its own"
            )
        if isinstance(value, dict):
            fix = f"{suggest(name, list(known))}the sections are {', '.join(f'[{each}]' for each in known)}"
            raise SpecError(f"[{name}] is not a section", where=where, fix=fix)
        raise SpecError(f"'{name}' stands outside every section", where=where, fix=_home(name, ""))


def _home(key: str, section: str) -> str:
    """Where a key that is unknown in its section may belong."""
    owners = [name for name, model in sections().items() if key in keys(model)]
    if owners:
        return "move it to " + " or ".join(f"[{owner}]" for owner in owners)
    if section:
        own = keys(sections()[section])
        return f"{suggest(key, own)}the keys of [{section}] are {', '.join(own)}"
    everywhere = {each: name for name, model in sections().items() for each in keys(model)}
    close = difflib.get_close_matches(key, list(everywhere), n=1)
    return f"did you mean '{close[0]}' in [{everywhere[close[0]]}]?" if close else "put each key under its [section]"


def _spec_error(mistakes: ValidationError, tables: Mapping[str, Any], where: str) -> SpecError:
    # an unknown key is often the cause of a missing one ('referense'), so it is told first
    found = sorted(mistakes.errors(include_url=False), key=lambda mistake: mistake["type"] != "extra_forbidden")
    place, what, fix = _told(found[0])
    others = sorted({_told(mistake)[0] for mistake in found[1:]} - {place})
    if others:
        fix += f" (then look at {', '.join(others)} too)"
    return SpecError(what, where=f"{where}, {place}" if place else where, fix=fix)


def _told(mistake: Any) -> tuple[str, str, str]:
    """(place, what, fix) of one pydantic error."""
    section, *rest = [str(part) for part in mistake["loc"]] or [""]
    shown_section = section
    if section in named_sections() and rest:
        shown_section = f"{section}.{rest.pop(0)}"
    key = rest[0] if rest else ""
    place = f"[{shown_section}] {key}".strip() if section else ""
    kind, context, value = mistake["type"], mistake.get("ctx", {}), mistake.get("input")
    table = tables_of(section).get(f"{section}.{key}") if section in sections() and rest[1:] else None
    if table is not None:
        place, rest = f"[[{section}.{key}]] number {int(rest[1]) + 1}", rest[2:]
        key = rest[0] if rest else ""
        place = f"{place} {key}".strip()
        if kind == "extra_forbidden":
            known = keys(table)
            return place, "not a known key", f"{suggest(key, known)}the keys are {', '.join(known)}"
        if kind == "missing":
            return place, "is missing", f"add `{key} = ...`"
    if kind == "luthier":
        return place, context["what"], context["fix"]
    if kind == "extra_forbidden":
        if rest[1:]:
            return place, f"`{rest[-1]}` is not known in it", "`luthier keys` says what belongs into it"
        return place, "not a known key", _home(key, section)
    if kind == "missing":
        if rest[1:]:
            return place, f"`{rest[-1]}` is missing in it", "`luthier keys` says what belongs into it"
        return place, "is missing", _missing(section, key)
    shown = _shown(value)
    if kind == "literal_error":
        choices = context["expected"].replace("'", '"').replace(" or ", ", ").split(", ")
        return (
            place,
            f"{shown} is not a choice",
            f"{suggest(str(value), [c.strip(chr(34)) for c in choices])}use {', '.join(choices)}",
        )
    if kind in _TYPES and context.get("ge", 0) == 0:
        expected, fix = _TYPES[kind]
        if kind == "string_type" and isinstance(value, (int, float)):
            fix = f'write it in quotes: {key} = "{shown}"'
        elif kind in ("float_type", "int_type"):
            example = _example(section, key) or fix.rpartition(" ")[2]
            fix = f"{fix.rpartition(' ')[0]} {example}"
            if isinstance(value, str):
                fix = number_fix(key, value, example)
        elif kind == "greater_than_equal":
            fix = "write 0 or more; a count is a whole number"
        elif kind == "bool_type" and str(value).lower() in ("true", "false"):
            fix = f"write it without quotes: {key} = {str(value).lower()}"
        return place, f"{shown} is not {expected}", fix
    told = f"{shown}: {mistake['msg'][0].lower()}{mistake['msg'][1:]}"
    if kind in ("date_type", "date_parsing", "date_from_datetime_parsing"):
        return place, f"{shown} is not a date", f"write year, month and day, without quotes: {key} = 2026-11-30"
    if kind in ("less_than", "less_than_equal") and context.get("lt", context.get("le")) == 1 and 1 < value <= 100:
        return place, told, f"write a share, not a percentage: {key} = {value / 100:g} for {value:g} %"
    return place, told, "`luthier keys` says what it may be"


def _example(section: str, key: str) -> str:
    """A number that stands for this key often, so that the fix shows one that could be right."""
    if section not in sections():
        return ""
    field = next((each for name, each in sections()[section].model_fields.items() if (each.alias or name) == key), None)
    shown = field.examples[0] if field is not None and field.examples else getattr(field, "default", None)
    return f"{shown:g}" if isinstance(shown, int | float) and not isinstance(shown, bool) and shown else ""


_TYPES = {
    "string_type": ("text", "write it in quotes"),
    "float_type": ("a number", "write a number such as 0.85"),
    "int_type": ("a whole number", "write a whole number such as 1"),
    "bool_type": ("true or false", "write true or false"),
    "list_type": ("a list", 'write a list: ["one", "two"]'),
    "string_too_short": ("a text: it is empty", "write something between the quotes"),
    "string_too_long": ("a single character", "write one character, or nothing between the quotes"),
    "greater_than_equal": ("0 or more", "write a whole number such as 0"),
    "finite_number": ("a finite number", "write a number such as 0.85"),
}


def _missing(section: str, key: str) -> str:
    model = sections()[section]
    if not key:
        needed = [field.alias or name for name, field in model.model_fields.items() if field.is_required()]
        title = f"{section}.NAME" if section in named_sections() else section
        return f"add the section [{title}] with {', '.join(needed)}"
    field = next(field for name, field in model.model_fields.items() if (field.alias or name) == key)
    return f"add `{key} = ...`: {(field.description or '')[:1].lower()}{(field.description or '')[1:].rstrip('.')}"


def _shown(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return str(value)
