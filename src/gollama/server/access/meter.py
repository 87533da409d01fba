"""Counts the tokens of a request while they are computed, whichever route asked for them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from starlette.types import Scope

from gollama.aio import AsyncLLM
from gollama.async_jobs import AsyncInbox, AsyncStream
from gollama.errors import BusyError, ContextOverflowError, GrammarError, OptionError
from gollama.options import SamplingParams
from gollama.results import Chunk, Completion, Usage
from gollama.server.access.buckets import Account

METER = "gollama.meter"
STEP_SECONDS = 0.5  # of an engine
REFUSED = (BusyError, ContextOverflowError, GrammarError, OptionError)  # of which nothing was computed


class Meter:
    """The tokens of one request, charged to the account of its key as they come."""

    def __init__(self, account: Account | None) -> None:
        self.account = account
        self.prompt_tokens = self.completion_tokens = 0
        self.exhausted = False  # the quota ended it

    @property
    def total(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def add(self, *, prompt: int = 0, completion: int = 0) -> None:
        self.prompt_tokens += prompt
        self.completion_tokens += completion
        if self.account is not None:
            self.account.spend(prompt + completion)

    def settle(self, usages: Sequence[Usage]) -> None:
        """Charge also what its answers told of and was not seen here: embeddings, above all."""
        prompt, completion = sum(one.prompt_tokens for one in usages), sum(one.completion_tokens for one in usages)
        self.add(prompt=max(prompt - self.prompt_tokens, 0), completion=max(completion - self.completion_tokens, 0))

    def check(self) -> None:
        """ApiError 429 when the day's quota is used up."""
        if self.account is not None and self.account.left() <= 0:
            self.exhausted = True
            raise self.account.exhausted()


class MeteredInbox(AsyncInbox):
    """Another inbox, whose chunks are counted. Once the quota is used up there is an error in place of the next."""

    def __init__(self, inbox: AsyncInbox, meter: Meter) -> None:  # all is the other's
        self._inbox, self._meter = inbox, meter
        self._counted: dict[tuple[int, int], int] = {}  # by prompt and choice

    def put(self, item: Any) -> None:
        self._inbox.put(item)

    def take(self, item: Any) -> None:
        self._inbox.take(item)

    async def get(self) -> Any:
        item = await self._inbox.get()
        if isinstance(item, Chunk) and item.finish_reason is None:
            self._meter.check()
        self._count(item)
        return item

    def rest(self) -> list[Any]:
        items = self._inbox.rest()
        for item in items:
            self._count(item)
        return items

    async def count_cancelled(self) -> None:
        """Count what was computed of generations that were ended: the engine tells of it within a step."""
        with contextlib.suppress(asyncio.TimeoutError):
            while True:
                await asyncio.wait_for(self.get(), STEP_SECONDS)

    def _count(self, item: Any) -> None:
        prompt, chunk = item if isinstance(item, tuple) else (0, item)  # as Jobs labels them
        if not isinstance(chunk, Chunk):
            return
        counted = self._counted.get((prompt, chunk.index), 0)
        tokens = len(chunk.tokens) if chunk.usage is None else chunk.usage.completion_tokens - counted
        self._counted[prompt, chunk.index] = counted + tokens
        self._meter.add(completion=tokens)


class MeteredLLM(AsyncLLM):
    """A model whose use one request pays for. All that generates passes through the two methods here."""

    def __init__(self, llm: AsyncLLM, meter: Meter) -> None:
        super().__init__(llm.sync)
        self._meter = meter

    async def _complete(self, prompts: Sequence[list[int]], params: SamplingParams, *, inbox: AsyncInbox | None = None,
                        **request: Any) -> list[Completion]:
        self._meter.check()
        tokens = sum(map(len, prompts))
        self._meter.add(prompt=tokens)  # before, so that requests at once do not all find the same quota
        inbox = MeteredInbox(inbox or AsyncInbox(), self._meter)
        try:
            return await super()._complete(prompts, self._within(prompts, params), inbox=inbox, **request)
        except REFUSED:
            self._meter.add(prompt=-tokens)
            raise
        except asyncio.CancelledError:
            await inbox.count_cancelled()
            raise

    def _within(self, prompts: Sequence[list[int]], params: SamplingParams) -> SamplingParams:
        """An answer that comes at once cannot be stopped when the quota ends: it may be as long as what is left."""
        left = math.inf if self._meter.account is None else self._meter.account.left()
        if left == math.inf:
            return params
        most = max(int(left) // max(len(prompts) * params.n, 1), 1)
        return params if params.max_tokens is not None and params.max_tokens <= most else dataclasses.replace(params, max_tokens=most)

    def _stream(self, tokens: list[int], params: SamplingParams, *, inbox: AsyncInbox | None = None, **request: Any) -> AsyncStream[Any]:
        self._meter.check()
        stream = super()._stream(tokens, params, inbox=MeteredInbox(inbox or AsyncInbox(), self._meter), **request)
        self._meter.add(prompt=len(tokens))
        return stream


def metered(scope: Scope, llm: AsyncLLM) -> AsyncLLM:
    """The model for this request, which pays for what it has computed."""
    meter = scope.get(METER)
    return llm if meter is None else MeteredLLM(llm, meter)
