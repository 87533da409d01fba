"""/api/chat and /api/generate."""

from __future__ import annotations

import contextlib
from typing import Any

from fastapi import APIRouter, Request, Response

from gollama.aio import AsyncLLM
from gollama.async_jobs import AsyncStream
from gollama.results import ChatChunk, ChatCompletion
from gollama.server.body import read_body
from gollama.server.documents import taking
from gollama.server.ollama.asked import chat_of, completion_of, generated_chat_of
from gollama.server.ollama.fields import Answering, ChatBody, GenerateBody, check_keep_alive, refused
from gollama.server.ollama.names import plain_name
from gollama.server.ollama.told import ERROR_SCHEMA, NDJSON, Piece, Teller, chat_piece, error_line, generate_piece, now
from gollama.server.openai.chat import answer_chat, stream_chat
from gollama.server.openai.completions import completion_task, stream_completion
from gollama.server.openai.fields import time_limit
from gollama.server.openai.messages import check_count
from gollama.server.replies import json_response
from gollama.server.service import Service, record, service_of
from gollama.server.sse import Events
from gollama.server.waiting import while_there

PREFIX = "/api/"

router = APIRouter(tags=["Ollama"])


@router.post("/api/chat", openapi_extra=taking(ChatBody, stream=NDJSON, errors=ERROR_SCHEMA))
async def chat(request: Request) -> Response:
    """Answer a conversation, by Ollama's API."""
    service = service_of(request)
    body = await read_body(request, ChatBody)
    check_count(body.messages or [], service.config)
    return await (_chatted if body.messages else _loaded)(request, service, body, chat_piece)


@router.post("/api/generate", openapi_extra=taking(GenerateBody, stream=NDJSON, errors=ERROR_SCHEMA))
async def generate(request: Request) -> Response:
    """Answer a prompt, through the model's template or, with `raw` or `suffix`, as it is."""
    service = service_of(request)
    body = await read_body(request, GenerateBody)
    _check(body)
    if not body.prompt and not body.suffix:
        return await _loaded(request, service, body, generate_piece)
    if body.raw or body.suffix:
        return await _continued(request, service, body)
    return await _chatted(request, service, body, generate_piece)


def _check(body: GenerateBody) -> None:
    if body.images:
        raise refused("images are not supported here; send text", "images", "unsupported_content")
    if body.template:
        raise refused("a request cannot bring a template here: use raw, or load the model with chat_template", "template", "unsupported")
    if body.context:
        raise refused("context is not supported here: send the conversation to /api/chat", "context", "unsupported")
    if body.raw and body.system:
        raise refused("raw mode does not support template, system, or context", "system")


def _unloads(body: Answering) -> bool:
    return body.keep_alive is not None and str(body.keep_alive).rstrip("smh") in ("0", "0.0")


async def _loaded(request: Request, service: Service, body: Answering, piece: Piece) -> Response:
    """A request without a prompt loads the model."""
    check_keep_alive(body.keep_alive)
    if _unloads(body):
        raise refused("a model is unloaded by POST /models/unload here", "keep_alive", "unsupported")
    async with service.model(request, plain_name(service, body.model)):
        return json_response({"model": body.model, "created_at": now(), **piece(""), "done": True, "done_reason": "load"})


async def _chatted(request: Request, service: Service, body: ChatBody | GenerateBody, piece: Piece) -> Response:
    """By the functions of OpenAI's chat."""
    check_keep_alive(body.keep_alive)
    noted, asked, size = record(request), body.model, _context_size(service, body)
    made = chat_of(body, size) if isinstance(body, ChatBody) else generated_chat_of(body, size)
    made.model = plain_name(service, asked)

    def write(_: str, llm: AsyncLLM, completion: ChatCompletion) -> dict[str, Any]:
        return Teller(piece, asked, llm, noted).whole(completion)

    def events(_: str, llm: AsyncLLM, stream: AsyncStream[ChatChunk]) -> Events:
        return Teller(piece, asked, llm, noted).lines(stream)

    if body.streams:
        return await stream_chat(request, service, made, events, error_event=error_line, media_type=NDJSON, ping=b"")
    return await answer_chat(request, service, made, write)


def _context_size(service: Service, body: Answering) -> int | None:
    """The model's, if it is loaded."""
    llm = service.served(plain_name(service, body.model)).llm
    return None if llm is None or not llm.model.is_generative else llm.context_size


async def _continued(request: Request, service: Service, body: GenerateBody) -> Response:
    """By the functions of OpenAI's completions."""
    check_keep_alive(body.keep_alive)
    noted = record(request)
    async with contextlib.AsyncExitStack() as held:
        _, llm = await held.enter_async_context(service.generator(request, plain_name(service, body.model)))
        task = await completion_task(service, completion_of(body, llm.context_size), llm)
        teller = Teller(generate_piece, body.model, llm, noted)
        if body.streams:
            return await stream_completion(service, held, task, lambda streams: teller.lines(streams[0]), error_event=error_line,
                                           media_type=NDJSON, ping=b"")
        params, limit = task.params(service), time_limit(task.body, service.config)
        completion = await while_there(request, llm.generate(task.prompts[0], params=params, timeout=limit))
        noted.note(completion.usage, completion.timings)
        return json_response(teller.whole(completion))
