"""What models and other people write may be made to harm: JSON nested without end, arguments that are none, texts that are no UTF-8."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gollama import LLM, AsyncLLM, ChatCompletion, ChatError, OptionError
from gollama.chat import ReplyStream
from gollama.results import ToolCall
from gollama.tool_loop import drive, steps
from tests.native.test_templates_hostile import thread_with_stack

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {}}}}}
ASK = [{"role": "user", "content": "the sky"}]
DEEP = 20_000


def said(arguments: str) -> list[dict[str, Any]]:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return [*ASK, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "1", "content": "rain"}]


@pytest.mark.parametrize("arguments", ["[" * DEEP, '{"x":' * DEEP, '{"x": ' + "[" * DEEP + "]" * DEEP + "}"])
def test_arguments_nested_without_end_are_told_by_path(smollm2: LLM, arguments: str) -> None:
    with pytest.raises(ChatError, match=r"messages\[1\]\.tool_calls\[0\]\.function\.arguments is nested deeper than 200"):
        smollm2.render_chat(said(arguments), tools=[TOOL])


def test_brackets_in_texts_are_not_nested(smollm2: LLM) -> None:
    assert "[[[[" in smollm2.render_chat(said(json.dumps({"x": '"' + "[" * 500})), tools=[TOOL]).text


def test_no_arguments_are_an_empty_object(smollm2: LLM) -> None:
    assert smollm2.render_chat(said(""), tools=[TOOL]).text == smollm2.render_chat(said("{}"), tools=[TOOL]).text


@pytest.mark.parametrize("kilobytes", [256, 8192])
@pytest.mark.parametrize("opening", ["[", '{"x":'])
def test_an_answer_nested_without_end_is_a_call_with_an_error(smollm2: LLM, opening: str, kilobytes: int) -> None:
    parser = smollm2.render_chat(ASK, tools=[TOOL]).parser
    replies: list[Any] = []

    def read() -> None:
        stream = ReplyStream(parser, offered=["f"])
        deltas = [stream.push(piece) for piece in ('<tool_call>\n{"name": "f", "arguments": {"x": ', opening * DEEP)]
        replies.extend([*deltas, stream.finish()[1]])

    thread_with_stack(kilobytes * 1024, read)
    first, second, reply = replies
    assert first.content == second.content == reply.text == ""
    assert [call.error for call in reply.tool_calls] == ["the arguments are nested deeper than 200"]


def test_a_call_that_is_no_json_is_told_to_the_model_and_said_again(smollm2: LLM) -> None:
    answers = [[ToolCall("1", "f", {}, "{not json", "the arguments are not JSON")], []]
    prompts = []

    def chat(messages: Any, **options: Any) -> ChatCompletion:
        prompts.append(smollm2.render_chat(messages, tools=options["tools"]).text)
        real = smollm2.chat(ASK, max_tokens=1)
        return ChatCompletion("", [], "stop", real.usage, real.timings, tool_calls=tuple(answers.pop(0)))

    def f(x: int) -> str:
        raise AssertionError

    run = drive(steps(ASK, [f], 3, None, {}), chat)
    assert [result.content for result in run.results] == ["Error: the arguments are not JSON"]
    assert "Error: the arguments are not JSON" in prompts[1]


def test_a_call_made_by_hand_says_its_arguments() -> None:
    assert ToolCall("1", "f", {"city": "Paris"}).as_dict()["function"]["arguments"] == '{"city": "Paris"}'


def test_results_that_are_no_utf8_are_told_all_the_same() -> None:
    def f() -> str:
        return "file \ud800"

    work = steps(ASK, [f], 1, None, {})
    next(work)
    reply = ChatCompletion("", [], "tool_calls", None, None, tool_calls=(ToolCall("1", "f", {}),))  # type: ignore[arg-type]
    asked: Any = work.send(reply)
    asked = work.send(asked.function(asked.argument))
    assert asked.messages[-1]["content"] == r"file \ud800"


def test_keys_of_tools_and_variables_become_texts(smollm2: LLM) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {1: {"type": "integer"}}}}}
    assert '"1"' in smollm2.render_chat(ASK, tools=[tool], template_kwargs={"a": {1: 2}}).text


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"tool_choice": ["auto"]}, ChatError, "tool_choice must be"), ({"choices": 5}, OptionError, "choices must be a list"),
    ({"choices": {"a": 1}}, OptionError, "choices must be a list"), ({"choices": [1]}, OptionError, "choices must be a list"),
    ({"choices": ["a"], "grammar": 'root ::= "a"'}, OptionError, "choices excludes grammar"),
    ({"choices": ["a"], "n": 2}, OptionError, "choices excludes n"),
    ({"choices": ["a"], "logprobs": 2}, OptionError, "choices excludes logprobs"),
    ({"choices": ["a"], "thinking": 100}, OptionError, "choices excludes thinking"),
    ({"continue_final_message": 2}, OptionError, "continue_final_message must be"),
    ({"template_kwargs": {"a": [[]] * 2, "b": json.loads("[" * 300 + "]" * 300)}}, ChatError, "nested deeper than 200"),
])
def test_wrong_options_are_told(smollm2: LLM, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        smollm2.chat(ASK, max_tokens=1, **options)


def test_a_hook_that_is_none_is_told(smollm2: LLM) -> None:
    def f() -> str:
        return ""

    with pytest.raises(OptionError, match="approve must be a function"):
        smollm2.run_tools(ASK, tools=[f], approve="yes")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="approve must be a function"):
        asyncio.run(AsyncLLM(smollm2).run_tools(ASK, tools=[f], approve=5))  # type: ignore[arg-type]
