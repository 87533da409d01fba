"""llama.cpp's converter of JSON schemas to grammars."""

from __future__ import annotations

from gollama._native.failures import Failures
from gollama._native.library import library
from gollama._native.text import c_string, decode
from gollama.errors import SchemaError


def schema_grammar(schema: str) -> str:
    """The grammar of a JSON schema in JSON. What the converter cannot enforce it drops, so `schema` must have been checked."""
    loaded = library()
    failures = Failures(loaded)
    text = loaded.lib.gollama_schema_grammar(c_string(schema, "the schema"), failures.error)
    failures.check("llama.cpp cannot convert the schema", SchemaError)
    try:
        return decode(loaded.ffi.string(text))
    finally:
        loaded.lib.gollama_text_free(text)
