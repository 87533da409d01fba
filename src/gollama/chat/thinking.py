"""How many of an answer's tokens are thinking."""

from __future__ import annotations

from collections.abc import Sequence

from gollama.chat.formatter import ChatPrompt
from gollama.errors import ClosedError


def thinking_tokens(prompt: ChatPrompt, written: str, tokens: Sequence[int], reasoning: str, *, is_all: bool) -> int | None:
    """The tokens up to the one that ends the thinking, the marks around it included.

    `written` is all that the model wrote, `reasoning` what was read of it, `is_all` whether nothing else was. None where that cannot be
    told for sure: the thinking is in several places, or the text is not that of the tokens.
    """
    if not reasoning:
        return 0
    end = _end(prompt, written, reasoning)
    if end is None:
        return len(tokens) if is_all else None
    try:
        return _count(prompt, written[:end].encode(), tokens)
    except ClosedError:  # the model was unloaded meanwhile
        return None


def _end(prompt: ChatPrompt, written: str, reasoning: str) -> int | None:
    """Where the thinking ends in the text, if that begins with it and no more was read as thinking."""
    start, ends = prompt.format.thinking_start.strip(), prompt.format.thinking_ends
    places = [(place, number) for number, mark in enumerate(ends) if (place := written.find(mark)) >= 0]
    if not places:
        return None
    place, number = min(places)
    if written[:place].strip().removeprefix(start).strip() != reasoning.strip():
        return None
    return place if number else place + len(ends[0])  # what else may end it, a call of a tool, is no part of it


def _count(prompt: ChatPrompt, data: bytes, tokens: Sequence[int]) -> int | None:
    """How many tokens these bytes at the beginning are."""
    hidden = {token for token, text in prompt.model.control_tokens.items() if text not in prompt.preserved_tokens}
    done = 0
    for count, token in enumerate(tokens):
        if done >= len(data):
            return count
        piece = b"" if token in hidden else prompt.model.token_bytes(token)
        if not (data.startswith(piece, done) or piece.startswith(data[done:])):
            return None
        done += len(piece)
    return len(tokens) if done >= len(data) else None
