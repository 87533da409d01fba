"""What is done with an LLM's prompts, whether a thread or an asyncio task waits for it."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, cast

from gollama.chat import ChatPrompt
from gollama.chat.answers import ChunkReader
from gollama.errors import BusyError, ClosedError
from gollama.generation import Generation, complete
from gollama.options import SamplingParams
from gollama.results import Chunk, Completion

# a signal that another thread took does not wake a waiting one, and on Windows none does
POLL_SECONDS = 0.1
RETRY_SECONDS = 0.02

Deliver = Callable[[Any], object]
ChunkType = TypeVar("ChunkType", bound=Chunk)


class Submitter(Protocol):
    """Whoever hands generations to an engine: an LLM."""

    @property
    def submit(self) -> Callable[..., None]: ...

    def withdraw(self, generation: Generation, *, forgotten: bool = False) -> None: ...


class Inbox:
    """What the engine delivers, for one waiting thread."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._process = os.getpid()
        self.put = self._queue.put

    def get(self) -> Any:
        """The next thing. An exception of a signal handler, KeyboardInterrupt above all, comes through within a moment."""
        while True:
            try:
                return self._queue.get(timeout=POLL_SECONDS)
            except queue.Empty:
                if os.getpid() != self._process:
                    raise ClosedError("this generation runs in the parent process, which a fork leaves it to") from None


class Jobs:
    """Prompts on their way through the engine. A `with` block, which cancels what has not ended when it is left.

    The one who waits calls `submit`, then `note` with each thing that was delivered, until `done`.
    """

    def __init__(self, llm: Submitter, prompts: Sequence[list[int]], params: SamplingParams, deliver: Deliver, *,
                 chat: ChatPrompt | None = None, **request: Any) -> None:
        self._llm, self._prompts, self._request = llm, prompts, request
        self._generations = [Generation(params, partial(_labelled, deliver, index), whole=True, chat=chat) for index in range(len(prompts))]
        self._chunks: list[list[Chunk | BaseException]] = [[] for _ in prompts]
        self._submitted = self._ended = 0
        self._left = threading.Event()

    @property
    def done(self) -> bool:
        return self._ended == len(self._prompts)

    @property
    def submitted(self) -> bool:
        """Whether all were."""
        return self._submitted == len(self._prompts)

    def submit(self) -> bool:
        """Submit what the engine's queue takes; False if it is full and there is nothing of ours to wait for.

        A single prompt that finds it full is a BusyError. The block may be left while another thread submits.
        """
        while not self.submitted and not self._left.is_set():
            generation = self._generations[self._submitted]
            try:
                self._llm.submit(generation, self._prompts[self._submitted], **self._request)
            except BusyError:
                if len(self._prompts) == 1:
                    raise
                return self._submitted > self._ended
            self._submitted += 1
            if self._left.is_set():
                self._llm.withdraw(generation)
        return True

    def note(self, labelled: tuple[int, Any]) -> None:
        index, item = labelled
        if item is None:
            self._ended += 1
        else:
            self._chunks[index].append(item)

    def results(self) -> list[Completion]:
        return [complete(chunks, generation.prompt_logprobs) for chunks, generation in zip(self._chunks, self._generations)]

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *details: object) -> None:
        self._left.set()  # before looking at what was submitted
        if not self.done:
            for generation in self._generations[: self._submitted]:
                self._llm.withdraw(generation)


def _labelled(deliver: Deliver, index: int, item: object) -> None:
    deliver((index, item))


class BaseStream(Generic[ChunkType]):
    """The chunks of one prompt's answer, as they come. Computing goes on whether they are read or not.

    Leaving it, by `close`, by the end of a `with` block or by forgetting it, ends the generation.
    """

    def __init__(self, withdraw: Callable[..., None], generation: Generation) -> None:
        self._withdraw = withdraw
        self._generation = generation
        self._read: Callable[[Chunk], Any] | None = None if generation.chat is None else ChunkReader(generation.chat).read
        self._done = False

    @property
    def prompt_tokens(self) -> int:
        """How many tokens the prompt has."""
        request = self._generation.request
        return 0 if request is None else len(request.tokens)

    def _taken(self, item: Any) -> ChunkType | None:
        """A delivered chunk as it is shown; None if there is nothing to show, and at the end."""
        if isinstance(item, Chunk):
            try:
                return cast(ChunkType, item) if self._read is None else self._read(item)
            except BaseException:
                self._end()
                raise
        self._done = True
        if isinstance(item, BaseException):
            raise item
        return None

    def _end(self) -> None:
        if not self._done:
            self._done = True
            self._withdraw(self._generation)

    def __del__(self) -> None:
        if not self._done:  # the collector may come here in the midst of anything
            self._withdraw(self._generation, forgotten=True)


class Stream(BaseStream[ChunkType], Iterator[ChunkType]):
    __doc__ = BaseStream.__doc__

    def __init__(self, withdraw: Callable[..., None], generation: Generation, inbox: Inbox) -> None:
        super().__init__(withdraw, generation)
        self._inbox = inbox

    def __next__(self) -> ChunkType:
        while not self._done:
            try:
                item = self._inbox.get()
            except BaseException:
                self._end()
                raise
            chunk = self._taken(item)
            if chunk is not None:
                return chunk
        raise StopIteration

    def close(self) -> None:
        """End the generation, if it has not ended. May be called again, from any thread."""
        self._end()

    def __enter__(self) -> Stream[ChunkType]:
        return self

    def __exit__(self, *details: object) -> None:
        self._end()
