"""A request of Ollama's as one of OpenAI's, which is what the engine's side takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gollama.server.ollama.fields import Answering, Call, ChatBody, GenerateBody, Message, option_fields, refused
from gollama.server.openai.chat import ChatRequest
from gollama.server.openai.completions import CompletionRequest

Item = dict[str, Any]


def chat_of(body: ChatBody, context_size: int | None) -> ChatRequest:
    return ChatRequest.model_construct(messages=messages_of(body.messages or []), tools=body.tools, **_shared(body, context_size),
                                       **_wishes(body))


def generated_chat_of(body: GenerateBody, context_size: int | None) -> ChatRequest:
    """A prompt that goes through the model's template."""
    system = [{"role": "system", "content": body.system}] if body.system else []
    return ChatRequest.model_construct(messages=[*system, {"role": "user", "content": body.prompt or ""}],
                                       **_shared(body, context_size), **_wishes(body))


def completion_of(body: GenerateBody, context_size: int | None) -> CompletionRequest:
    """A prompt as it is, or one that is to be filled in."""
    if body.format not in (None, ""):
        raise refused("format needs the model's template: leave raw and suffix out", "format", "unsupported")
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    return CompletionRequest.model_construct(prompt=body.prompt or "", suffix=body.suffix or None, logprobs=logprobs,
                                             **_shared(body, context_size))


def _shared(body: Answering, context_size: int | None) -> Item:
    if body.top_logprobs and not body.logprobs:
        raise refused("top_logprobs needs logprobs: true", "top_logprobs")
    fields = option_fields(body.options, context_size)
    if body.truncate is not False or body.shift:  # Ollama, too, shortens a prompt unless it is told not to
        fields["overflow"] = "shift" if body.shift else "truncate"
    return {"model": body.model, "stream": body.streams, **fields}


def _wishes(body: Answering) -> Item:
    """What only a chat can be asked for."""
    fields: Item = {"logprobs": body.logprobs, "top_logprobs": body.top_logprobs}
    if isinstance(body.format, dict):
        fields["json_schema"] = body.format
    elif body.format == "json":
        fields["response_format"] = {"type": "json_object"}
    elif body.format:
        raise refused(f"invalid format: {body.format[:40]!r}; expected \"json\" or a JSON schema", "format")
    if body.think is False:
        fields["reasoning_effort"] = "none"
    elif isinstance(body.think, str):
        fields["reasoning_effort"] = body.think
    return fields


# ---- messages ----


def messages_of(given: Sequence[Message]) -> list[Item]:
    """In OpenAI's form, where each call has an id, and each result says whose it is."""
    messages: list[Item] = []
    waiting: list[Item] = []  # calls without a result
    for index, message in enumerate(given):
        path = f"messages[{index}]"
        if message.images:
            raise refused(f"{path}.images: images are not supported here; send text", path, "unsupported_content")
        one: Item = {"role": message.role, "content": message.content or ""}
        if message.thinking:
            one["reasoning_content"] = message.thinking
        if message.tool_calls:
            one["tool_calls"] = [_call(f"call_{index}_{number}", call) for number, call in enumerate(message.tool_calls)]
            waiting = list(one["tool_calls"])
        if message.role == "tool":
            one["tool_call_id"] = message.tool_call_id or _answered(path, message, waiting)
        messages.append(one)
    return messages


def _call(default_id: str, call: Call) -> Item:
    return {"id": call.id or default_id, "type": "function",
            "function": {"name": call.function.name, "arguments": json.dumps(call.function.arguments)}}


def _answered(path: str, message: Message, waiting: list[Item]) -> str:
    """The id of the call that a result belongs to: the first one of that name, or at all, that has none yet."""
    for call in waiting:
        if message.tool_name in (None, "", call["function"]["name"]):
            waiting.remove(call)
            return str(call["id"])
    raise refused(f"{path}: no message before has a call of a tool that this is the result of", path)
