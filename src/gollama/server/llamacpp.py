"""llama-server's own routes: tokens, templates, infill, reranking, properties."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from gollama.aio import AsyncLLM
from gollama.chat import ChatPrompt
from gollama.errors import GollamaError, NativeError, OptionError
from gollama.results import RerankResult, Usage
from gollama.server.body import Body, read_body
from gollama.server.documents import taking
from gollama.server.errors import ApiError, as_api_error, incapable
from gollama.server.openai.chat import ChatRequest, chat_options
from gollama.server.openai.embeddings import inputs_of
from gollama.server.openai.fields import Generating, sampling_params, time_limit
from gollama.server.openai.messages import check_count, cleaned
from gollama.server.openai.parts import finish_reason, timings_object, usage_object
from gollama.server.replies import json_response
from gollama.server.service import record, service_of
from gollama.server.waiting import while_there

router = APIRouter(tags=["llama.cpp"])

MOST_TOKENS = 2**20


class TokenizeRequest(Body):
    model: str | None = Field(None, max_length=256)
    content: str
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False


class DetokenizeRequest(Body):
    model: str | None = Field(None, max_length=256)
    tokens: list[int] = Field(max_length=MOST_TOKENS)


class InfillRequest(Generating):
    input_prefix: str
    input_suffix: str


class RerankRequest(Body):
    model: str | None = Field(None, max_length=256)
    query: str
    documents: list[str]
    top_n: int | None = Field(None, ge=1)
    return_documents: bool = False


def _piece(llm: AsyncLLM, token: int) -> Any:
    """A token's text; its bytes where they are no whole character."""
    data = llm.sync.model.token_bytes(token)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)


@router.post("/tokenize", openapi_extra=taking(TokenizeRequest, stream=False))
async def tokenize(request: Request) -> Response:
    """Text to token ids; with `with_pieces` each with its text."""
    body = await read_body(request, TokenizeRequest)
    try:
        async with service_of(request).model(request, body.model) as (_, llm):
            def run() -> list[Any]:
                tokens = llm.tokenize(body.content, add_special=body.add_special, parse_special=body.parse_special)
                if body.with_pieces and len(tokens) > MOST_TOKENS:  # which would take a hundred times the request's memory
                    raise ApiError(400, f"with_pieces is for {MOST_TOKENS} tokens at most, not {len(tokens)}", param="content",
                                   code="too_many")
                return [{"id": token, "piece": _piece(llm, token)} for token in tokens] if body.with_pieces else tokens

            return json_response({"tokens": await asyncio.to_thread(run)})
    except GollamaError as error:
        raise as_api_error(error, frozenset(TokenizeRequest.model_fields)) from error


@router.post("/detokenize", openapi_extra=taking(DetokenizeRequest, stream=False))
async def detokenize(request: Request) -> Response:
    """Token ids to text."""
    body = await read_body(request, DetokenizeRequest)
    try:
        async with service_of(request).model(request, body.model) as (_, llm):
            return json_response({"content": await asyncio.to_thread(llm.detokenize, body.tokens)})
    except OptionError as error:
        raise ApiError(400, str(error), param="tokens", code="invalid_value") from None


@router.post("/apply-template", openapi_extra=taking(ChatRequest, stream=False))
async def apply_template(request: Request) -> Response:
    """The prompt that a chat makes."""
    return json_response({"prompt": (await _prompt(request)).text})


async def _prompt(request: Request) -> ChatPrompt:
    service = service_of(request)
    body = await read_body(request, ChatRequest)
    check_count(body.messages, service.config)
    try:
        async with service.model(request, body.model) as (_, llm):
            options = await chat_options(body)
            return await asyncio.to_thread(lambda: llm.render_chat(cleaned(body.messages), **options))
    except GollamaError as error:
        raise as_api_error(error, frozenset(ChatRequest.model_fields)) from error


@router.post("/v1/chat/completions/input_tokens", openapi_extra=taking(ChatRequest, stream=False))
@router.post("/chat/completions/input_tokens", include_in_schema=False)
async def input_tokens(request: Request) -> Response:
    """How many tokens the prompt has that a chat makes."""
    return json_response({"input_tokens": len((await _prompt(request)).tokens)})


@router.post("/infill", openapi_extra=taking(InfillRequest, stream=False))
async def infill(request: Request) -> Response:
    """What stands between two texts."""
    service = service_of(request)
    body = await read_body(request, InfillRequest)
    if body.stream:
        raise ApiError(400, "infill does not stream: use /v1/completions with suffix", param="stream", code="unsupported")
    try:
        async with service.generator(request, body.model) as (name, llm):
            params, limit = sampling_params(body, llm, service.config, n=1), time_limit(body, service.config)
            found = await while_there(request, llm.infill(body.input_prefix, body.input_suffix, params=params, timeout=limit))
    except NativeError as error:
        raise incapable(error, llm.sync.model.path) from None
    except Exception as error:
        raise as_api_error(error, frozenset(InfillRequest.model_fields)) from error
    record(request).note(found.usage, found.timings)
    return json_response({"content": found.text, "tokens": found.tokens, "model": name, "stop": True,
                          "stop_type": "limit" if finish_reason(found.finish_reason) == "length" else "eos",
                          "tokens_predicted": found.usage.completion_tokens, "tokens_evaluated": found.usage.prompt_tokens,
                          "usage": usage_object([found.usage]), "timings": timings_object(found.timings)})


@router.post("/v1/rerank", openapi_extra=taking(RerankRequest, stream=False))
@router.post("/rerank", include_in_schema=False)
@router.post("/reranking", include_in_schema=False)
@router.post("/v1/reranking", include_in_schema=False)
async def rerank(request: Request) -> Response:
    """Documents by how well they answer a query, best first."""
    service = service_of(request)
    body = await read_body(request, RerankRequest)
    documents = [str(one) for one in inputs_of(body.documents, "documents", service.config)]
    try:
        async with service.model(request, body.model) as (name, llm):
            def run(stop: threading.Event) -> tuple[list[RerankResult], int]:
                tokens = sum(len(llm.tokenize(text)) for text in documents) + len(documents) * len(llm.tokenize(body.query))
                return llm.sync.rerank(body.query, documents, top_n=body.top_n, stop=stop), tokens

            results, tokens = await service.compute(request, run)
    except NativeError as error:
        raise incapable(error, llm.sync.model.path) from None
    except GollamaError as error:
        raise as_api_error(error, frozenset(RerankRequest.model_fields)) from error
    record(request).note(Usage(tokens, 0), None)
    rows: list[dict[str, Any]] = [{"index": one.index, "relevance_score": one.score} for one in results]
    if body.return_documents:
        rows = [{**row, "document": {"text": documents[row["index"]]}} for row in rows]
    return json_response({"object": "list", "model": name, "results": rows, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})


@router.get("/props")
async def props(request: Request) -> Response:
    """What the first model is, or the one that `model` names."""
    service = service_of(request)
    name = service.model_name(request.query_params.get("model"))
    found = service.served(name)
    facts: dict[str, Any] = {"model_alias": name, "state": found.state, "time": int(time.time())}
    if found.llm is not None and found.llm.model.is_generative:
        model = found.llm.model
        facts |= {"total_slots": found.llm.options.max_sequences, "chat_template": model.chat_template() or "",
                  "default_generation_settings": {"n_ctx": found.llm.context_size}, "modalities": {"vision": False, "audio": False}}
    return json_response(facts)
