"""Waiting for what the engine delivers, so that Ctrl-C works."""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator
from typing import Any

from gollama.engine import Engine
from gollama.errors import ClosedError
from gollama.generation import Generation
from gollama.results import Chunk

# a signal that another thread took does not wake a waiting one, and on Windows none does
POLL_SECONDS = 0.1


class Inbox:
    """What generations deliver, for one waiting thread."""

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


class Stream(Iterator[Chunk]):
    """The chunks of one prompt's answer, as they come. Computing goes on whether they are read or not.

    Leaving it, by `close`, by the end of a `with` block or by forgetting it, ends the generation. One thread at a time.
    """

    def __init__(self, engine: Engine, inbox: Inbox) -> None:
        self._engine = engine
        self._inbox = inbox
        self._done = False
        self.generation: Generation | None = None

    def __next__(self) -> Chunk:
        if self._done:
            raise StopIteration
        try:
            item = self._inbox.get()
        except BaseException:
            self.close()
            raise
        if isinstance(item, Chunk):
            return item
        self.close()
        if item is None:
            raise StopIteration
        raise item

    def close(self) -> None:
        """End the generation, if it has not ended. May be called again, from any thread."""
        if not self._done:
            self._done = True
            if self.generation is not None and self.generation.request is not None:
                self._engine.cancel(self.generation.request)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
