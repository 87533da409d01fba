"""What a model writes to text, reasoning and calls of tools, also piece by piece, in linear time."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from gollama.chat._json_state import DEEPEST, nesting, safe_cut
from gollama.errors import ChatError
from gollama.results import ToolCall, ToolCallDelta

ID_LENGTH = 9  # what Mistral's templates ask for, and nobody minds

LONGEST_INPUT = 2048  # characters that are parsed again for every piece; past that, the middle of what grows is left out
MARGIN = 192  # characters kept on both sides of what is left out


class Parser(Protocol):
    """Reads answers; see _native.ChatParser."""

    def parse(self, text: str, *, partial: bool) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]


@dataclass
class ReplyDelta:
    """What a piece of the answer added."""

    content: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCallDelta] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.content or self.reasoning or self.tool_calls)


def new_call_id() -> str:
    return os.urandom(ID_LENGTH).hex()[:ID_LENGTH]


Key = str | tuple[str, int]  # "content", "reasoning", or ("arguments", call)


class _Shown:
    """A growing text: how much of it was shown, in terms of the shortened input."""

    __slots__ = ("length", "text")

    def __init__(self) -> None:
        self.text = ""  # shown, without what was left out of the input
        self.length = 0  # of all that was shown

    def grow(self, text: str) -> str:
        """What is new; nothing where the parser has changed its mind."""
        if not text.startswith(self.text):
            return ""
        new = text[len(self.text) :]
        self.text = text
        self.length += len(new)
        return new


class ReplyStream:
    """An answer in the making. One thread at a time.

    llama.cpp's parsers read an answer from its beginning every time. So that a long one costs no more for each piece than a
    short one, the middle of what grows, be it text or a call's arguments, is taken out of what they read, once it was
    shown and where they do not notice. In the end the whole answer is read once.
    """

    def __init__(self, parser: Parser, *, offered: Collection[str] | None = None, continued: bool = False) -> None:
        """`offered`: the names of the tools that may be called; None: any. `continued`: the answer begins with a message of the
        request, which is not shown again; what else of an answer stands in the prompt is part of it."""
        self._parser = parser
        self._offered = offered
        self._pieces: list[str] = []
        self._input = ""
        self._limit = LONGEST_INPUT
        self._shown: dict[Key, _Shown] = {}
        self._ids: list[str] = []
        self._named = 0  # calls whose name was shown
        self._base = self._parse("", partial=True) if continued else None

    # ---- from outside ----

    @property
    def written(self) -> str:
        """All that came so far."""
        return "".join(self._pieces)

    def push(self, text: str) -> ReplyDelta:
        """Add a piece; what may be shown now."""
        if not text:
            return ReplyDelta()
        self._pieces.append(text)
        self._input += text
        message = self._parse(self._input, partial=True)
        if message is None:
            return ReplyDelta()
        delta = self._show(message, ended=False)
        if len(self._input) > self._limit:
            self._shorten(message)
        return delta

    def finish(self, *, partial: bool = False) -> tuple[ReplyDelta, Reply]:
        """No more comes: the rest, and the whole. `partial`: the answer was cut."""
        text = self.written
        message = self._parse(text, partial=partial) or self._parse(text, partial=True)
        if message is None:
            message = {"content": text, "reasoning_content": "", "tool_calls": []}
        reply = self._reply(message)
        for shown in self._shown.values():  # from here on in terms of the whole
            shown.text = ""
        return self._show(message, ended=True, from_length=True), reply

    def read(self, text: str, *, partial: bool = False) -> Reply:
        """A whole answer at once."""
        self._pieces = [text]
        return self.finish(partial=partial)[1]

    # ---- inside ----

    def _parse(self, text: str, *, partial: bool) -> dict[str, Any] | None:
        try:
            return self._parser.parse(text, partial=partial)
        except ChatError:  # it does not have the format, yet or at all
            return None

    def _fields(self, message: dict[str, Any], *, ended: bool) -> dict[Key, str]:
        content, reasoning = message["content"], message["reasoning_content"]
        if self._base is not None:
            content, reasoning = content[len(self._base["content"]) :], reasoning[len(self._base["reasoning_content"]) :]
        if not ended:  # the parser takes space off the ends
            content, reasoning = content.rstrip(), reasoning.rstrip()
        fields: dict[Key, str] = {"reasoning": reasoning, "content": content}
        fields.update({("arguments", index): call["arguments"] for index, call in enumerate(message["tool_calls"])})
        return fields

    def _show(self, message: dict[str, Any], *, ended: bool, from_length: bool = False) -> ReplyDelta:
        fields = self._fields(message, ended=ended)
        grown: dict[Key, str] = {}
        for key, text in fields.items():
            shown = self._shown.setdefault(key, _Shown())
            grown[key] = text[shown.length :] if from_length else shown.grow(text)
        delta = ReplyDelta(grown["content"], grown["reasoning"])
        calls = message["tool_calls"]
        for index, call in enumerate(calls):
            arguments = grown["arguments", index]
            complete = ended or index + 1 < len(calls)
            if index < self._named:
                if arguments:
                    delta.tool_calls.append(ToolCallDelta(index, None, None, arguments))
            elif index == self._named and call["name"] and (arguments or complete):
                self._named += 1
                delta.tool_calls.append(ToolCallDelta(index, self._id(index, call), call["name"], arguments))
            else:  # the name may still grow
                self._shown["arguments", index] = _Shown()
        return delta

    def _id(self, index: int, call: dict[str, Any]) -> str:
        while len(self._ids) <= index:
            self._ids.append("")
        self._ids[index] = self._ids[index] or call["id"] or new_call_id()
        return self._ids[index]

    def _reply(self, message: dict[str, Any]) -> Reply:
        fields = self._fields(message, ended=True)
        calls = (self._call(index, call) for index, call in enumerate(message["tool_calls"]) if call["name"])
        return Reply(fields["content"], fields["reasoning"], tuple(calls))

    def _call(self, index: int, call: dict[str, Any]) -> ToolCall:
        text = call["arguments"] or "{}"
        arguments: Any = None
        error = f"the arguments are nested deeper than {DEEPEST}" if nesting(text) > DEEPEST else None
        try:
            arguments = None if error else json.loads(text)
        except (ValueError, RecursionError) as problem:
            error = f"the arguments are not JSON: {problem}"
        if error is None and not isinstance(arguments, dict):
            error = f"the arguments are no JSON object but {type(arguments).__name__}"
        if self._offered is not None and call["name"] not in self._offered:
            error = f"there is no tool {call['name']!r}; there are: {', '.join(sorted(self._offered))}"
        return ToolCall(self._id(index, call), call["name"], arguments if isinstance(arguments, dict) else {}, text, error)

    # ---- keeping the input short ----

    def _shorten(self, message: dict[str, Any]) -> None:
        """Take the middle of the text that grows out of the input, if the parser then says the same of all the rest."""
        fields = self._fields(message, ended=False)
        key = max(fields, key=lambda one: len(fields[one]))
        verbatim = self._verbatim_cut(fields[key])
        for cut in [verbatim] if verbatim else self._blind_cuts(fields[key]):
            shorter = self._input[: cut[0]] + self._input[cut[1] :]
            without = self._parse(shorter, partial=True)
            left_out = None if without is None else self._left_out(fields, self._fields(without, ended=False), key,
                                                                   any_part=verbatim is not None)
            shown = self._shown[key]
            if left_out is not None and self._names(message) == self._names(without) and left_out[1] <= len(shown.text):
                shown.text = shown.text[: left_out[0]] + shown.text[left_out[1] :]
                self._input = shorter
                break
        # so that what cannot be shortened now is not tried for every piece
        self._limit = max(LONGEST_INPUT, len(self._input) + LONGEST_INPUT // 2)

    @staticmethod
    def _names(message: dict[str, Any] | None) -> list[tuple[str, str]]:
        return [(call["name"], call["id"]) for call in message["tool_calls"]] if message else []

    def _verbatim_cut(self, text: str) -> tuple[int, int] | None:
        """Where the text stands in the input as it is, and what of it may go."""
        tail = text[-MARGIN // 2 :]
        place = self._input.rfind(tail)
        part = safe_cut(text, MARGIN)
        if place < 0 or part is None:
            return None
        offset = place + len(tail) - len(text)
        start, end = part[0] + offset, part[1] + offset
        return (start, end) if start > 0 and self._input[start:end] == text[part[0] : part[1]] else None

    def _blind_cuts(self, text: str) -> Iterator[tuple[int, int]]:
        """For a text that the parser writes otherwise than it reads it: guesses from the end, for a check to judge. The longest first;
        a short one lies in one argument, where there are several."""
        end = len(self._input) - MARGIN
        length = len(text) // 2 - 2 * MARGIN
        while length >= MARGIN:
            if end > length:
                yield end - length, end
            length //= 2

    @staticmethod
    def _left_out(before: dict[Key, str], after: dict[Key, str], key: Key, *, any_part: bool) -> tuple[int, int] | None:
        """Which part of the text is gone, if that is all that has changed; unless `any_part`, from the midst of one JSON string."""
        if before.keys() != after.keys() or any(before[one] != after[one] for one in before if one != key):
            return None
        full, short = before[key], after[key]
        gone = len(full) - len(short)
        start = next((index for index, (a, b) in enumerate(zip(full, short)) if a != b), len(short))
        if gone <= 0 or full[start + gone :] != short[start:]:
            return None
        part = full[start : start + gone].replace("\\\\", "").replace('\\"', "")
        return (start, start + gone) if any_part or '"' not in part or not isinstance(key, tuple) else None
