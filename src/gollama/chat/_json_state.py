"""What may be taken out of the middle of an unfinished JSON text without a reader noticing."""

from __future__ import annotations

import re
from typing import Any

DEEPEST = 200  # nesting of JSON that llama.cpp and its templates walk recursively
_SIGNS = re.compile(r'"(?:[^"\\]|\\.)*"?|[][{}]', re.DOTALL)  # strings, of which nothing counts, and brackets


def nesting(text: str) -> int:
    """How many values of a JSON text lie in each other at most."""
    if text.count("[") + text.count("{") <= DEEPEST:  # no need to look
        return 0
    level = most = 0
    for sign in _SIGNS.findall(text):
        if sign in "[{":
            level += 1
            most = max(most, level)
        elif sign in "]}":
            level -= 1
    return most


def safe_cut(text: str, margin: int) -> tuple[int, int] | None:
    """The longest part, `margin` characters away from both ends, behind which a reader is where it was before it.

    JSON is told by its first character; any other text may be cut anywhere. None: there is no such part.
    """
    first, last = margin, len(text) - margin
    if last <= first:
        return None
    if text[:1] not in ("{", "["):
        return first, last
    seen: dict[tuple[object, ...], int] = {}
    best: tuple[int, int] | None = None
    for index, state in enumerate(_states(text)):
        if index < first or state is None:
            continue
        if index > last:
            break
        start = seen.setdefault(state, index)
        if index > start and (best is None or index - start > best[1] - best[0]):
            best = start, index
    return best


def _states(text: str) -> list[tuple[object, ...] | None]:
    """For each character where a reader is in front of it: inside a string, or behind a comma. None: anywhere else."""
    states: list[tuple[object, ...] | None] = []
    containers: list[list[Any]] = [[-1, ""]]  # where each begins, so that it is never taken for another, and its last sign
    in_string = behind_comma = False
    escape = 0  # characters left of one; -1: its first comes
    for index, character in enumerate(text):
        begin, sign = containers[-1]
        states.append(None if escape or not (in_string or behind_comma) else (begin, in_string, in_string and sign == ":"))
        behind_comma = False
        if in_string:
            if escape:
                escape = escape - 1 if escape > 0 else 4 if character == "u" else 0
            elif character == "\\":
                escape = -1
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "{[":
            containers.append([index, character])
        elif character in "}]":
            del containers[max(1, len(containers) - 1) :]
        elif character in ",:":
            containers[-1][1] = character
            behind_comma = character == ","
    return states
