"""A guide: which tokens may come next, so that a text is JSON of a schema; grammars are llguidance's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier.errors import MissingExtra, ModelError

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

try:
    import torch
    from llguidance import LLMatcher
    from llguidance.hf import from_tokenizer
except ImportError as error:
    raise MissingExtra("local", "JSON of a schema") from error

# as json.dumps writes it: with free white space a small model can write blanks until it is cut off
WRITTEN: JsonCompileOptions = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
SCHEMAS_KEPT = 64


class SchemaGuides:
    """Makes the guides of schemas for one tokenizer; a schema is compiled once.

    Covers what llguidance compiles: most of JSON Schema 2020-12. Objects come out with their keys in the order of
    `properties`, and as `json.dumps` would write them, but for escapes (\\u007F, and capitals as their digits). Raises
    ModelError for a schema that it cannot compile.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, stop_ids: Sequence[int]) -> None:
        """`vocabulary` is the width of the model's logits, which may be more than the tokenizer knows."""
        try:
            self._tokenizer = from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=list(stop_ids))
        except ValueError as error:
            raise ModelError(f"this model's tokenizer cannot be guided by a schema: {error}") from error
        self._compiled: dict[str, Any] = {}

    def guide(self, schema: Mapping[str, Any]) -> SchemaGuide:
        """A fresh guide: one text's own."""
        try:
            # the order of the keys is part of it: it is the order in which they are written
            key = json.dumps(schema, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise ModelError(f"the schema is not JSON: {error}") from error
        if key not in self._compiled:
            if len(self._compiled) >= SCHEMAS_KEPT:
                self._compiled.clear()
            self._compiled[key] = self._compile(key)
        return SchemaGuide(self._compiled[key].deep_copy())

    def _compile(self, schema: str) -> Any:
        grammar = LLMatcher.grammar_from_json_schema(schema, overrides=WRITTEN)
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise ModelError(f"the schema cannot be compiled: {matcher.get_error().strip()}")
        return matcher


class SchemaGuide:
    """Follows one text through the grammar of its schema."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def mask(self, logits: Any) -> Any:
        """The logits [vocabulary] with minus infinity where a token would leave the schema."""
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")
        self._check()
        allowed = torch.zeros(len(logits), dtype=torch.bool)
        some = torch.from_numpy(bits[: len(logits)].astype(np.bool_))
        allowed[: len(some)] = some
        return logits.masked_fill(~allowed, -torch.inf)

    def accept(self, token: int) -> bool:
        """Take note of a token; True: the JSON is whole and nothing may follow."""
        self._matcher.consume_token(token)
        self._check()
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise ModelError(f"the schema cannot be followed: {self._matcher.get_error().strip()}")
