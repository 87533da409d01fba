"""One request: a prompt's tokens in, chunks of text out."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from gollama._native import Sampled
from gollama._text import TextStream
from gollama.context import Context
from gollama.errors import CancelledError, ClosedError, ContextOverflowError
from gollama.model import Model
from gollama.options import SamplingParams
from gollama.results import Chunk, Completion, FinishReason, Timings, Usage
from gollama.sampler import Sampler

# a prompt of this many tokens takes long enough for Ctrl-C to matter
INTERRUPTIBLE_TOKENS = 32
POLL_SECONDS = 0.1


@dataclass
class _Clock:
    submitted: float
    started: float = 0.0
    first: float = 0.0
    last: float = 0.0


@dataclass
class Generation:
    """The state of one request on a context that it has to itself."""

    model: Model
    context: Context
    prompt: list[int]
    params: SamplingParams
    submitted: float = field(default_factory=time.perf_counter)

    def run(self) -> Iterator[Chunk]:
        """Generate. Raises ContextOverflowError before anything is computed, GrammarError and OptionError likewise."""
        room = self.context.context_size - len(self.prompt)
        if room < 1:
            raise ContextOverflowError(
                f"the prompt has {len(self.prompt)} tokens and the context {self.context.context_size}, of which the answer "
                "needs one at least: load with a larger context_size, or pass less text")
        limit = min(room, self.params.max_tokens or room)
        with Sampler(self.model, self.params) as sampler:
            sampler.accept(self.prompt)
            yield from self._chunks(sampler, limit)

    def _chunks(self, sampler: Sampler, limit: int) -> Iterator[Chunk]:
        clock = _Clock(self.submitted, time.perf_counter())
        text = TextStream(tuple(self.params.stop))
        pending: list[int] = []  # tokens whose text is not shown yet
        count = 0
        reason: FinishReason = "length"
        try:
            for sampled in self._sample(sampler, clock):
                if sampled.end_of_generation:
                    reason = "stop"
                    break
                pending.append(sampled.token)
                count += 1
                shown = text.push(sampled.data)
                if text.stopped:
                    reason = "stop"
                if text.stopped or count == limit:
                    yield from self._visible(shown, pending, last=True)
                    break
                if shown:
                    yield from self._visible(shown, pending)
        except (CancelledError, ClosedError):  # closing an LLM ends what it generates
            reason = "cancelled"
        yield Chunk(text.finish(), pending, reason, Usage(len(self.prompt), count), self._timings(clock, count))

    @staticmethod
    def _visible(shown: str, pending: list[int], last: bool = False) -> Iterator[Chunk]:
        """A chunk for the tokens so far; the last text waits for the finishing chunk if it is empty."""
        if shown or not last:
            yield Chunk(shown, pending.copy())
            pending.clear()

    def _sample(self, sampler: Sampler, clock: _Clock) -> Iterator[Sampled]:
        """Tokens, one after the other, for as long as the caller asks."""
        self.context.clear()
        sampled = self._process_prompt(sampler)
        clock.first = clock.last = time.perf_counter()
        position = len(self.prompt)
        while True:
            yield sampled
            sampled = self.context.step((sampled.token,), position, sampler)
            position += 1
            clock.last = time.perf_counter()

    def _process_prompt(self, sampler: Sampler) -> Sampled:
        size = self.context.batch_size
        last = (len(self.prompt) - 1) // size * size

        def process() -> Sampled:
            for start in range(0, last, size):
                self.context._handle.step(self.prompt[start : start + size], start)
            return self.context.step(self.prompt[last:], last, sampler)

        return interruptible(process, self.context) if len(self.prompt) >= INTERRUPTIBLE_TOKENS else process()

    def _timings(self, clock: _Clock, count: int) -> Timings:
        first = clock.first or time.perf_counter()
        return Timings(clock.started - clock.submitted, first - clock.started, max(clock.last - first, 0.0), len(self.prompt), count)


def interruptible(call: Callable[[], Sampled], context: Context) -> Sampled:
    """Run a long call so that Ctrl-C ends it within one graph node.

    Python handles signals in the main thread and between its own instructions only, so there the call runs in a
    helper thread while the main thread waits.
    """
    if threading.current_thread() is not threading.main_thread():
        return call()
    from concurrent.futures import Future, wait

    future: Future[Sampled] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # handed to the waiting thread
            future.set_exception(error)

    thread = threading.Thread(target=work, name="gollama-prompt", daemon=True)
    thread.start()
    try:
        # by polling: a signal that another thread took does not wake this one, and on Windows none does
        while not wait([future], POLL_SECONDS).done:
            pass
        return future.result()
    except BaseException:  # of a signal handler, or of the call itself, which is over then
        if not future.done():
            context.cancel()
            with contextlib.suppress(CancelledError):
                future.result()
        raise
    finally:
        thread.join()


def collect(chunks: Iterator[Chunk]) -> Completion:
    """All chunks of a generation as one answer."""
    texts: list[str] = []
    tokens: list[int] = []
    last = None
    for last in chunks:
        texts.append(last.text)
        tokens.extend(last.tokens)
    assert last is not None and last.finish_reason and last.usage and last.timings
    return Completion("".join(texts), tokens, last.finish_reason, last.usage, last.timings)
