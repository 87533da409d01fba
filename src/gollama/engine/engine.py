"""The engine: takes requests from any thread, computes them on one, and tells their listeners."""

from __future__ import annotations

import atexit
import dataclasses
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, TypeVar

from gollama._weak import members
from gollama.engine.batch import Batch
from gollama.engine.device import Device
from gollama.engine.members import refuse
from gollama.engine.prefixes import Prefixes
from gollama.engine.request import Request
from gollama.engine.scheduler import Queue
from gollama.errors import BrokenError, BusyError, CancelledError, ClosedError, GollamaError

POLL_SECONDS = 0.05

Result = TypeVar("Result")


@dataclass(frozen=True)
class EngineStats:
    """What an engine has done since it was made, and what it holds now.

    `failed_steps` failed as a whole and were computed one sequence after another. The engine's own cost is `step_seconds` less
    `decode_seconds` (in llama_decode), `sample_seconds` and `adapter_seconds` (changing between sets of adapters).
    """

    steps: int
    failed_steps: int
    step_seconds: float
    decode_seconds: float
    sample_seconds: float
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    drafted_tokens: int
    accepted_tokens: int
    adapter_switches: int
    adapter_seconds: float
    running: int
    waiting: int
    sequences: int
    tokens_in_memory: int
    saved_prefixes: int
    saved_bytes: int


class Engine:
    """Owns a device. Any thread may call its methods; one thread at a time, the engine's own, computes.

    That thread lives while there is work. `max_sequences` is how many choices are computed at once at most; the device grows
    to it as they are needed. `queue_size` bounds the waiting requests, `cache_bytes` the host memory for saved prefixes.
    """

    def __init__(self, device: Device, *, max_sequences: int = 16, queue_size: int = 1024, cache_bytes: int = 0) -> None:
        self._device = device
        self._queue_size = queue_size
        self._batch = Batch(device, max_sequences, cache_bytes)
        self._queue = Queue()
        self._lock = threading.RLock()  # since a signal's handler may cancel in the midst of a call
        self._thread: threading.Thread | None = None
        self._closing = False
        self._changed = False  # somebody came or was cancelled
        self._cancelling = False  # the device was told to break off
        self._running: list[Request] = []
        self._errands: list[tuple[Callable[[Prefixes], Any], Future[Any], bool]] = []
        _engines.add(self)

    # ---- from any thread ----

    def submit(self, request: Request) -> None:
        """Take a request. BusyError if the queue is full; ClosedError. If it is not taken its samplers are closed."""
        try:
            with self._lock:
                self._require_open()
                self._require_room()
                request.submitted = time.perf_counter()
                self._wake()
                self._queue.push(request)
        except BaseException:
            request.cancelled = self._changed = True  # Ctrl-C may have come when it waited already
            for sampler in request.samplers:
                sampler.close()
            raise

    def _require_room(self) -> None:
        # the cancelled ones stay until the engine's thread looks
        if len(self._queue) >= self._queue_size <= (waiting := sum(not request.cancelled for request in self._queue)):
            raise BusyError(f"{waiting} requests wait already (queue_size): try again later")

    def _wake(self) -> None:
        """Have a thread look, once the lock is given back."""
        self._changed = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="gollama-engine", daemon=True)
            try:
                self._thread.start()
            except (RuntimeError, MemoryError):  # there are no more threads to be had
                self._thread = None
                raise

    def cancel(self, request: Request) -> None:
        """End a request; its choices finish as cancelled within one micro-batch. Nothing happens if it has ended."""
        with self._lock:
            request.cancelled = True
            self._changed = True
            self._stop_step()

    def drop(self, request: Request) -> None:
        """As `cancel`, after the running step, and without a lock: for finalizers, which may run where one is held."""
        request.cancelled = True
        self._changed = True

    def cancel_all(self) -> None:
        """End every request, running or waiting."""
        with self._lock:
            self._cancel_everybody()

    def _cancel_everybody(self) -> None:
        for request in (*self._queue, *self._running):
            request.cancelled = True
        self._changed = True
        self._stop_step()

    def _stop_step(self) -> None:
        """Break the running step off if nobody needs what it computes."""
        if self._running and all(request.cancelled for request in self._running):
            self._cancelling = True
            self._device.cancel()

    def close(self, *, drain: bool = False) -> None:
        """Take no more requests; cancel those there are, or let them finish. Returns when the last has ended."""
        with self._lock:
            self._closing = True
        if not drain:
            self.cancel_all()
        self.wait()

    def wait(self) -> None:
        """Wait until there is nothing to do. From the engine's own thread (a listener's) it returns at once."""
        while (thread := self._thread) is not None and thread is not threading.current_thread() and thread.is_alive():
            thread.join(POLL_SECONDS)  # by polling, so that Ctrl-C works

    def call(self, function: Callable[[Prefixes], Result], *, alone: bool = False) -> Result:
        """Have a function called with the prefix cache between two steps, on the engine's thread; what it returns.

        `alone` waits for the running requests to end, and lets no others in before.
        """
        if self._thread is threading.current_thread():
            raise BusyError("a listener cannot wait for the engine, which waits for it")
        errand: Future[Result] = Future()
        with self._lock:
            self._require_open()
            self._wake()
            self._errands.append((function, errand, alone))
        while not wait([errand], POLL_SECONDS).done:  # by polling, so that Ctrl-C works
            pass
        return errand.result()

    def _run_errands(self) -> None:
        while self._errands and not (self._errands[0][2] and self._batch.members() and not self._device.closed):
            function, errand, _ = self._errands.pop(0)
            try:
                self._require_open()
                errand.set_result(function(self._batch.prefixes))
            except BaseException as error:
                errand.set_exception(error)

    def any(self, wanted: Callable[[Request], bool]) -> bool:
        """Whether such a request runs or waits."""
        with self._lock:
            return any(wanted(request) for request in (*self._queue, *self._running))

    def stats(self) -> EngineStats:
        """Counts so far; those of a running step are not yet in."""
        prefixes = self._batch.prefixes
        slots, saved = list(prefixes.slots), list(prefixes.saved)
        return EngineStats(
            **dataclasses.asdict(self._batch.counters), running=len(self._batch.active), waiting=len(self._queue), sequences=len(slots),
            tokens_in_memory=sum(len(slot.tokens) for slot in slots), saved_prefixes=len(saved),
            saved_bytes=sum(entry.state.size for entry in saved))

    def _require_open(self) -> None:
        if self._closing:
            raise ClosedError("the engine is closed, as its model is")
        self._require_device()

    def _require_device(self) -> None:
        if self._device.closed:
            raise ClosedError("the model was closed")

    # ---- the engine's thread ----

    def _work(self) -> None:
        try:
            self._device.pin()
            while self._take():
                self._compute()
        except BaseException as error:
            self._fail_all(error)
            if not isinstance(error, (GollamaError, MemoryError)):  # of which everybody was told
                raise

    def _rest(self) -> None:
        """Note this thread's end, with the lock held: the next one finds the device free, and nobody at work."""
        self._running = []
        self._device.unpin()
        self._thread = None

    def _take(self) -> bool:
        """Let requests in and out of the batch; False, and this thread's end is noted, if nothing is left to do."""
        batch = self._batch
        now = time.perf_counter()
        if batch.steady and not self._changed and now < batch.deadline and now < self._queue.deadline:
            return True
        leaving, entering = self._choose(now)
        self._run_errands()
        for request in leaving:
            refuse(request)
        batch.drop_ended(now)
        try:
            self._require_device()
            batch.admit(entering)
        except BaseException as error:
            batch.fail(error, entering)
            entering = []
        with self._lock:
            for request in entering:  # who found no sequence
                self._queue.push(request)
            self._running = batch.running()
            if self._errands:
                self._changed = True  # the next round comes back to them
            if self._running or len(self._queue) or self._errands:
                return True
            self._rest()
            return False

    def _choose(self, now: float) -> tuple[list[Request], list[Request]]:
        """From the queue: who has given up or is too late, and who is let in."""
        with self._lock:
            if self._device.closed:
                self._cancel_everybody()
            changed, self._changed = self._changed, False  # before looking, so that the next look sees what comes meanwhile
            if self._cancelling:
                self._cancelling = False
                self._device.resume()
            leaving = self._queue.leave(now) if changed or self._queue.deadline <= now else []
            room = 0 if any(alone for _, _, alone in self._errands) else self._batch.room()
            entering = [self._queue.pop() for _ in range(min(room, len(self._queue)))]
            # from here on they can be cancelled as running ones
            self._running = [*self._running, *entering]
        return leaving, entering

    def _compute(self) -> None:
        batch = self._batch
        if not batch.active:
            return
        try:
            self._step()
        except Exception as error:
            batch.fail(error)

    def _step(self) -> None:
        batch = self._batch
        try:
            try:
                batch.step()
            except (BrokenError, CancelledError, ClosedError):
                raise
            except Exception as error:
                if batch.sampled:
                    raise
                batch.isolate(error)
        except CancelledError:
            batch.recover()
            self._changed = True

    def _fail_all(self, error: BaseException) -> None:
        """Nothing can be computed any more: everybody is told, and those who come meanwhile, before this thread ends."""
        self._batch.fail_all(error)
        while True:
            with self._lock:
                waiting, self._queue = list(self._queue), Queue()
                errands, self._errands = self._errands, []
                if not waiting and not errands:
                    self._rest()
                    return
            self._batch.refuse_all(waiting, error)
            for _, errand, _ in errands:
                errand.set_exception(error)

    # ---- fork and exit ----

    def _forked(self) -> None:
        """In a child: the parent's requests are the parent's, and so is a context in the midst of a step."""
        stepping = self._thread is not None
        self._lock = threading.RLock()
        self._thread = None
        self._queue = Queue()
        self._running, self._errands = [], []
        if stepping:
            self._batch.abandon()
        self._cancelling = self._changed = False


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _forked() -> None:
    for engine in members(_engines):
        engine._forked()


@atexit.register
def _exiting() -> None:
    """A thread that computes while the interpreter goes would be cut off in the midst of it."""
    for engine in members(_engines):
        engine.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
