"""llama-server's own /completion."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from gollama.aio import AsyncLLM
from gollama.async_jobs import AsyncStream
from gollama.options import SamplingParams
from gollama.results import Chunk, Completion
from gollama.server.body import read_body
from gollama.server.documents import taking
from gollama.server.errors import ApiError, as_api_error
from gollama.server.openai.completions import CompletionRequest, Task, check_completion, completion_task, merged, stream_completion
from gollama.server.openai.fields import MOST_LOGPROBS, time_limit
from gollama.server.openai.parts import chat_logprobs, error_event, finish_reason, timings_object
from gollama.server.record import RequestRecord
from gollama.server.replies import dumps, json_response
from gollama.server.service import Service, record, service_of
from gollama.server.sse import Events, data_event
from gollama.server.waiting import while_there

router = APIRouter(tags=["llama.cpp"])

# ours, theirs, where they differ
SETTINGS = {"max_tokens": "n_predict", "typical_p": "typ_p", "dynamic_temperature_range": "dynatemp_range",
            "dynamic_temperature_exponent": "dynatemp_exponent", "keep": "n_keep", "logprobs": "n_probs"}
UNTOLD = ("n", "prompt_logprobs", "grammar_triggers", "cache_prompt", "overflow", "adapters", "control_vectors", "logit_bias")


class NativeRequest(CompletionRequest):
    """/v1/completions' fields, with llama-server's. A prompt may be a text, token ids, both mixed, an object with `prompt_string`, or
    several of these."""

    prompt: str | list[Any] | dict[str, Any]  # type: ignore[assignment]
    n_probs: int | None = Field(None, ge=0, le=MOST_LOGPROBS)
    return_tokens: bool | None = None
    response_fields: list[str] | None = Field(None, max_length=64)
    suffix: None = None
    echo: Literal[False] | None = None
    best_of: None = None
    n: Literal[1] | None = None


KNOWN = frozenset(NativeRequest.model_fields)


@router.post("/completion", openapi_extra=taking(NativeRequest))
@router.post("/completions", include_in_schema=False)
async def completion(request: Request) -> Response:
    """Continue texts, as llama-server does."""
    service = service_of(request)
    body = await read_body(request, NativeRequest)
    check_completion(body, service)
    try:
        return await (_streamed if body.stream else _whole)(request, service, body)
    except Exception as error:
        raise as_api_error(error, KNOWN) from error


# ---- prompts ----


def is_several(prompt: Any) -> bool:
    """Whether there are prompts in the list, and not the pieces of one."""
    return isinstance(prompt, list) and not any(isinstance(one, int) for one in prompt)


def prompts_of(prompt: Any, llm: AsyncLLM) -> list[str | list[int]]:
    return [_prompt(one, llm) for one in prompt] if is_several(prompt) else [_prompt(prompt, llm)]


def _prompt(prompt: Any, llm: AsyncLLM) -> str | list[int]:
    if isinstance(prompt, dict):
        text = prompt.get("prompt_string")
        if prompt.get("multimodal_data"):
            raise ApiError(400, "prompt: images and audio are not supported here; send text", param="prompt", code="unsupported_content")
        if isinstance(text, str):
            return text
    if isinstance(prompt, str):
        return prompt
    if not isinstance(prompt, list) or not all(type(one) in (int, str) for one in prompt):
        raise ApiError(400, "prompt must be a text, token ids, both mixed, an object with prompt_string, or a list of these",
                       param="prompt", code="invalid_type")
    tokens: list[int] = []
    for index, one in enumerate(prompt):
        tokens += llm.tokenize(one, add_special=index == 0, parse_special=True) if isinstance(one, str) else [one]
    return tokens


async def _task(service: Service, body: NativeRequest, llm: AsyncLLM) -> Task:
    prompts = await asyncio.to_thread(prompts_of, body.prompt, llm)
    return await completion_task(service, body.model_copy(update={"prompt": prompts, "logprobs": body.n_probs}), llm)


# ---- answers ----


def _end(task: Task, index: int, one: Completion | Chunk, params: SamplingParams) -> dict[str, Any]:
    """What comes with the last word."""
    assert one.usage is not None and one.timings is not None and one.finish_reason is not None
    cut = finish_reason(one.finish_reason) == "length"
    settings: dict[str, Any] = {SETTINGS.get(field.name, field.name): getattr(params, field.name)
                                for field in dataclasses.fields(params) if field.name not in UNTOLD}
    settings["n_predict"] = -1 if params.max_tokens is None else params.max_tokens
    settings["logit_bias"] = [{"token": token, "bias": bias if bias > float("-inf") else None} for token, bias in params.logit_bias.items()]
    if params.ignore_eos:
        settings["logit_bias"] += [{"token": token, "bias": None} for token in task.llm.sync.model.end_tokens]
    full = one.usage.total_tokens >= task.llm.context_size
    return {"tokens_predicted": one.usage.completion_tokens, "tokens_evaluated": one.usage.prompt_tokens, "tokens_cached":
            one.usage.cached_tokens, "generation_settings": settings, "prompt": task.llm.detokenize(task.prompts[index]), "truncated": full,
            "stop_type": "limit" if cut else "word" if one.stopping_word else "eos", "stopping_word": one.stopping_word or "",
            "timings": timings_object(one.timings)}


def _probabilities(task: Task, one: Completion | Chunk) -> dict[str, Any]:
    return {} if not task.body.logprobs or not one.logprobs else {
        "completion_probabilities": chat_logprobs(task.llm, one.logprobs)["content"]}


async def _whole(request: Request, service: Service, body: NativeRequest) -> Response:
    async with service.generator(request, body.model) as (name, llm):
        task = await _task(service, body, llm)
        params, limit = task.params(service), time_limit(body, service.config)
        found = await while_there(request, llm.generate(task.prompts, params=params, timeout=limit))
        for one in found:
            record(request).note(one.usage, one.timings)
        told = [_chosen(_answer(task, name, index, one, params), body.response_fields) for index, one in enumerate(found)]
        return json_response(told if is_several(body.prompt) else told[0])


def _answer(task: Task, name: str, index: int, one: Completion, params: SamplingParams) -> dict[str, Any]:
    tokens = one.tokens if isinstance(task.body, NativeRequest) and task.body.return_tokens else []
    return {"index": index, "content": one.text, "tokens": tokens, "model": name, "stop": True, "has_new_line": "\n" in one.text,
            **_end(task, index, one, params), **_probabilities(task, one)}


def _chosen(answer: dict[str, Any], fields: Sequence[str] | None) -> dict[str, Any]:
    """Only these, if they are named; one of an object within is named `generation_settings/seed`."""
    found = {}
    for field in fields or ():
        name, _, within = field.partition("/")
        value = answer.get(name)
        if name in answer and (not within or (isinstance(value, dict) and within in value)):
            found[field] = value[within] if within and isinstance(value, dict) else value
    return found or answer


async def _streamed(request: Request, service: Service, body: NativeRequest) -> Response:
    async with contextlib.AsyncExitStack() as held:
        name, llm = await held.enter_async_context(service.generator(request, body.model))
        task = await _task(service, body, llm)
        params = task.params(service)
        return await stream_completion(service, held, task, lambda streams: _events(task, name, streams, params, record(request)),
                                       error_event=error_event)


async def _events(task: Task, name: str, streams: Sequence[AsyncStream[Chunk]], params: SamplingParams, noted: RequestRecord) -> Events:
    lines = [False] * len(streams)  # whether one was begun
    async for index, chunks in merged(list(streams)):
        events = []
        for chunk in chunks:
            lines[index] = lines[index] or "\n" in chunk.text
            noted.note(chunk.usage, chunk.timings)
            if chunk.text or chunk.tokens:
                events.append({"index": index, "content": chunk.text, "tokens": chunk.tokens, "stop": False, **_probabilities(task, chunk)})
            if chunk.finish_reason is not None:
                events.append({"index": index, "content": "", "tokens": [], "model": name, "stop": True, "has_new_line": lines[index],
                               **_end(task, index, chunk, params)})
        yield b"".join(data_event(dumps(event)) for event in events)
