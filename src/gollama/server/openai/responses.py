"""/v1/responses."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from gollama.aio import AsyncLLM
from gollama.results import ChatChunk, ChatCompletion
from gollama.server.body import read_body
from gollama.server.documents import taking
from gollama.server.errors import ApiError, as_api_error
from gollama.server.openai.chat import chosen_tools
from gollama.server.openai.fields import Conversing, sampling_params, time_limit
from gollama.server.openai.messages import check_count, cleaned
from gollama.server.openai.parts import chat_logprobs, finish_reason, new_id
from gollama.server.openai.response_events import ResponseEvents
from gollama.server.openai.response_items import Item, choice_of, format_of, messages_of, output_of, tools_of, usage_of
from gollama.server.openai.response_store import ResponseStore
from gollama.server.openai.schemas import answer_schema
from gollama.server.record import RequestRecord
from gollama.server.replies import json_response
from gollama.server.service import Service, record, service_of
from gollama.server.sse import EventStream
from gollama.server.waiting import while_there

router = APIRouter(tags=["OpenAI"])

ROOM = "responses"  # of what the service keeps for the routers


class ResponsesRequest(Conversing):
    """OpenAI's request, with llama-server's and gollama's additions."""

    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: int | None = None
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    include: list[str] | None = None
    previous_response_id: str | None = Field(None, max_length=128)
    truncation: Literal["auto", "disabled"] | None = None
    background: Literal[False] | None = None
    max_tool_calls: int | None = None

    def token_limit(self) -> tuple[str, int | None]:
        return ("max_output_tokens", self.max_output_tokens) if self.max_output_tokens is not None else super().token_limit()

    @property
    def wants_logprobs(self) -> bool:
        return self.top_logprobs is not None or "message.output_text.logprobs" in (self.include or [])


KNOWN = frozenset(ResponsesRequest.model_fields)


def store_of(service: Service) -> ResponseStore:
    if ROOM not in service.rooms:
        service.rooms[ROOM] = ResponseStore(service.config.stored_responses)
    found: ResponseStore = service.rooms[ROOM]
    return found


@dataclass(frozen=True)
class Task:
    """A checked request: `messages` are all, those of earlier responses too."""

    body: ResponsesRequest
    messages: list[Item]
    options: dict[str, Any]
    response: Item  # as it is before the answer
    noted: RequestRecord


async def _task(service: Service, body: ResponsesRequest, name: str, noted: RequestRecord) -> Task:
    if body.n not in (None, 1):
        raise ApiError(400, "a response is one answer: leave n out", param="n", code="invalid_value")
    before = []
    if body.previous_response_id is not None:
        before = store_of(service).get(body.previous_response_id, noted.key, "previous_response_id").messages
    messages = [*before, *messages_of(body.input)]
    check_count(messages, service.config)
    options = body.given("parallel_tool_calls")
    if body.tools:
        options["tools"], options["tool_choice"] = chosen_tools(tools_of(body.tools), choice_of(body.tool_choice))
    options["schema"] = await answer_schema(format_of(body.text))
    effort = (body.reasoning or {}).get("effort")
    if effort == "none":
        options["thinking"] = False
    elif effort is not None:
        options["template_kwargs"] = {"reasoning_effort": effort}
    return Task(body, messages, options, _response(body, name), noted)


def _response(body: ResponsesRequest, name: str) -> Item:
    return {"id": new_id("resp_"), "object": "response", "created_at": int(time.time()), "status": "in_progress", "background": False,
            "error": None, "incomplete_details": None, "instructions": body.instructions, "max_output_tokens": body.max_output_tokens,
            "max_tool_calls": body.max_tool_calls, "model": name, "output": [],
            "parallel_tool_calls": body.parallel_tool_calls is not False, "previous_response_id": body.previous_response_id,
            "reasoning": {"effort": (body.reasoning or {}).get("effort"), "summary": None}, "service_tier": "default",
            "store": body.store is not False, "temperature": body.temperature, "text": body.text or {"format": {"type": "text"}},
            "tool_choice": body.tool_choice or "auto", "tools": body.tools or [], "top_logprobs": body.top_logprobs or 0,
            "top_p": body.top_p, "truncation": body.truncation or "disabled", "usage": None, "user": body.user,
            "metadata": body.metadata or {}}


def _said(task: Task) -> list[Item]:
    """The messages for the model: the instructions are those of this request alone."""
    given = cleaned(task.messages)
    return given if task.body.instructions is None else [{"role": "system", "content": task.body.instructions}, *given]


def _arguments(task: Task, llm: AsyncLLM, service: Service) -> dict[str, Any]:
    more: dict[str, Any] = {"logprobs": task.body.top_logprobs or 0} if task.body.wants_logprobs else {}
    if task.body.truncation == "auto":
        more["overflow"] = "truncate"
    return {"params": sampling_params(task.body, llm, service.config, n=1, **more), "timeout": time_limit(task.body, service.config),
            **task.options}


def _finished(service: Service, task: Task, completion: ChatCompletion, output: list[Item]) -> Item:
    """The whole response, which is kept if that is wanted."""
    cut = finish_reason(completion.finish_reason) == "length"
    response = {**task.response, "status": "incomplete" if cut else "completed", "output": output, "usage": usage_of(completion),
                "incomplete_details": {"reason": "max_output_tokens"} if cut else None}
    if task.body.store is not False:
        given = [{"type": "message", "role": "user", "content": task.body.input}] if isinstance(task.body.input, str) else task.body.input
        store_of(service).put(response, given, [*task.messages, completion.message], task.noted.key)
    return response


@router.post("/v1/responses", openapi_extra=taking(ResponsesRequest))
@router.post("/responses", include_in_schema=False)
async def responses(request: Request) -> Response:
    """Answer, and keep the answer unless `store` is false."""
    service = service_of(request)
    body = await read_body(request, ResponsesRequest)
    try:
        return await (_streamed if body.stream else _whole)(request, service, body)
    except Exception as error:
        told = as_api_error(error, KNOWN | {"messages"})
        if (told.param or "").startswith("messages"):  # which were made of the input
            told.param = "input"
        raise told from error


def _logprobs(llm: AsyncLLM, logprobs: Sequence[Any] | None) -> list[Any]:
    found: list[Any] = chat_logprobs(llm, logprobs)["content"] if logprobs else []
    return found


async def _whole(request: Request, service: Service, body: ResponsesRequest) -> Response:
    async with service.generator(request, body.model) as (name, llm):
        task = await _task(service, body, name, record(request))
        completion = await while_there(request, llm.chat(_said(task), **_arguments(task, llm, service)))
        task.noted.note(completion.usage, completion.timings)
        output = output_of(completion, _logprobs(llm, completion.logprobs))
        return json_response(_finished(service, task, completion, output))


async def _streamed(request: Request, service: Service, body: ResponsesRequest) -> Response:
    async with contextlib.AsyncExitStack() as held:
        name, llm = await held.enter_async_context(service.generator(request, body.model))
        task = await _task(service, body, name, record(request))
        stream = await llm.open_stream_chat(_said(task), **_arguments(task, llm, service))
        held.push_async_callback(stream.aclose)

        def logprobs(chunk: ChatChunk) -> list[Any]:
            return _logprobs(llm, chunk.logprobs)

        def ended(completion: ChatCompletion, output: list[Item]) -> Item:
            return _finished(service, task, completion, output)

        events = ResponseEvents(task.response, logprobs)
        return EventStream(events.events(stream, task.noted, ended), held=held.pop_all(), stop=stream.aclose,
                           write_timeout=service.config.write_timeout, error_event=events.failed)


@router.get("/v1/responses/{response_id}")
async def kept_response(request: Request, response_id: str) -> Response:
    """One that was kept."""
    return json_response(store_of(service_of(request)).get(response_id, record(request).key).response)


@router.get("/v1/responses/{response_id}/input_items")
async def input_items(request: Request, response_id: str) -> Response:
    """What it was asked with."""
    items = store_of(service_of(request)).get(response_id, record(request).key).items
    return json_response({"object": "list", "data": items, "first_id": None, "last_id": None, "has_more": False})


@router.delete("/v1/responses/{response_id}")
async def delete_response(request: Request, response_id: str) -> Response:
    """Forget it."""
    store_of(service_of(request)).delete(response_id, record(request).key)
    return json_response({"id": response_id, "object": "response", "deleted": True})
