"""Answers of models, whole and cut everywhere, beside the messages that llama.cpp's tests/test-chat.cpp expects of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from gollama import ChatError, _native
from gollama.chat.replies import Parser, Reply, ReplyStream
from tests.support import upstream_chat
from tests.support.conversations import rendered
from tests.support.long_answers import kind, lengthened
from tests.support.upstream_chat import Case

Message = dict[str, Any]
TEMPLATES = upstream_chat.templates_of_cases()


def with_parsers(template: str) -> Iterator[tuple[Case, _native.ChatParser]]:
    """The template's cases, each with what reads the answers to its request."""
    with _native.ChatTemplatesHandle(None, upstream_chat.source(template)) as templates:
        for case in upstream_chat.cases()[template]:
            found = rendered(templates, case.request)
            assert (found.prompt, found.generation_prompt) == (case.prompt, case.generation_prompt)
            yield case, found.parser


def streamed(case: Case, parser: Parser, pieces: Iterable[str], partial: bool = False) -> tuple[Message, Reply]:
    """The message that all deltas make together, and the whole reply."""
    message: Message = {"content": "", "reasoning_content": "", "tool_calls": []}
    stream = ReplyStream(parser, continued=bool(case.request["continue_final_message"]))
    deltas = [stream.push(piece) for piece in pieces]
    last, reply = stream.finish(partial=partial)
    for delta in [*deltas, last]:
        message["content"] += delta.content
        message["reasoning_content"] += delta.reasoning
        for call in delta.tool_calls:
            new = call.index == len(message["tool_calls"])
            assert bool(call.id) == bool(call.name) == new, "a call is named once, with its first piece"
            if new:
                message["tool_calls"].append({"name": call.name, "arguments": "", "id": call.id})
            message["tool_calls"][call.index]["arguments"] += call.arguments
    return message, reply


def cut(text: str, size: int) -> list[str]:
    return [text[start:start + size] for start in range(0, len(text), size)]


def message_of(reply: Reply) -> Message:
    calls = [{"name": call.name, "arguments": call.arguments_text, "id": call.id} for call in reply.tool_calls]
    return {"content": reply.text, "reasoning_content": reply.reasoning, "tool_calls": calls}


def without_beginning(case: Case, parser: _native.ChatParser, message: Message) -> Message:
    """What the answer adds, where the request's last message is continued."""
    if not case.request["continue_final_message"]:
        return message
    base = parser.parse("", partial=True)
    names = ("content", "reasoning_content")
    assert all(message[name].startswith(base[name]) for name in names)
    return {**message, **{name: message[name][len(base[name]):] for name in names}}


def as_upstream_compares(message: Message) -> Message:
    """Outer space does not count, nor how JSON is laid out; arguments that are no whole JSON count for nothing."""
    calls = [(call["name"], _json(call["arguments"])) for call in message["tool_calls"]]
    return {"content": message["content"].strip(), "reasoning_content": message["reasoning_content"].strip(), "tool_calls": calls}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def test_what_is_recorded() -> None:
    cases = upstream_chat.cases()
    assert sorted(cases) == TEMPLATES and len(TEMPLATES) >= 56
    assert {upstream_chat.family(template) for template in cases} == set(upstream_chat.FAMILIES) and len(upstream_chat.FAMILIES) >= 25
    every = [case for listed in cases.values() for case in listed]
    assert len(every) >= 427 and sum(bool(case.expected["tool_calls"]) for case in every) >= 248
    assert sum(case.partial for case in every) >= 9 and sum(bool(case.expected["reasoning_content"]) for case in every) >= 165
    assert all(not case.expected["content_parts"] for case in every)


def test_llama_cpp_itself_meets_its_expectations() -> None:
    for listed in upstream_chat.cases().values():
        for case in listed:
            assert as_upstream_compares(case.parsed) == as_upstream_compares(case.expected), case


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_whole_answer_is_the_expected_message(template: str) -> None:
    for case, parser in with_parsers(template):
        message = parser.parse(case.input, partial=case.partial)
        assert {**message, "content_parts": []} == case.parsed


@pytest.mark.parametrize("template", TEMPLATES)
def test_an_answer_cut_at_every_character_streams_the_expected_message(template: str) -> None:
    for case, parser in with_parsers(template):
        message, reply = streamed(case, parser, case.input, case.partial)
        assert message == message_of(reply)
        # no text too much: what belongs to a call is not shown as text before it is known to
        expected = without_beginning(case, parser, case.parsed)
        assert as_upstream_compares(message) == as_upstream_compares(expected)
        assert (message["content"], message["reasoning_content"]) == (expected["content"], expected["reasoning_content"])
        for ours, theirs in zip(message["tool_calls"], expected["tool_calls"], strict=True):
            late = case.input.rstrip('"}] \n').endswith(theirs["id"])  # behind the arguments, when another one was told already
            assert ours["id"] == theirs["id"] or (ours["id"] and late)


@pytest.mark.parametrize("template", TEMPLATES)
def test_an_answer_that_ends_early_streams_what_it_is_read_as(template: str) -> None:
    for case, parser in with_parsers(template):
        for part in (0.25, 0.5, 0.75):
            message, reply = streamed(case, parser, case.input[: int(part * len(case.input))], partial=True)
            assert message == message_of(reply)


@pytest.mark.parametrize("size", [2, 3, 7, 1000])
def test_the_size_of_the_pieces_changes_nothing(size: int) -> None:
    for template in TEMPLATES[::5]:
        for case, parser in with_parsers(template):
            message, _ = streamed(case, parser, cut(case.input, size), case.partial)
            assert as_upstream_compares(message) == as_upstream_compares(without_beginning(case, parser, case.parsed))


@pytest.mark.parametrize("template", TEMPLATES)
def test_space_at_the_ends_of_texts_changes_nothing_of_the_stream(template: str) -> None:
    for case, parser in with_parsers(template):
        for text in filter(None, (case.parsed["content"], case.parsed["reasoning_content"])):
            answer = case.input.replace(text, f" \n{text}\n\n ")
            if not case.partial and as_read(parser, answer) is not None:
                message, reply = streamed(case, parser, answer)
                assert message == message_of(reply)


def as_read(parser: Parser, text: str) -> Message | None:
    """None for what does not have the format."""
    try:
        return parser.parse(text, partial=False)
    except ChatError:
        return None


# ---- long answers, which must not be read from their beginning for every piece ----

MOST_READ = 7000  # characters for one piece


class Counted:
    """A parser that remembers how much it read for an unfinished answer."""

    def __init__(self, parser: _native.ChatParser) -> None:
        self._parser = parser
        self.most = 0

    def parse(self, text: str, *, partial: bool) -> Message:
        self.most = max(self.most, len(text)) if partial else self.most
        return self._parser.parse(text, partial=partial)


def assert_streams_long(case: Case, parser: _native.ChatParser, answer: str) -> None:
    counted = Counted(parser)
    message, reply = streamed(case, counted, cut(answer, 5))
    assert message == message_of(reply)
    expected = without_beginning(case, parser, parser.parse(answer, partial=False))
    assert as_upstream_compares(message) == as_upstream_compares(expected)
    assert counted.most < MOST_READ


@pytest.mark.parametrize("template", TEMPLATES)
def test_an_answer_with_one_long_text_streams_its_message_and_no_piece_costs_more_than_another(template: str) -> None:
    seen: set[tuple[bool, bool, int]] = set()
    for number, (case, parser) in enumerate(with_parsers(template)):
        answer = None if kind(case.parsed) in seen else lengthened(case, parser, 8000, 1, number + len(template))
        if answer is not None:
            assert_streams_long(case, parser, answer)
            seen.add(kind(case.parsed))
    assert seen or len(upstream_chat.cases()[template]) == 1  # in which there may be no word


@pytest.mark.parametrize("template", TEMPLATES)
def test_an_answer_whose_every_text_is_long_streams_its_message(template: str) -> None:
    for number, (case, parser) in enumerate(with_parsers(template)):
        answer = lengthened(case, parser, 3000, 5, number)
        if answer is not None:
            assert_streams_long(case, parser, answer)
