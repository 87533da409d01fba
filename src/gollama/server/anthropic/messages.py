"""/v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from gollama.aio import AsyncLLM
from gollama.async_jobs import AsyncStream
from gollama.errors import ThinkingError
from gollama.results import ChatChunk, ChatCompletion
from gollama.server.anthropic.asked import chat_of
from gollama.server.anthropic.events import ERROR_SCHEMA, PING, MessageEvents, error_event, message_of
from gollama.server.anthropic.fields import CountRequest, MessagesRequest
from gollama.server.body import read_body
from gollama.server.documents import taking
from gollama.server.openai.chat import ChatRequest, answer_chat, chat_options, stream_chat
from gollama.server.openai.messages import check_count
from gollama.server.replies import json_response
from gollama.server.service import record, service_of
from gollama.server.sse import Events

PREFIX = "/v1/messages"

router = APIRouter(tags=["Anthropic"])


def _tell_id(request: Request) -> None:
    """By the name under which Anthropic's clients look for it."""
    noted = record(request)
    noted.headers.append((b"request-id", noted.id.encode()))


@router.post(PREFIX, openapi_extra=taking(MessagesRequest, errors=ERROR_SCHEMA))
async def messages(request: Request) -> Response:
    """Answer a conversation, by Anthropic's API."""
    _tell_id(request)
    service = service_of(request)
    body = await read_body(request, MessagesRequest)
    check_count(body.messages, service.config)

    def write(name: str, _: AsyncLLM, completion: ChatCompletion) -> object:
        return message_of(name, body, completion)

    def events(name: str, _: AsyncLLM, stream: AsyncStream[ChatChunk]) -> Events:
        return MessageEvents(name, body).events(stream, record(request))

    async def answered(chat: ChatRequest) -> Response:
        if body.stream:
            return await stream_chat(request, service, chat, events, error_event=error_event, ping=PING)
        return await answer_chat(request, service, chat, write)

    chat = chat_of(body)
    try:
        return await answered(chat)
    except ThinkingError:  # clients set a limit for any model; one that does not think keeps it
        return await answered(chat.model_copy(update={"thinking_budget_tokens": None}))


@router.post(f"{PREFIX}/count_tokens", openapi_extra=taking(CountRequest, stream=False, errors=ERROR_SCHEMA))
async def count_tokens(request: Request) -> Response:
    """How many tokens the prompt of such a conversation has."""
    _tell_id(request)
    service = service_of(request)
    body = await read_body(request, CountRequest)
    check_count(body.messages, service.config)
    chat = chat_of(body)
    async with service.model(request, chat.model) as (_, llm):
        options = await chat_options(chat.model_copy(update={"thinking_budget_tokens": None}))
        prompt = await asyncio.to_thread(lambda: llm.render_chat(chat.messages, **options))
    return json_response({"input_tokens": len(prompt.tokens)})
