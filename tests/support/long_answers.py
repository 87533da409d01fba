"""Answers of llama.cpp's test-chat made long: words of what they say replaced by thousands of characters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from gollama import ChatError
from gollama.chat.replies import Parser
from tests.support.upstream_chat import Case

FILLERS = ("The lighthouse keeper climbed the stairs at six. ", "def f(x):\n    return {'a': [1, 2]}\n\n", "}] {[ , : ) ( <b> & ",
           'say "hi" \\ and \\n, é 格 🙂 ', "3141592653")


def kind(message: dict[str, Any]) -> tuple[bool, bool, int]:
    """What a message has: text, reasoning, how many calls."""
    return bool(message["content"]), bool(message["reasoning_content"]), len(message["tool_calls"])


def lengthened(case: Case, parser: Parser, length: int, most: int, first_filler: int) -> str | None:
    """The answer with so many characters in place of one word of its text, of its reasoning and of each text in its calls, at most
    `most` times; None where there is no such word, or the answer would be of another kind."""
    result, words = case.input, 0
    for value in () if case.partial else dict.fromkeys(_texts(case)):
        filler = FILLERS[(first_filler + words) % len(FILLERS)]
        longer = _with_long_word(result, value, filler * (length // len(filler)), parser, kind(case.parsed))
        if longer is not None and words < most:
            result, words = longer, words + 1
    return result if words else None


def _texts(case: Case) -> Iterator[str]:
    yield case.expected["content"]
    yield case.expected["reasoning_content"]
    for call in case.expected["tool_calls"]:
        yield from _strings(json.loads(call["arguments"] or "null"))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _strings(one)


def _with_long_word(text: str, value: str, long: str, parser: Parser, wanted: tuple[bool, bool, int]) -> str | None:
    for word in sorted(set(re.findall(r"[^\W_]{3,}", value)), key=len, reverse=True):
        places = list(re.finditer(rf"(?<![<|/=_]){word}(?![>|=_])", text))  # not in markup
        if len(places) == 1:
            quoted = re.search(rf'"[^"\n]*{word}[^"\n]*"', text) is not None
            written = json.dumps(long, ensure_ascii=False)[1:-1] if quoted else long
            result = text[: places[0].start()] + written + text[places[0].end() :]
            if _kind_as_read(parser, result) == wanted:
                return result
    return None


def _kind_as_read(parser: Parser, text: str) -> tuple[bool, bool, int] | None:
    try:
        return kind(parser.parse(text, partial=False))
    except ChatError:  # it does not have the format any more
        return None
