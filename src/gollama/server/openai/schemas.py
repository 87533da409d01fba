"""The schema of an answer. The grammar enforces it; what was written is handed on as it is, and not read here."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any

from gollama.chat.schemas import Schema
from gollama.server.errors import ApiError

MOST_ALTERNATIVES = 1024  # for each of them the grammar looks at the whole vocabulary, at every token
ALTERNATIVES = ("enum", "anyOf", "oneOf", "allOf")


def _unread(text: str) -> None:
    """An answer that was cut, by a stop string say, is one all the same."""


async def answer_schema(response_format: Mapping[str, Any] | None, json_schema: Any = None) -> Schema | None:
    """Of OpenAI's form, or of a bare schema; SchemaError. In a thread, since schemas come from outside and may be large."""
    if response_format is None and json_schema is None:
        return None
    if _alternatives([response_format, json_schema]) > MOST_ALTERNATIVES:
        raise ApiError(400, f"a schema may have {MOST_ALTERNATIVES} values of enum, anyOf, oneOf and allOf at most",
                       param="json_schema" if response_format is None else "response_format", code="too_many")

    def made() -> Schema | None:
        found = Schema.of(json_schema) if response_format is None else Schema.from_response_format(response_format)
        return None if found is None else dataclasses.replace(found, _reader=_unread)

    return await asyncio.to_thread(made)


def check_grammar(grammar: str | None) -> None:
    """ApiError for one with more alternatives than a schema may have."""
    if grammar is not None and grammar.count("|") > MOST_ALTERNATIVES:
        raise ApiError(400, f"a grammar may have {MOST_ALTERNATIVES} alternatives at most", param="grammar", code="too_many")


def _alternatives(value: Any) -> int:
    """How many a schema has. The request's parser has looked at how deep it is."""
    found, left = 0, [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            found += sum(len(one[name]) for name in ALTERNATIVES if isinstance(one.get(name), list))
            left += one.values()
        elif isinstance(one, list):
            left += one
    return found
