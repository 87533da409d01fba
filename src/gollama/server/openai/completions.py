"""/v1/completions."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from gollama.aio import AsyncLLM
from gollama.async_jobs import AsyncStream
from gollama.errors import NativeError, OptionError, TextError
from gollama.results import Chunk, Completion, Usage
from gollama.server.body import read_body
from gollama.server.documents import taking
from gollama.server.errors import ApiError, as_api_error, incapable
from gollama.server.openai.embeddings import Input, inputs_of
from gollama.server.openai.fields import MOST_LOGPROBS, Generating, sampling_params, time_limit
from gollama.server.openai.parts import (
    DONE,
    choices_of,
    error_event,
    finish_reason,
    new_id,
    text_logprobs,
    timings_object,
    usage_object,
)
from gollama.server.record import RequestRecord
from gollama.server.replies import dumps, json_response
from gollama.server.service import Service, fingerprint, record, service_of
from gollama.server.sse import Events, EventStream
from gollama.server.waiting import while_there

router = APIRouter(tags=["OpenAI"])


class CompletionRequest(Generating):
    """OpenAI's request, with llama-server's and gollama's additions."""

    prompt: Input
    suffix: str | None = None
    echo: bool | None = None
    best_of: int | None = Field(None, ge=1)
    logprobs: int | None = Field(None, ge=0, le=MOST_LOGPROBS)


KNOWN = frozenset(CompletionRequest.model_fields)


@dataclass(frozen=True)
class Task:
    """A checked request."""

    body: CompletionRequest
    llm: AsyncLLM
    prompts: list[list[int]]
    texts: list[str]  # the prompts' own, to be said first with `echo`; else empty
    nothing: bool  # the prompt's log probabilities are all that is wanted

    @property
    def asked(self) -> int:
        return self.body.n or 1

    def params(self, service: Service) -> Any:
        body = self.body
        more: dict[str, Any] = {}
        if body.logprobs is not None or self.tried > self.asked:
            more["logprobs"] = body.logprobs or 0
        if body.echo and body.logprobs is not None:
            more["prompt_logprobs"] = body.logprobs
        limited = body.model_copy(update={"max_tokens": 1}) if self.nothing else body
        return sampling_params(limited, self.llm, service.config, n=self.tried, **more)

    @property
    def tried(self) -> int:
        """Answers to choose from."""
        return self.body.best_of or self.asked


@router.post("/v1/completions", openapi_extra=taking(CompletionRequest))
async def completions(request: Request) -> Response:
    """Continue texts."""
    service = service_of(request)
    body = await read_body(request, CompletionRequest)
    check_completion(body, service)
    try:
        if body.stream:
            return await _streamed(request, service, body)
        async with service.generator(request, body.model) as (name, llm):
            return json_response(await while_there(request, _whole(service, body, name, llm, record(request))))
    except Exception as error:
        raise as_api_error(error, KNOWN) from error


def check_completion(body: CompletionRequest, service: Service) -> None:
    """ApiError for fields that exclude each other."""
    most = max(body.best_of or 1, body.n or 1)
    if most > service.config.max_choices:
        raise ApiError(400, f"n and best_of must be at most {service.config.max_choices} (max_choices)",
                       param="best_of" if body.best_of == most else "n", code="too_many")
    if body.best_of is not None and body.best_of < (body.n or 1):
        raise ApiError(400, "best_of must be at least n", param="best_of", code="invalid_value")
    if body.stream and body.best_of is not None and body.best_of > (body.n or 1):
        raise ApiError(400, "a stream cannot choose among answers: leave best_of out", param="best_of", code="invalid_value")
    if body.stream and body.echo and body.logprobs is not None:
        raise ApiError(400, "a stream has no log probabilities of the prompt: leave echo, logprobs or stream out", param="logprobs",
                       code="invalid_value")
    if body.max_tokens == 0 and (not body.echo or body.stream):
        raise ApiError(400, "max_tokens may be 0 only with echo, and not in a stream", param="max_tokens", code="invalid_value")


async def completion_task(service: Service, body: CompletionRequest, llm: AsyncLLM) -> Task:
    inputs = inputs_of(body.prompt, "prompt", service.config)
    if body.suffix is not None and not all(isinstance(one, str) for one in inputs):
        raise ApiError(400, "suffix needs prompts that are texts", param="suffix", code="invalid_value")

    def prepare() -> tuple[list[list[int]], list[str]]:
        if body.suffix is not None:
            prompts = [llm.sync.intake.infill_prompt(str(one), body.suffix) for one in inputs]
        else:
            prompts = [llm.sync.intake.prompt(one) for one in inputs]
        texts = [one if isinstance(one, str) else llm.detokenize(one) for one in inputs] if body.echo else []
        return prompts, texts

    try:
        prompts, texts = await asyncio.to_thread(prepare)
    except NativeError as error:
        raise incapable(error, llm.sync.model.path, "suffix" if body.suffix is not None else "model") from None
    except (TextError, OptionError) as error:
        raise ApiError(400, str(error), param="prompt", code="invalid_value") from None
    return Task(body, llm, prompts, texts, body.max_tokens == 0)


# ---- at once ----


async def _whole(service: Service, body: CompletionRequest, name: str, llm: AsyncLLM, noted: RequestRecord) -> dict[str, Any]:
    task = await completion_task(service, body, llm)
    completions = await llm.generate(task.prompts, params=task.params(service), timeout=time_limit(body, service.config))
    choices: list[dict[str, Any]] = []
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0}}
    for number, completion in enumerate(completions):
        tried: Sequence[Completion] = choices_of(completion)
        for one in tried:
            noted.note(one.usage, one.timings)
        _add(usage, usage_object([Usage(one.usage.prompt_tokens, 0) if task.nothing else one.usage for one in tried]))
        best = sorted(tried, key=_likelihood, reverse=True)[: task.asked] if task.tried > task.asked else tried
        choices += [_choice(task, number, one, len(choices) + index) for index, one in enumerate(best)]
    return {"id": new_id("cmpl-"), "object": "text_completion", "created": int(time.time()), "model": name,
            "system_fingerprint": fingerprint(), "choices": choices, "usage": usage, "timings": timings_object(completions[0].timings)}


def _add(total: dict[str, Any], more: dict[str, Any]) -> None:
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        total[name] += more[name]
    total["prompt_tokens_details"]["cached_tokens"] += more["prompt_tokens_details"]["cached_tokens"]


def _likelihood(completion: Completion) -> float:
    """The mean log probability of its tokens."""
    logprobs = completion.logprobs or []
    return sum(one.logprob for one in logprobs) / len(logprobs) if logprobs else float("-inf")


def _choice(task: Task, number: int, completion: Completion, index: int) -> dict[str, Any]:
    text = "" if task.nothing else completion.text
    logprobs = None
    if task.body.logprobs is not None:
        own = [] if task.nothing else completion.logprobs or []
        before: list[Any] = [task.prompts[number][0], *(completion.prompt_logprobs or [])] if task.body.echo else []
        logprobs = text_logprobs(task.llm, [*before, *own], 0)
    return {"index": index, "text": task.texts[number] + text if task.body.echo else text, "logprobs": logprobs,
            "finish_reason": "length" if task.nothing else finish_reason(completion.finish_reason)}


# ---- piece by piece ----


async def _streamed(request: Request, service: Service, body: CompletionRequest) -> Response:
    async with contextlib.AsyncExitStack() as held:
        name, llm = await held.enter_async_context(service.generator(request, body.model))
        task = await completion_task(service, body, llm)
        return await stream_completion(service, held, task, lambda streams: _events(task, name, streams, record(request)),
                                       error_event=error_event)


async def stream_completion(service: Service, held: contextlib.AsyncExitStack, task: Task,
                            events: Callable[[list[AsyncStream[Chunk]]], Events], **stream_options: Any) -> Response:
    """A stream for each prompt, as `events` tells them; `held` holds the model. `stream_options` are EventStream's."""
    params, limit = task.params(service), time_limit(task.body, service.config)
    streams: list[AsyncStream[Chunk]] = []
    for prompt in task.prompts:
        streams.append(await task.llm.open_stream(prompt, params=params, timeout=limit))
        held.push_async_callback(streams[-1].aclose)

    async def stop() -> None:
        for stream in streams:
            await stream.aclose()

    return EventStream(events(streams), held=held.pop_all(), stop=stop, write_timeout=service.config.write_timeout, **stream_options)


async def _events(task: Task, name: str, streams: list[AsyncStream[Chunk]], noted: RequestRecord) -> Events:
    head = dumps({"id": new_id("cmpl-"), "object": "text_completion", "created": int(time.time()), "model": name,
                  "system_fingerprint": fingerprint()})[:-1]
    head = b"data: " + head + b',"choices":['
    usages: list[list[Usage]] = [[] for _ in streams]
    offsets: dict[int, int] = {}
    if task.body.echo:
        yield b"".join(_event(head, number * task.asked + choice, task.texts[number], None, b"null")
                       for number in range(len(streams)) for choice in range(task.asked))
    async for number, chunks in merged(streams):
        for chunk in chunks:
            if chunk.usage is not None:
                usages[number].append(chunk.usage)
                noted.note(chunk.usage, chunk.timings)
        yield b"".join(_written(task, head, number, chunk, offsets) for chunk in chunks)
    if task.body.wants_usage:
        usage = usage_object([])
        for one in usages:
            _add(usage, usage_object(one))
        yield head + b'],"usage":' + dumps(usage) + b"}\n\n"
    yield DONE


def _written(task: Task, head: bytes, number: int, chunk: Chunk, offsets: dict[int, int]) -> bytes:
    index = number * task.asked + chunk.index
    logprobs = None
    if chunk.logprobs:
        offset = offsets.get(index, len(task.texts[number]) if task.body.echo else 0)
        found = text_logprobs(task.llm, chunk.logprobs, offset)
        offsets[index] = offset + sum(map(len, found["tokens"]))
        logprobs = dumps(found)
    reason = b"null" if chunk.finish_reason is None else b'"' + finish_reason(chunk.finish_reason).encode() + b'"'
    return _event(head, index, chunk.text, logprobs, reason)


def _event(head: bytes, index: int, text: str, logprobs: bytes | None, reason: bytes) -> bytes:
    return b'%b{"index":%d,"text":%b,"logprobs":%b,"finish_reason":%b}]}\n\n' % (head, index, dumps(text), logprobs or b"null", reason)


async def merged(streams: list[AsyncStream[Chunk]]) -> AsyncIterator[tuple[int, list[Chunk]]]:
    """The chunks of several streams, as they come, with the number of the stream."""
    if len(streams) == 1:
        while chunks := await streams[0].read():
            yield 0, chunks
        return
    reading = {asyncio.ensure_future(stream.read()): number for number, stream in enumerate(streams)}
    try:
        while reading:
            done, _ = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                number = reading.pop(one)
                if chunks := one.result():
                    reading[asyncio.ensure_future(streams[number].read())] = number
                    yield number, chunks
    finally:
        for one in reading:
            one.cancel()
