"""AsyncModelPool: ModelPool for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

from gollama.aio import AsyncLLM
from gollama.options import LoadOptions
from gollama.pool.entries import LEASE, LOAD, UNLOAD, Ticket
from gollama.pool.keeper import Listener
from gollama.pool.names import Models
from gollama.pool.records import MemoryUse, ModelStatus
from gollama.pool.sync import DEFAULT_TIMEOUT, BaseLease, ModelPool, Name, checked


class AsyncLease(BaseLease):
    """What keeps a model loaded, until it is closed. An `async with` block, which gives the AsyncLLM."""

    @property
    def llm(self) -> AsyncLLM:
        """The model. Do not close it, nor use it after the lease."""
        return AsyncLLM(self.sync)

    async def close(self) -> None:
        """The model may be unloaded again. May be called again."""
        self._close()

    async def __aenter__(self) -> AsyncLLM:
        return self.llm

    async def __aexit__(self, *details: object) -> None:
        self._close()


class PendingLease:
    """A lease to come: `async with` it, or await it for the lease."""

    def __init__(self, wait: Callable[[], Any]) -> None:
        self._wait = wait
        self._lease: AsyncLease | None = None

    def __await__(self) -> Generator[Any, None, AsyncLease]:
        lease: AsyncLease = yield from self._wait().__await__()
        return lease

    async def __aenter__(self) -> AsyncLLM:
        self._lease = await self
        return self._lease.llm

    async def __aexit__(self, *details: object) -> None:
        assert self._lease is not None
        await self._lease.close()


class AsyncModelPool:
    """Several models within one memory budget, for asyncio, with the methods and options of ModelPool. An `async with` block.

    Tasks of several event loops and threads may use one. Cancelling a task that waits takes its wish back. `sync` is the
    ModelPool behind it, which may be used beside it, and may be given in place of `models`.

    >>> import asyncio
    >>> from gollama import AsyncModelPool, LoadOptions
    >>> async def main():
    ...     async with AsyncModelPool({"smollm2": LoadOptions(context_size=512, max_sequences=2)}) as pool:
    ...         async with pool.get("smollm2") as llm:
    ...             print((await llm.generate("The capital of France is", max_tokens=2, temperature=0)).text)
    >>> asyncio.run(main())
     Paris.
    """

    def __init__(self, models: Models | ModelPool | None = None, *, memory: int | Mapping[str, int] | None = None,
                 default: LoadOptions | None = None, any_model: bool | None = None, ttl: float | None = None,
                 timeout: float | None = DEFAULT_TIMEOUT, preload: Iterable[str] = (), on_event: Listener | None = None) -> None:
        self.sync = models if isinstance(models, ModelPool) else ModelPool(
            models, memory=memory, default=default, any_model=any_model, ttl=ttl, timeout=timeout, preload=preload, on_event=on_event)

    async def __aenter__(self) -> AsyncModelPool:
        return self

    async def __aexit__(self, *details: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<gollama.AsyncModelPool of {self.sync!r}>"

    @property
    def closed(self) -> bool:
        return self.sync.closed

    async def close(self) -> None:
        """As ModelPool.close."""
        await asyncio.to_thread(self.sync.close)

    def get(self, model: Name, *, timeout: float | str | None = "pool", ttl: float | str | None = "pool") -> PendingLease:
        """As ModelPool.get: `async with pool.get("smollm2") as llm:`, or `lease = await pool.get("smollm2")`."""
        async def wait() -> AsyncLease:
            return AsyncLease(self.sync._keeper, await self._wait(model, LEASE, timeout, ttl))

        return PendingLease(wait)

    async def load(self, model: Name, *, timeout: float | str | None = "pool", ttl: float | str | None = "pool") -> ModelStatus:
        """As ModelPool.load."""
        return self.sync._loaded(await self._wait(model, LOAD, timeout, ttl))

    def preload(self, *models: Name) -> None:
        """As ModelPool.preload."""
        self.sync.preload(*models)

    async def unload(self, model: Name, *, timeout: float | str | None = "pool") -> None:
        """As ModelPool.unload."""
        await self._wait(model, UNLOAD, timeout, "pool")

    def pin(self, model: Name) -> None:
        """As ModelPool.pin."""
        self.sync.pin(model)

    def unpin(self, model: Name) -> None:
        self.sync.unpin(model)

    def status(self) -> dict[str, ModelStatus]:
        """As ModelPool.status."""
        return self.sync.status()

    def memory(self) -> tuple[MemoryUse, ...]:
        """As ModelPool.memory."""
        return self.sync.memory()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """As ModelPool.listen: the function is called on the pool's thread, not in the event loop."""
        return self.sync.listen(listener)

    async def _wait(self, model: Name, wish: str, timeout: float | str | None, ttl: float | str | None) -> Ticket:
        """As ModelPool's: a ticket that was served."""
        pool = self.sync
        allowed = pool._allowed(timeout)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()

        def settle(outcome: Any) -> None:
            if not answer.done():
                answer.set_result(outcome)

        def deliver(outcome: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, outcome)

        ticket = pool._ask(model, wish, deliver, ttl)
        if ticket.leased:  # it was there
            return ticket
        timer = None if allowed is None else loop.call_later(allowed, lambda: settle(pool._too_late(ticket, allowed)))
        try:
            return checked(ticket, await answer)
        except BaseException:
            pool._keeper.withdraw(ticket)
            raise
        finally:
            if timer is not None:
                timer.cancel()
