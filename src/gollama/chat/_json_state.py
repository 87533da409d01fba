"""What may be taken out of the middle of an unfinished JSON text without a reader noticing."""

from __future__ import annotations


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
    """For each character the state in front of it; None in the midst of an escape."""
    states: list[tuple[object, ...] | None] = []
    containers: list[int] = []  # by where they begin, so that a container is never taken for another
    in_string = False
    escape = 0  # characters left of one; -1: its first comes
    last = ""  # in the container, outside of strings
    for index, character in enumerate(text):
        states.append(None if escape else (containers[-1] if containers else -1, in_string, last))
        if in_string:
            if escape:
                escape = escape - 1 if escape > 0 else 4 if character == "u" else 0
            elif character == "\\":
                escape = -1
            elif character == '"':
                in_string, last = False, '"'
        elif character == '"':
            in_string = True
        elif not character.isspace():
            if character in "{[":
                containers.append(index)
            elif character in "}]" and containers:
                containers.pop()
            last = character
    return states
