"""What is done with an LLM's prompts where an asyncio task waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from gollama.generation import Generation, joined
from gollama.jobs import BaseStream, ChunkType


class _Deliveries:
    """What engines deliver to the tasks of one event loop. The loop is woken once for all that comes before it looks."""

    __slots__ = ("_loop", "_pending", "_woken")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)  # whose entry in _deliveries this is
        self._pending: deque[tuple[AsyncInbox, Any]] = deque()
        self._woken = False

    def put(self, inbox: AsyncInbox, item: Any) -> None:
        """From any thread."""
        self._pending.append((inbox, item))
        if not self._woken:
            self._woken = True
            loop = self._loop()
            with contextlib.suppress(RuntimeError):  # it was closed, and nobody waits
                if loop is not None:
                    loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False  # before looking, so that what comes meanwhile is seen
        while self._pending:
            inbox, item = self._pending.popleft()
            inbox.take(item)


_deliveries: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Deliveries] = weakref.WeakKeyDictionary()


class AsyncInbox:
    """What the engine delivers, for a task of the running event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._deliveries = _deliveries.get(self._loop) or _deliveries.setdefault(self._loop, _Deliveries(self._loop))
        self._items: deque[Any] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def put(self, item: Any) -> None:
        """From any thread."""
        self._deliveries.put(self, item)

    def take(self, item: Any) -> None:
        self._items.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> Any:
        while not self._items:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._items.popleft()

    def rest(self) -> list[Any]:
        """What `get` would return at once."""
        items = list(self._items)
        self._items.clear()
        return items


class AsyncStream(BaseStream[ChunkType], AsyncIterator[ChunkType]):
    __doc__ = BaseStream.__doc__

    def __init__(self, withdraw: Callable[..., None], generation: Generation, inbox: AsyncInbox) -> None:
        super().__init__(withdraw, generation)
        self._inbox = inbox
        self._failure: Exception | None = None

    async def __anext__(self) -> ChunkType:
        while not self._done:
            try:
                item = await self._inbox.get()
            except BaseException:  # the task was cancelled
                self._end()
                raise
            chunk = self._taken(item)
            if chunk is not None:
                return chunk
        raise StopAsyncIteration

    async def read(self) -> list[ChunkType]:
        """All that has come since the last time, one chunk for each choice that went on; an empty list at the end."""
        chunks: list[ChunkType] = []
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        while not self._done and not chunks:
            try:
                items = [await self._inbox.get(), *self._inbox.rest()]
                for item in joined(items):
                    if (chunk := self._taken(item)) is not None:
                        chunks.append(chunk)
            except BaseException as error:
                self._end()
                if not chunks or not isinstance(error, Exception):
                    raise
                self._failure = error  # for the next time
        return chunks

    async def aclose(self) -> None:
        """End the generation, if it has not ended. May be called again."""
        self._end()

    async def __aenter__(self) -> AsyncStream[ChunkType]:
        return self

    async def __aexit__(self, *details: object) -> None:
        self._end()
