"""/v1/chat/completions."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from gollama.aio import AsyncLLM
from gollama.async_jobs import AsyncStream
from gollama.options import SamplingParams
from gollama.results import ChatChunk, ChatCompletion
from gollama.server.body import read_body
from gollama.server.documents import taking
from gollama.server.errors import ApiError, as_api_error
from gollama.server.openai.fields import Conversing, sampling_params, time_limit
from gollama.server.openai.messages import MOST_MESSAGES, check_count, cleaned
from gollama.server.openai.parts import (
    DONE,
    chat_logprobs,
    choices_of,
    error_event,
    finish_reason,
    new_id,
    timings_object,
    usage_object,
)
from gollama.server.openai.schemas import answer_schema
from gollama.server.record import RequestRecord
from gollama.server.replies import dumps, json_response
from gollama.server.service import Service, fingerprint, record, service_of
from gollama.server.sse import Events, EventStream
from gollama.server.waiting import while_there

router = APIRouter(tags=["OpenAI"])


class ChatRequest(Conversing):
    """OpenAI's request, with llama-server's and gollama's additions."""

    messages: list[dict[str, Any]] = Field(max_length=MOST_MESSAGES)
    max_completion_tokens: int | None = None
    response_format: dict[str, Any] | None = None
    json_schema: dict[str, Any] | None = None
    logprobs: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    thinking_budget_tokens: int | None = Field(None, ge=0)
    reasoning_format: Literal["auto", "deepseek"] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | Literal["content", "reasoning"] | None = None
    modalities: list[Literal["text"]] | None = None
    verbosity: str | None = None

    def token_limit(self) -> tuple[str, int | None]:
        if self.max_completion_tokens is not None:
            return "max_completion_tokens", self.max_completion_tokens
        return super().token_limit()


KNOWN = frozenset(ChatRequest.model_fields)
Writer = Callable[[str, AsyncLLM, ChatCompletion], Any]  # of a model's name, the model, and its answer
Teller = Callable[[str, AsyncLLM, AsyncStream[ChatChunk]], Events]


async def chat_options(body: ChatRequest) -> dict[str, Any]:
    """The fields of ChatOptions."""
    options = body.given("parallel_tool_calls", "add_generation_prompt", "continue_final_message")
    kwargs = dict(body.chat_template_kwargs or {})
    if body.tools:
        options["tools"], options["tool_choice"] = chosen_tools(body.tools, body.tool_choice)
    elif body.tool_choice not in (None, "none", "auto"):
        raise ApiError(400, "tool_choice needs tools", param="tool_choice", code="invalid_value")
    if body.json_schema is not None and body.response_format is not None:
        raise ApiError(400, "json_schema and response_format exclude each other", param="json_schema", code="invalid_value")
    options["schema"] = await answer_schema(body.response_format, body.json_schema)
    if body.thinking_budget_tokens is not None:
        options["thinking"] = body.thinking_budget_tokens
    elif "enable_thinking" in kwargs:
        options["thinking"] = bool(kwargs.pop("enable_thinking"))
    elif body.reasoning_effort == "none":
        options["thinking"] = False
    if body.reasoning_effort not in (None, "none"):
        kwargs.setdefault("reasoning_effort", body.reasoning_effort)
    if kwargs:
        options["template_kwargs"] = kwargs
    return options


def chosen_tools(tools: list[dict[str, Any]], choice: str | dict[str, Any] | None) -> tuple[list[dict[str, Any]], Any]:
    """The tools to be offered, and the choice among them as ChatOptions takes it."""
    if not isinstance(choice, dict) or choice.get("type") != "allowed_tools":
        return tools, "auto" if choice is None else choice
    allowed = choice.get("allowed_tools", choice)
    named = allowed.get("tools") if isinstance(allowed, dict) else None
    if not isinstance(named, list):
        raise ApiError(400, "tool_choice: allowed_tools needs a list of tools", param="tool_choice", code="invalid_value")
    offered, names = [_tool_name(tool) for tool in tools], [_tool_name(one) for one in named]
    if None in names or not set(names) <= set(offered):
        raise ApiError(400, "tool_choice: allowed_tools names what is not among tools", param="tool_choice", code="invalid_value")
    return [tool for tool, name in zip(tools, offered) if name in names], allowed.get("mode", "auto")


def _tool_name(tool: Any) -> str | None:
    """Of a tool in OpenAI's form, nested or flat; None for what is none."""
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None


def chat_params(body: ChatRequest, llm: AsyncLLM, service: Service) -> SamplingParams:
    if body.top_logprobs is not None and not body.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs", code="invalid_value")
    more: dict[str, Any] = {"logprobs": body.top_logprobs or 0} if body.logprobs else {}
    return sampling_params(body, llm, service.config, **more)


@router.post("/v1/chat/completions", openapi_extra=taking(ChatRequest))
@router.post("/chat/completions", include_in_schema=False)
async def chat_completions(request: Request) -> Response:
    """Answer a conversation."""
    service = service_of(request)
    body = await read_body(request, ChatRequest)
    check_count(body.messages, service.config)
    try:
        return await (_streamed if body.stream else _whole)(request, service, body)
    except Exception as error:
        raise as_api_error(error, KNOWN) from error


async def _arguments(service: Service, body: ChatRequest, llm: AsyncLLM) -> dict[str, Any]:
    """Those of AsyncLLM.chat."""
    return {"messages": cleaned(body.messages), "params": chat_params(body, llm, service), "timeout": time_limit(body, service.config),
            **await chat_options(body)}


async def answer_chat(request: Request, service: Service, body: ChatRequest, write: Writer) -> Response:
    """The answer to a chat, as `write` puts it."""
    async def answered() -> ChatCompletion:
        return await llm.chat(**await _arguments(service, body, llm))

    async with service.generator(request, body.model) as (name, llm):
        completion = await while_there(request, answered())
        for choice in choices_of(completion):
            record(request).note(choice.usage, choice.timings)
        return json_response(write(name, llm, completion))


async def stream_chat(request: Request, service: Service, body: ChatRequest, events: Teller, **stream_options: Any) -> Response:
    """The same piece by piece, as `events` tells it; `stream_options` are EventStream's."""
    async with contextlib.AsyncExitStack() as held:
        name, llm = await held.enter_async_context(service.generator(request, body.model))
        stream = await llm.open_stream_chat(**await _arguments(service, body, llm))
        held.push_async_callback(stream.aclose)
        return EventStream(events(name, llm, stream), held=held.pop_all(), stop=stream.aclose,
                           write_timeout=service.config.write_timeout, **stream_options)


# ---- at once ----


async def _whole(request: Request, service: Service, body: ChatRequest) -> Response:
    return await answer_chat(request, service, body, _completion)


def _completion(name: str, llm: AsyncLLM, completion: ChatCompletion) -> dict[str, Any]:
    choices: Sequence[ChatCompletion] = choices_of(completion)
    usage = usage_object([choice.usage for choice in choices], [choice.reasoning_tokens for choice in choices])
    return {
        "id": new_id("chatcmpl-"), "object": "chat.completion", "created": int(time.time()), "model": name,
        "system_fingerprint": fingerprint(), "choices": [_choice(llm, choice) for choice in choices],
        "usage": usage, "timings": timings_object(completion.timings)}


def _choice(llm: AsyncLLM, choice: ChatCompletion) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text or (None if choice.tool_calls else ""), "refusal": None}
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    if choice.tool_calls:
        message["tool_calls"] = [call.as_dict() for call in choice.tool_calls]
    return {"index": choice.index, "message": message, "finish_reason": finish_reason(choice.finish_reason),
            "logprobs": None if choice.logprobs is None else chat_logprobs(llm, choice.logprobs)}


# ---- piece by piece ----


async def _streamed(request: Request, service: Service, body: ChatRequest) -> Response:
    def events(name: str, llm: AsyncLLM, stream: AsyncStream[ChatChunk]) -> Events:
        return ChatChunks(name, llm, usage=body.wants_usage).events(stream, body.n or 1, record(request))

    return await stream_chat(request, service, body, events, error_event=error_event)


class ChatChunks:
    """Writes `chat.completion.chunk`s. What is the same in all of them is written once."""

    def __init__(self, name: str, llm: AsyncLLM, *, usage: bool) -> None:
        self._llm, self._usage = llm, usage
        head = dumps({"id": new_id("chatcmpl-"), "object": "chat.completion.chunk", "created": int(time.time()), "model": name,
                      "system_fingerprint": fingerprint()})[:-1]
        self._head = b"data: " + head + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if usage else b"]}\n\n"

    async def events(self, stream: AsyncStream[ChatChunk], n: int, noted: RequestRecord) -> Events:
        yield b"".join(self._event(index, b'{"role":"assistant","content":null}') for index in range(n))
        ended: list[ChatCompletion] = []
        while chunks := await stream.read():
            for chunk in chunks:
                noted.note(chunk.usage, chunk.timings)
                if chunk.completion is not None:
                    ended.append(chunk.completion)
            yield b"".join(map(self.of, chunks))
        yield self._end(ended) + DONE

    def of(self, chunk: ChatChunk) -> bytes:
        """The events of a chunk."""
        if chunk.text and not (chunk.reasoning or chunk.tool_calls or chunk.logprobs or chunk.finish_reason):
            return self._event(chunk.index, b'{"content":' + dumps(chunk.text) + b"}")
        events = []
        logprobs = None if not chunk.logprobs else dumps(chat_logprobs(self._llm, chunk.logprobs))
        if chunk.reasoning:
            events.append(self._event(chunk.index, dumps({"reasoning_content": chunk.reasoning})))
        if chunk.text or logprobs:
            events.append(self._event(chunk.index, dumps({"content": chunk.text}), logprobs))
        events += [self._event(chunk.index, dumps({"tool_calls": [_call(delta)]})) for delta in chunk.tool_calls]
        if chunk.finish_reason is not None:
            events.append(self._event(chunk.index, b"{}", None, b'"' + finish_reason(chunk.finish_reason).encode() + b'"'))
        return b"".join(events)

    def _event(self, index: int, delta: bytes, logprobs: bytes | None = None, reason: bytes = b"null") -> bytes:
        return b'%b{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}%b' % (
            self._head, index, delta, logprobs or b"null", reason, self._tail)

    def _end(self, ended: Sequence[ChatCompletion]) -> bytes:
        if not self._usage:
            return b""
        more = {"usage": usage_object([one.usage for one in ended], [one.reasoning_tokens for one in ended]),
                "timings": timings_object(ended[0].timings) if ended else None}
        return self._head + b"]," + dumps(more)[1:] + b"\n\n"


def _call(delta: Any) -> dict[str, Any]:
    if delta.id is None:
        return {"index": delta.index, "function": {"arguments": delta.arguments}}
    return {"index": delta.index, "id": delta.id, "type": "function", "function": {"name": delta.name, "arguments": delta.arguments}}
