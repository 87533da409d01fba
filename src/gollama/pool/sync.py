"""ModelPool: several models within one memory budget."""

from __future__ import annotations

import os
import queue
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from gollama.errors import BusyError, OptionError
from gollama.llm import LLM
from gollama.options import LoadOptions
from gollama.pool.budget import Budget
from gollama.pool.core import Core
from gollama.pool.entries import LEASE, LOAD, UNLOAD, Entry, Ticket
from gollama.pool.keeper import Keeper, Listener
from gollama.pool.loading import LlmLoader, Loader
from gollama.pool.names import Models, Names, seconds
from gollama.pool.records import MemoryUse, ModelStatus
from gollama.pool.telling import status_of, still_waiting, those_who_may_go

POLL_SECONDS = 0.1  # a signal that another thread took does not wake a waiting one
DEFAULT_TIMEOUT = 300.0

Name = str | os.PathLike[str]


class BaseLease:
    """What keeps a model loaded, until it is closed."""

    def __init__(self, keeper: Keeper, ticket: Ticket) -> None:
        self._keeper, self._ticket = keeper, ticket
        self.name = ticket.entry.name
        self.sync: LLM = ticket.llm

    def __repr__(self) -> str:
        return f"<gollama.{type(self).__name__} of {self.name}{' (closed)' if self.closed else ''}>"

    @property
    def closed(self) -> bool:
        return not self._ticket.leased

    def _close(self) -> None:
        self._keeper.withdraw(self._ticket)

    def __del__(self) -> None:
        if getattr(self, "_ticket", None) is not None and self._ticket.leased:
            self._keeper.drop(self._ticket)
            warnings.warn(f"a lease of {self.name} was never closed: use `with`, or call close()", ResourceWarning, stacklevel=2)


class Lease(BaseLease):
    """What keeps a model loaded, until it is closed. A `with` block, which gives the LLM."""

    @property
    def llm(self) -> LLM:
        """The model. Do not close it, nor use it after the lease."""
        return self.sync

    def close(self) -> None:
        """The model may be unloaded again. May be called again, from any thread."""
        self._close()

    def __enter__(self) -> LLM:
        return self.sync

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()


class ModelPool:
    """Several models within one memory budget, loaded when they are asked for. A `with` block; any thread may use it.

    `models` are names or paths, with their LoadOptions where they have some of their own; others have `default`, which is
    LoadOptions(max_sequences=4). `any_model`: also what was not named may be had; None: if none were named.

    `memory` is how many MiB the models may take: of the host, or a mapping of devices ("host", "CUDA0" …) to MiB; 80 % of what
    is free of each that is not named. Counted is what a model takes with all of its `max_sequences` in use, and with a full
    `prefix_cache`; where that is more than the budget, it is loaded with fewer sequences.

    A model that is asked for and does not fit has others unloaded, the longest unused first, but none that is leased or
    pinned: for leases it waits, and meanwhile those models give no new ones. Who came first is served first. After `ttl`
    seconds without a lease a model is unloaded anyway. `preload` is loaded at once. `timeout`: see `get`.
    `on_event` is called with each PoolEvent, as with `listen`.

    >>> from gollama import LoadOptions, ModelPool
    >>> with ModelPool({"smollm2": LoadOptions(context_size=512, max_sequences=2)}, memory=2048) as pool:
    ...     with pool.get("smollm2") as llm:
    ...         print(llm.generate("The capital of France is", max_tokens=2, temperature=0).text)
     Paris.
    """

    def __init__(self, models: Models | None = None, *, memory: int | Mapping[str, int] | None = None, default: LoadOptions | None = None,
                 any_model: bool | None = None, ttl: float | None = None, timeout: float | None = DEFAULT_TIMEOUT,
                 preload: Iterable[str] = (), on_event: Listener | None = None, loader: Loader | None = None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._names = Names(models, default, any_model, ttl)
        if isinstance(preload, (str, bytes)):
            raise OptionError(f"preload must be a list of names, not {preload!r}")
        self._timeout = seconds("timeout", timeout)
        self._clock = clock
        self._core = Core(Budget(memory), clock)
        self._core.entries.update(self._names.entries())
        self._keeper = Keeper(self._core, loader or LlmLoader(), clock)
        if on_event is not None:
            self.listen(on_event)
        self.preload(*preload)

    def __enter__(self) -> ModelPool:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<gollama.ModelPool {', '.join(self._core.entries)}{' (closed)' if self.closed else ''}>"

    @property
    def closed(self) -> bool:
        return self._core.closed

    def close(self) -> None:
        """Unload everything. What is being generated ends as cancelled, who waits gets ClosedError. May be called again."""
        self._keeper.close()

    # ---- models ----

    def get(self, model: Name, *, timeout: float | str | None = "pool", ttl: float | str | None = "pool") -> Lease:
        """The model, loaded, as long as the lease is open: `with pool.get("smollm2") as llm:`.

        Waits for the load, and for memory that others lease; after `timeout` seconds (None: for ever; "pool": the pool's) it is
        BusyError, but a load that has begun goes on. `ttl` replaces the pool's for this model from now on, as does None.
        ModelNotFoundError, DownloadError, InvalidModelError as loading raises them, OutOfMemoryError where it cannot fit,
        ClosedError. A failed load is tried anew by the next who asks.
        """
        return Lease(self._keeper, self._wait(model, LEASE, timeout, ttl))

    def load(self, model: Name, *, timeout: float | str | None = "pool", ttl: float | str | None = "pool") -> ModelStatus:
        """Load it, if it is not; as `get`, without a lease. It may be unloaded as soon as others need the memory."""
        return self._loaded(self._wait(model, LOAD, timeout, ttl))

    def preload(self, *models: Name) -> None:
        """Begin to load these, and return. What fails is told by events and `status`."""
        for model in models:
            self._ask(model, LOAD, _nobody)

    def unload(self, model: Name, *, timeout: float | str | None = "pool") -> None:
        """Unload it, pinned or not, once its leases have ended; it gives no new ones meanwhile. BusyError after `timeout` seconds.

        Nothing happens if it is not loaded. Who asks for it in the meantime waits, and has it loaded again.
        """
        self._wait(model, UNLOAD, timeout, "pool")

    def pin(self, model: Name) -> None:
        """Never unload it to make room, nor for its ttl. Does not load it."""
        self._change(model, "pinned", True)

    def unpin(self, model: Name) -> None:
        self._change(model, "pinned", False)

    # ---- what there is ----

    def status(self) -> dict[str, ModelStatus]:
        """Every model that was named or asked for."""
        now = self._clock()
        with self._keeper.lock:
            return {name: status_of(entry, now) for name, entry in self._core.entries.items()}

    def memory(self) -> tuple[MemoryUse, ...]:
        """The budget of the host and of the devices that models were to be placed on so far."""
        with self._keeper.lock:
            return self._core.budget.use(self._core.held())

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Have a function called with each PoolEvent from now on, in order, on the pool's thread; call what is returned to end that.

        Loading waits for the function. It may ask the pool for what does not wait. What it raises is logged.
        """
        listeners = self._keeper.listeners
        listeners.append(listener)

        def end() -> None:
            if listener in listeners:
                listeners.remove(listener)

        return end

    # ---- inside ----

    def _find(self, model: Name, ttl: float | str | None = "pool") -> Entry:
        entry = self._names.find(self._core.entries, model)
        if ttl != "pool":
            entry.ttl = seconds("ttl", ttl)
        return entry

    def _ask(self, model: Name, wish: str, deliver: Callable[[Any], object], ttl: float | str | None = "pool") -> Ticket:
        return self._keeper.ask(lambda: self._find(model, ttl), wish, deliver)

    def _change(self, model: Name, field: str, value: Any) -> None:
        self._keeper.change(lambda: setattr(self._find(model), field, value))

    def _loaded(self, ticket: Ticket) -> ModelStatus:
        with self._keeper.lock:
            return status_of(ticket.entry, self._clock())

    def _allowed(self, timeout: float | str | None) -> float | None:
        return self._timeout if timeout == "pool" else seconds("timeout", timeout)

    def _wait(self, model: Name, wish: str, timeout: float | str | None, ttl: float | str | None) -> Ticket:
        """A ticket that was served."""
        allowed = self._allowed(timeout)
        inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        ticket = self._ask(model, wish, inbox.put, ttl)
        end = None if allowed is None else time.monotonic() + allowed
        try:
            while True:
                left = POLL_SECONDS if end is None else min(POLL_SECONDS, max(0.0, end - time.monotonic()))
                try:
                    return checked(ticket, inbox.get(timeout=left))
                except queue.Empty:
                    if end is not None and time.monotonic() >= end:
                        raise self._too_late(ticket, allowed) from None
        except BaseException:
            self._keeper.withdraw(ticket)
            raise

    def _too_late(self, ticket: Ticket, allowed: float | None) -> BusyError:
        with self._keeper.lock:
            return still_waiting(ticket, allowed, those_who_may_go(self._core.entries.values()))


def checked(ticket: Ticket, outcome: Any) -> Ticket:
    """The ticket, if it was served with what was wished for; else the error is raised."""
    if isinstance(outcome, BaseException):
        raise again(outcome)
    return ticket


def again(error: BaseException) -> BaseException:
    """One of its own for each who waited: a traceback belongs to one."""
    try:
        fresh = type(error)(*error.args)
    except Exception:
        return error
    fresh.__cause__ = error
    return fresh


def _nobody(outcome: object) -> None:
    """Takes what nobody waits for."""
