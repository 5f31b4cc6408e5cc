"""Schema: the JSON schema of an extraction task's records: read, checked, and asked whether a record fits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from luthier.errors import MissingExtra, SpecError
from luthier.task.settings import Settings

try:
    import jsonschema
    import jsonschema_specifications
    import referencing
    import referencing.jsonschema
    from jsonschema.validators import validator_for
except ImportError:  # the extra `metrics`
    jsonschema = None


@dataclass(frozen=True)
class Schema:
    """A JSON schema that describes an object. Raises MissingExtra on first use without the extra `metrics`."""

    content: Mapping[str, Any]

    def flaw(self, record: Any) -> str | None:
        """The first thing about a record that does not fit, in words; None: it is valid."""
        try:
            found = min(self._validator.iter_errors(record), key=_place, default=None)
        except RecursionError:
            return "nested too deeply"
        except OverflowError:
            return "it holds a number too large to be checked"
        except referencing.exceptions.Unresolvable as mistake:  # a schema that nobody has loaded
            return f"the schema refers to {mistake.ref!r}, which is not in it"
        if found is None:
            return None
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in found.absolute_path)
        return f"{place.lstrip('.')}: {found.message}" if place else str(found.message)

    @cached_property
    def _validator(self) -> Any:
        if jsonschema is None:
            raise MissingExtra("metrics", "an extraction task")
        kind = validator_for(self.content, default=jsonschema.Draft202012Validator)
        # an empty registry: a `$ref` to somewhere else is an error, and never a request
        return kind(self.content, registry=referencing.Registry())


def _place(error: Any) -> tuple[list[str], str]:
    return [str(step) for step in error.absolute_path], error.message


def read_schema(settings: Settings, folder: Path) -> Schema | None:
    """The schema that luthier.toml names, None where it names none. Raises SpecError, MissingExtra."""
    if settings.schema is None:
        return None
    if jsonschema is None:
        raise MissingExtra("metrics", "an extraction task")
    where = f"{settings.where}, [task] schema"
    content = settings.schema if isinstance(settings.schema, dict) else _read(folder / settings.schema, where)
    if not isinstance(content, dict) or not (content.get("type") == "object" or "properties" in content):
        raise SpecError(
            "the schema does not describe an object",
            where=where,
            fix='write {"type": "object", "properties": {...}, "required": [...]}',
        )
    try:
        json.dumps(content, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        what = "the schema holds what JSON cannot say: a date, a time, inf or nan"
        raise SpecError(what, where=where, fix="write dates as text in quotes, and finite numbers") from None
    try:
        validator_for(content, default=jsonschema.Draft202012Validator).check_schema(content)
        astray = _astray(content)
    except jsonschema.SchemaError as mistake:
        raise SpecError(f"not a JSON schema: {mistake.message}", where=where, fix="see json-schema.org") from None
    if astray is not None:
        raise SpecError(f"the schema refers to {astray!r}, which is not in it", where=where, fix='put it under "$defs"')
    return Schema(content)


def _astray(content: Mapping[str, Any]) -> str | None:
    """A `$ref` that leads nowhere, wherever it stands; None: there is none."""
    root = _resource(content)
    # what the validator knows: itself and the meta-schemas, and nothing is fetched
    open_ = [(root, jsonschema_specifications.REGISTRY.resolver_with_root(root))]
    seen: set[int] = set()
    while open_:
        resource, resolver = open_.pop()
        if id(resource.contents) in seen:
            continue
        seen.add(id(resource.contents))
        if isinstance(resource.contents, Mapping) and isinstance(resource.contents.get("$ref"), str):
            try:
                found = resolver.lookup(resource.contents["$ref"])
            except referencing.exceptions.Unresolvable:
                return str(resource.contents["$ref"])
            open_.append((_resource(found.contents), found.resolver))
        open_ += [(each, resolver.in_subresource(each)) for each in resource.subresources()]
    return None


def _resource(content: Any) -> Any:
    return referencing.Resource.from_contents(content, default_specification=referencing.jsonschema.DRAFT202012)


def _read(path: Path, where: str) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as mistake:
        raise SpecError(
            f"the file {path.name} cannot be read: {mistake.strerror}", where=where, fix="check the path"
        ) from None
    except ValueError as mistake:
        raise SpecError(f"{path.name} is not JSON: {mistake}", where=where, fix="mend the file") from None
