"""The schema of an answer. The grammar enforces it; what was written is handed on as it is, and not read here."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any

from gollama.chat.schemas import Schema


def _unread(text: str) -> None:
    """An answer that was cut, by a stop string say, is one all the same."""


async def answer_schema(response_format: Mapping[str, Any] | None, json_schema: Any = None) -> Schema | None:
    """Of OpenAI's form, or of a bare schema; SchemaError. In a thread, since schemas come from outside and may be large."""
    if response_format is None and json_schema is None:
        return None

    def made() -> Schema | None:
        found = Schema.of(json_schema) if response_format is None else Schema.from_response_format(response_format)
        return None if found is None else dataclasses.replace(found, _reader=_unread)

    return await asyncio.to_thread(made)
