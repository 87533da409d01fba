"""Grammars out of grammars."""

from __future__ import annotations

import re

# what may hold letters without naming a rule: literals, character classes, tokens, repetitions, comments
_WORD = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|<[^>]*>|\{[^}]*\}|#[^\n]*|([A-Za-z0-9-]+)')


def renamed(grammar: str, prefix: str) -> str:
    """The same GBNF with a prefix in front of every rule's name."""
    return _WORD.sub(lambda found: prefix + found[1] if found[1] else found[0], grammar)


def without_preamble(grammar: str) -> str:
    """The same without the free text that llama.cpp allows in front of a call that is required, and that small models never end."""
    return re.sub(r"^(root ::= .*?) until-\d+\?", r"\1", grammar, flags=re.MULTILINE)


def of_one_call(grammar: str) -> str:
    """The same with one call where llama.cpp allows any number of them, asked for or not."""
    return re.sub(r"^(tool-calls ::= .*\))\+$", r"\1", grammar, flags=re.MULTILINE)


def without_fence(grammar: str) -> str:
    """The same without the ```json fence that llama.cpp allows around an answer by a schema, and that only its own parser takes off."""
    return grammar.replace('"```json" space response-format space "```" | ', "")


def either(first: str, second: str) -> str:
    """A GBNF for what one or the other allows."""
    return f"root ::= first-root | second-root\n{renamed(first, 'first-')}\n{renamed(second, 'second-')}"
