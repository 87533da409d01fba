"""Grammars out of grammars."""

from __future__ import annotations

import re

# what may hold letters without naming a rule: literals, character classes, tokens, repetitions, comments
_WORD = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|<[^>]*>|\{[^}]*\}|#[^\n]*|([A-Za-z0-9-]+)')


def renamed(grammar: str, prefix: str) -> str:
    """The same GBNF with a prefix in front of every rule's name."""
    return _WORD.sub(lambda found: prefix + found[1] if found[1] else found[0], grammar)


def either(first: str, second: str) -> str:
    """A GBNF for what one or the other allows."""
    return f"root ::= first-root | second-root\n{renamed(first, 'first-')}\n{renamed(second, 'second-')}"
