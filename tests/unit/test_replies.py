"""Answers in the making, on a parser of a few lines, and what may be left out of unfinished JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gollama import ChatError
from gollama.chat import ReplyStream
from gollama.chat._json_state import safe_cut

OPEN, CLOSE = "<call ", "</call>"


class Parser:
    """Text, with calls as `<call NAME>JSON</call>` in it; it notes how long what it read was."""

    def __init__(self, *, strict: bool = False) -> None:
        self.read: list[int] = []
        self._strict = strict

    def parse(self, text: str, *, partial: bool) -> dict[str, Any]:
        self.read.append(len(text))
        content, calls = "", []
        while text:
            before, opened, text = text.partition(OPEN)
            content += before
            if not opened:
                break
            name, named, rest = text.partition(">")
            arguments, closed, text = rest.partition(CLOSE)
            if not closed:
                arguments = next((rest[: -length] for length in range(len(CLOSE) - 1, 0, -1) if rest.endswith(CLOSE[:length])), rest)
                if self._strict and not partial:
                    raise ChatError("a call without an end")
                text = ""
            calls.append({"name": name if named else "", "arguments": arguments if named else "", "id": ""})
        if partial:  # what may become the beginning of a call is not text yet
            content = next((content[:-length] for length in range(len(OPEN) - 1, 0, -1) if content.endswith(OPEN[:length])), content)
        return {"content": content if partial else content.strip(), "reasoning_content": "", "tool_calls": calls}


def streamed(stream: ReplyStream, text: str, size: int) -> tuple[str, dict[int, str], dict[int, str | None]]:
    """What the pieces add up to: the text, each call's arguments, and its name."""
    content = ""
    arguments: dict[int, str] = {}
    names: dict[int, str | None] = {}
    deltas = [stream.push(text[start : start + size]) for start in range(0, len(text), size)]
    for delta in [*deltas, stream.finish()[0]]:
        content += delta.content
        for call in delta.tool_calls:
            arguments[call.index] = arguments.get(call.index, "") + call.arguments
            if call.index not in names:
                names[call.index] = call.name
                assert call.id
            else:
                assert call.id is None and call.name is None
    return content, arguments, names


@pytest.mark.parametrize("size", [1, 3, 50])
def test_pieces_add_up_to_the_whole(size: int) -> None:
    text = 'Let me see. <call look>{"a": [1, 2]}</call> <call tell>{}</call> That is it. '
    content, arguments, names = streamed(ReplyStream(Parser()), text, size)
    assert content == "Let me see.   That is it."
    assert arguments == {0: '{"a": [1, 2]}', 1: "{}"} and names == {0: "look", 1: "tell"}


LONG = {
    "text": "Some words that go on. " * 4000,
    "a string": '<call write>{"path": "x", "text": "' + "a line of text\\n\\u00e9 \\\"so\\\" " * 3000 + '"}</call>',
    "many items": '<call write>{"rows": [' + ", ".join(f'{{"id": {number}, "name": "n{number}"}}' for number in range(3000)) + "]}</call>",
    "numbers": '<call write>{"rows": [' + ", ".join(map(str, range(20000))) + "]}</call>",
}


@pytest.mark.parametrize("kind", LONG)
def test_a_long_answer_costs_no_more_for_each_piece(kind: str) -> None:
    parser, text = Parser(), LONG[kind]
    content, arguments, _ = streamed(ReplyStream(parser), text, 6)
    assert content == text.strip() if kind == "text" else json.loads(arguments[0]) == json.loads(text[len("<call write>") : -len(CLOSE)])
    assert max(parser.read[:-1]) < 8192  # the last time it is read whole


def test_a_call_that_cannot_be_made_says_why() -> None:
    stream = ReplyStream(Parser(), offered=["look", "tell"])
    reply = stream.read('<call look>{"a": 1}</call><call sing>{}</call><call tell>[1]</call><call tell>{"a</call>')
    errors = [call.error for call in reply.tool_calls]
    assert errors[0] is None and reply.tool_calls[0].arguments == {"a": 1}
    assert errors[1] == "there is no tool 'sing'; there are: look, tell"
    assert errors[2] == "the arguments are no JSON object but list" and str(errors[3]).startswith("the arguments are not JSON")
    assert len({call.id for call in reply.tool_calls}) == 4


def test_what_does_not_have_the_format_is_read_as_far_as_it_has() -> None:
    reply = ReplyStream(Parser(strict=True)).read('Hm <call look>{"a": 1')
    assert reply.text.strip() == "Hm" and reply.tool_calls[0].name == "look" and reply.tool_calls[0].error


def test_space_at_the_end_is_shown_when_more_comes() -> None:
    stream = ReplyStream(Parser())
    assert [stream.push(piece).content for piece in ("Hello", "  ", "\n", "you", " ")] == ["Hello", "", "", "  \nyou", ""]
    assert not stream.finish()[0].content


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=30),
                    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=6), inner, max_size=8), max_leaves=60)


@given(value=st.lists(JSON, min_size=3) | st.dictionaries(st.text(max_size=5), JSON, min_size=3), ascii_only=st.booleans(), data=st.data())
@settings(max_examples=100, deadline=None)
def test_what_is_left_out_leaves_json_behind(value: Any, ascii_only: bool, data: st.DataObject) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    known = data.draw(st.integers(0, len(text)))
    cut = safe_cut(text[:known], 2)
    if cut is not None:
        start, end = cut
        assert 2 <= start < end <= known - 2
        json.loads(text[:start] + text[end:])
