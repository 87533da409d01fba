"""Text that reads like a control token, kept apart from the template's real ones."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gollama.errors import ChatError
from gollama.model import Model

MOST_SPANS = 10_000  # each is tokenized by itself


class ControlText:
    """Finds the texts of a model's control tokens."""

    def __init__(self, model: Model) -> None:
        self._texts = {text for text in model.control_tokens.values() if text}
        self._lengths = sorted({len(text) for text in self._texts}, reverse=True)  # the longest counts, as in llama.cpp
        beginnings = "".join(sorted({text[0] for text in self._texts}))
        self._beginning = re.compile(f"[{re.escape(beginnings)}]") if beginnings else None

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where they are; those that follow each other directly are one."""
        if self._beginning is None:
            return
        start = end = -1
        for found in self._beginning.finditer(text):
            place = found.start()
            if place < end:
                continue
            length = next((length for length in self._lengths if text[place : place + length] in self._texts), 0)
            if not length:
                continue
            if place != end:
                if start >= 0:
                    yield start, end
                start = place
            end = place + length
        if start >= 0:
            yield start, end

    def occurs(self, text: str) -> bool:
        """Whether there is any. ChatError for a text that is made of them."""
        count = sum(1 for _ in itertools.islice(self.spans(text), MOST_SPANS + 1))
        if count > MOST_SPANS:
            raise ChatError(f"the messages hold the texts of control tokens in more than {MOST_SPANS} places")
        return count > 0

    def fenced(self, text: str, opening: str, closing: str) -> str:
        """The text with a sign on either side of each."""
        parts, last = [], 0
        for start, end in self.spans(text):
            parts += [text[last:start], opening, text[start:end], closing]
            last = end
        return "".join([*parts, text[last:]])


def texts(value: Any) -> Iterator[str]:
    """Every text in a JSON-like value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield name
            yield from texts(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from texts(one)


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """The value with every text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(name): mapped(one, change) for name, one in value.items()}
    return [mapped(one, change) for one in value] if isinstance(value, (list, tuple)) else value


def free_characters(*used: str) -> Iterator[str]:
    """Characters that occur in none of the texts: code points that Unicode keeps for a program's inner use, then private ones."""
    for character in map(chr, (*range(0xFDD0, 0xFDF0), *range(0xF0000, 0x110000))):
        if not any(character in text for text in used):
            yield character
