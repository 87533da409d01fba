"""Running the tools that a model calls, until it answers."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gollama.chat import Message, Tool, as_dict
from gollama.chat.tools import check_tools
from gollama.errors import ChatError, OptionError
from gollama.results import ChatCompletion, ToolCall

MOST_ROUNDS = 8

Approve = Callable[[ToolCall], Any]


@dataclass(frozen=True)
class ToolResult:
    """A call and what came of it: `content` is what the model was told. `failed`: it was refused, or the tool raised."""

    call: ToolCall
    content: str
    failed: bool = False


@dataclass(frozen=True)
class ToolRun:
    """How a run went. `messages` are all of them, the answer too. If `reply` still has tool_calls, max_rounds was reached."""

    reply: ChatCompletion
    messages: list[dict[str, Any]]
    results: list[ToolResult] = field(default_factory=list)


@dataclass(frozen=True)
class _Ask:
    """For the driver: have the model answer."""

    messages: list[dict[str, Any]]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class _Run:
    """For the driver: call a function of ours."""

    function: Callable[..., Any]
    argument: Any


_Steps = Generator[_Ask | _Run, Any, ToolRun]


def steps(messages: Sequence[Message], tools: Sequence[Any], max_rounds: int, approve: Approve | None,
          options: Mapping[str, Any]) -> _Steps:
    """What there is to do, one after the other; whoever drives sends back what came of it, and throws in what was raised."""
    if isinstance(max_rounds, bool) or not isinstance(max_rounds, int) or max_rounds < 1:
        raise OptionError(f"max_rounds must be a whole number of at least 1, not {max_rounds!r}")
    if approve is not None and not callable(approve):
        raise OptionError(f"approve must be a function, not {approve!r}")
    offered = {tool.name: tool for tool in check_tools(tools)}
    for tool in offered.values():
        if tool.call is None:
            raise ChatError(f"the tool {tool.name!r} is a description, and no function that could be run: use chat, and run it yourself")
    said = [as_dict(message) for message in messages]
    results: list[ToolResult] = []
    chosen = {**options, "tools": list(offered.values())}
    for _ in range(max_rounds):
        reply: ChatCompletion = yield _Ask(said, chosen)
        said = [*said, reply.message]
        if not reply.tool_calls:
            return ToolRun(reply, said, results)
        for call in reply.tool_calls:
            result = yield from _run(call, offered, approve)
            results.append(result)
            said.append({"role": "tool", "tool_call_id": call.id, "name": call.name, "content": result.content})
        if chosen.get("tool_choice", "auto") not in ("auto", "none"):
            chosen["tool_choice"] = "auto"  # what was required was done
    reply = yield _Ask(said, chosen)
    return ToolRun(reply, [*said, reply.message], results)


def _run(call: ToolCall, offered: Mapping[str, Tool], approve: Approve | None) -> Generator[_Run, Any, ToolResult]:
    if call.error is not None:
        return _failed(call, call.error)
    if approve is not None:
        answer = yield _Run(approve, call)
        if answer is not True:
            return _failed(call, str(answer or "the user did not allow this call"))
    function = offered[call.name].call
    assert function is not None
    try:
        value = yield _Run(function, call.arguments)
        return ToolResult(call, _utf8(as_text(value)))
    except Exception as error:  # the model is told, and may try otherwise
        return _failed(call, f"{type(error).__name__}: {error}")


def _failed(call: ToolCall, why: str) -> ToolResult:
    return ToolResult(call, _utf8(f"Error: {why}"), failed=True)


def _utf8(text: str) -> str:
    """The same without lone surrogates, as file names may have, which no message can hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def as_text(value: Any) -> str:
    """What a tool gave back, as the model reads it: a str as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    dump = getattr(value, "model_dump_json", None)  # pydantic's models
    return str(dump()) if dump is not None else json.dumps(value, ensure_ascii=False, default=str)


def drive(work: _Steps, chat: Callable[..., ChatCompletion]) -> ToolRun:
    """Do the steps in this thread."""
    try:
        step = next(work)
        while True:
            try:
                value = chat(step.messages, **step.options) if isinstance(step, _Ask) else _called(step)
            except Exception as error:
                step = work.throw(error)
            else:
                step = work.send(value)
    except StopIteration as end:
        result: ToolRun = end.value
        return result


def _called(step: _Run) -> Any:
    value = step.function(step.argument)
    if inspect.iscoroutine(value):
        value.close()
        raise OptionError("the function is a coroutine: use AsyncLLM.run_tools")
    return value


async def drive_async(work: _Steps, chat: Callable[..., Any]) -> ToolRun:
    """Do the steps on this event loop; functions that are no coroutines run in threads."""
    try:
        step = next(work)
        while True:
            try:
                value = await chat(step.messages, **step.options) if isinstance(step, _Ask) else await _called_async(step)
            except Exception as error:
                step = work.throw(error)
            else:
                step = work.send(value)
    except StopIteration as end:
        result: ToolRun = end.value
        return result


async def _called_async(step: _Run) -> Any:
    import asyncio  # as long to import as all of gollama

    value = await asyncio.to_thread(step.function, step.argument)
    return await value if inspect.isawaitable(value) else value
