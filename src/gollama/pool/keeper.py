"""The thread that loads and unloads, and the lock that lets any thread ask it to."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from gollama._locks import ForkLock
from gollama._weak import members
from gollama.pool.core import FETCH, MEASURE, UNLOAD_JOB, Core, Job
from gollama.pool.entries import Deliver, Entry, Ticket
from gollama.pool.loading import Loader, with_sequences
from gollama.pool.records import PoolEvent

logger = logging.getLogger("gollama")

POLL_SECONDS = 0.05
LOOK_SECONDS = 0.5  # how often forgotten leases are looked for while somebody waits
LEAVE_SECONDS = 30.0  # how long the interpreter's exit waits for what cannot be broken off

Listener = Callable[[PoolEvent], object]
Result = TypeVar("Result")


class Keeper:
    """Drives a Core. Any thread may call its methods; its own thread lives while there is something to do."""

    def __init__(self, core: Core, loader: Loader, clock: Callable[[], float]) -> None:
        self.core = core
        self.lock = ForkLock(fork_waits=True)  # so that a child finds the core between two changes
        self.listeners: list[Listener] = []
        self._loader, self._clock = loader, clock
        self._dropped: deque[Ticket] = deque()
        self._signal = threading.Event()
        self._thread: threading.Thread | None = None
        self._leaving = False
        self._unfinished: Callable[[], None] | None = None
        _keepers.add(self)

    # ---- from any thread ----

    def ask(self, find: Callable[[], Entry], wish: str, deliver: Deliver) -> Ticket:
        """A ticket for the entry that is found, with the lock held."""
        with self.lock:
            self._take_dropped()
            ticket = self.core.ask(find(), wish, deliver)
            if not ticket.served:
                try:
                    self._wake()
                except BaseException:
                    self.core.withdraw(ticket)
                    raise
            return ticket

    def withdraw(self, ticket: Ticket) -> None:
        with self.lock:
            self.core.withdraw(ticket)
            self._follow()

    def drop(self, ticket: Ticket) -> None:
        """As `withdraw`, a moment later and without a lock: for finalizers, which may run where one is held."""
        self._dropped.append(ticket)

    def change(self, function: Callable[[], Result]) -> Result:
        """Call it with the lock held, and do what follows from it."""
        with self.lock:
            result = function()
            self._follow()
            return result

    def close(self) -> None:
        """Unload everything, and wait for that. From a listener it returns at once."""
        with self.lock:
            self.core.close()
            self._signal.set()
            idle = self._thread is None and self.core.pending()
            if idle:
                self._thread = threading.current_thread()
        if idle:
            self._run()
        self._join()

    def leave(self) -> None:
        """At the interpreter's exit: end the thread, and a load. Nobody is told, and the system takes the memory back."""
        self._leaving = True
        self._signal.set()
        self._join(LEAVE_SECONDS)

    def _join(self, seconds: float | None = None) -> None:
        end = None if seconds is None else time.monotonic() + seconds
        while (thread := self._thread) is not None and thread is not threading.current_thread() and thread.is_alive():
            thread.join(POLL_SECONDS)  # by polling, so that Ctrl-C works
            if end is not None and time.monotonic() > end:
                return

    def _follow(self) -> None:
        """Have the thread look, if there is one, or something for it to do."""
        if self._thread is not None or self.core.pending():
            self._wake()

    def _wake(self) -> None:
        """Have the thread look, once the lock is given back."""
        self._signal.set()
        if self._thread is None and not self._leaving:
            thread = threading.Thread(target=self._run, name="gollama-pool", daemon=True)
            thread.start()
            self._thread = thread

    def _take_dropped(self) -> None:
        while self._dropped:
            self.core.withdraw(self._dropped.popleft())

    # ---- the keeper's thread ----

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as error:  # nobody may wait for ever
            self._give_up(error)
            raise

    def _turn(self) -> bool:
        """Do one thing, or wait for something to do; False, and this thread's end is noted, if nothing will come."""
        self._signal.clear()  # before looking, so that what comes meanwhile is looked at next
        with self.lock:
            if self._leaving or (self._thread is not None and self._thread is not threading.current_thread()):
                return False  # or a listener forked, and this is the child
            self._take_dropped()
            job = self.core.advance()
            events = list(self.core.events)
            self.core.events.clear()
            if job is None and not events and not self.core.pending():
                self._thread = None
                return False
            expiry = self.core.next_expiry()
        for event in events:
            self._tell(event)
        if job is not None:
            self._do(job)
        elif not events:
            self._signal.wait(LOOK_SECONDS if expiry is None else min(LOOK_SECONDS, max(0.0, expiry - self._clock())))
        return True

    def _tell(self, event: PoolEvent) -> None:
        for listener in list(self.listeners):
            try:
                listener(event)
            except Exception:
                logger.exception("a listener of the pool failed at %s of %s", event.kind, event.model)

    def _do(self, job: Job) -> None:
        if job.kind != FETCH:
            self._attempt(job)
            return
        try:
            threading.Thread(target=self._attempt, args=(job,), name="gollama-pool-fetch", daemon=True).start()
        except (RuntimeError, MemoryError) as error:  # there are no more threads to be had
            with self.lock:
                self.core.failed(job, error)

    def _attempt(self, job: Job) -> None:
        try:
            finish = self._work(job)
        except BaseException as error:
            failure = error
            finish = lambda: self.core.failed(job, failure)  # noqa: E731
        with self.lock:
            if self._leaving:
                self._unfinished = finish  # with the model in it, which nobody is to free now
                return
            finish()
            self._follow()

    def _work(self, job: Job) -> Callable[[], None]:
        """Do the job; what is then to be noted with the lock held."""
        core, entry, loader = self.core, job.entry, self._loader
        if job.kind == FETCH:
            path, stamp = loader.fetch(entry.name, self._progress(entry))
            return lambda: core.fetched(entry, path, stamp)
        if job.kind == UNLOAD_JOB:
            try:
                loader.unload(entry.llm)
            except Exception:
                logger.exception("%s could not be closed", entry.name)
            return lambda: core.unloaded(entry)
        file = job.path
        assert file is not None
        if job.kind == MEASURE:
            alone = not any(other.llm for other in core.entries.copy().values())
            need = loader.measure(file, entry.options, core.budget.limits_for, alone)
            return lambda: core.measured(entry, need)
        assert entry.need is not None
        llm, taken, most = loader.load(file, with_sequences(entry.options, entry.need), self._progress(entry))
        return lambda: core.loaded(entry, llm, taken, most)

    def _progress(self, entry: Entry) -> Callable[[float], bool]:
        process = os.getpid()

        def note(share: float) -> bool:
            entry.progress = share
            return not (self.core.closed or self._leaving) and os.getpid() == process

        return note

    def _give_up(self, error: BaseException) -> None:
        with self.lock:
            self._thread = None
            self.core.give_up(error)

    def _forked(self) -> None:
        self._thread = None
        self._signal = threading.Event()
        self._dropped.clear()
        self.core.forked()


_keepers: weakref.WeakSet[Keeper] = weakref.WeakSet()


def _forked() -> None:
    for keeper in members(_keepers):
        keeper._forked()


@atexit.register
def _exiting() -> None:
    """A load that goes on while the interpreter goes would be cut off in the midst of it."""
    for keeper in members(_keepers):
        keeper.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
