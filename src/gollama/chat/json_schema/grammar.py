"""A rewritten schema to a grammar, by llama.cpp's converter, some of whose rules admit what is not valid."""

from __future__ import annotations

import functools

from gollama import _native

# escapes of half a surrogate pair, which are no text, and of both halves, which count as two where JSON Schema counts one
ESCAPES = '"u" [0-9a-fA-F]{4}', '"u" ([0-9a-cA-CefEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2})'
# exponents of sixteen digits, which are beyond every floating-point number
EXPONENT = "([eE] [-+]? integral-part)?", "([eE] [-+]? [0-9]{1,2})?"
# names beside the listed ones: what tells them apart may be the backslash of an escape, or a line's end
OTHER_NAMES = '::= ["] ( '
OTHER_CHARACTER = '[^"', r'[^"\\\x7F\x00-\x1F'
# the numbers and strings of tool calls with any JSON: also an escaped space, and line ends as they are
FREE_EXPONENT = "[+-]? [0-9]+)?", "[+-]? [0-9]{1,2})?"
FREE_ESCAPES = r'["\\/ bfnrt]', r'["\\/bfnrt]'
FREE_CHARACTER = r'[^"\\]', r'[^"\\\x7F\x00-\x1F]'


@functools.lru_cache(maxsize=256)
def grammar_text(schema: str) -> str:
    """The grammar of a rewritten schema in JSON, to be given as `grammar`."""
    return mended(_native.schema_grammar(schema))


def mended(grammar: str) -> str:
    """A grammar of the converter's, also inside one for tool calls, without the texts that are not valid JSON."""
    return "\n".join(map(_mended_line, grammar.split("\n")))


def _mended_line(line: str) -> str:
    if line.startswith("char ::= "):
        return line.replace(*ESCAPES)
    if line.startswith("json-string ::= "):
        return line.replace(*ESCAPES).replace(*FREE_ESCAPES).replace(*FREE_CHARACTER)
    if line.startswith(("number ::= ", "json-number ::= ")):
        return line.replace(*EXPONENT).replace(*FREE_EXPONENT)
    return line.replace(*OTHER_CHARACTER) if OTHER_NAMES in line else line
