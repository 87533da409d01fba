"""What the fake device is made of: memory, samplers, steps, and the pure functions that stand for a model."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from gollama.engine.request import BASE, Adapters
from gollama.errors import BusyError, ClosedError

VOCABULARY = 1000

class Memory:
    """What one sequence remembers. A cell's number stands for its token and all that was computed before it."""

    def __init__(self, cells: Sequence[int] = (), first: int = 0) -> None:
        self.cells = list(cells)
        self.first = first  # the cells before it are forgotten

    def append(self, token: int, adapters: Adapters = BASE) -> None:
        self.cells.append(hash((self.cells[-1] if self.cells else 0, len(self.cells), token, adapters)))

    def digest(self, length: int, window: int) -> int:
        """What attention sees behind so many tokens."""
        return hash(tuple(self.cells[max(0, length - window) if window else 0 : length]))

    def shift(self, keep: int, discard: int) -> None:
        del self.cells[keep : keep + discard]


def logprob_of(digest: int, token: int) -> float:
    return -(hash((digest, token)) % 1024) / 64


def likeliest(digest: int, count: int) -> list[tuple[int, float]]:
    return [(hash((digest, rank)) % VOCABULARY, -rank / 4) for rank in range(count)]


def chosen(digest: int, seed: int, count: int) -> int:
    return hash((digest, seed, count)) % VOCABULARY


class FakeSampler:
    """Counts what it chose; an exclusive handle like the real one."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.count = 0
        self.owner: int | None = None
        self.closed = False

    @property
    def pinned(self) -> bool:
        return self.owner is not None

    def pin(self) -> None:
        if self.closed:
            raise ClosedError("the sampler is closed")
        if self.owner not in (None, threading.get_ident()):
            raise BusyError("the sampler is in use by another thread")
        self.owner = threading.get_ident()

    def unpin(self) -> None:
        self.owner = None

    def close(self) -> None:
        self.closed = True

    def choose(self, digest: int) -> int:
        token = chosen(digest, self.seed, self.count)
        self.count += 1
        return token


class FakeState:
    def __init__(self, memory: Memory) -> None:
        self.cells, self.first = list(memory.cells), memory.first

    @property
    def size(self) -> int:
        return 8 * (len(self.cells) - self.first) + 16


class FakeStep:
    """See gollama._native.Step."""

    def __init__(self) -> None:
        self.words: list[int] = []
        self.failed = 0
        self.data = b""
        self.logprobs: list[float] = []
        self.top_tokens: list[int] = []
        self.top_logprobs: list[float] = []
        self.decode_seconds = self.sample_seconds = 0.0


class Limits(Protocol):
    """What of a device the answer depends on."""

    context_size: int
    window: int
    ends: int


def expected(device: Limits, prompt: Sequence[int], seed: int, count: int, keep: int = -1, adapters: Adapters = BASE) -> list[int]:
    """The next tokens of a prompt, up to one that ends; `keep` >= 0: a full context is shifted, else it ends."""
    memory = Memory()
    for token in prompt:
        memory.append(token, adapters)
    answer: list[int] = []
    while len(answer) < count:
        token = chosen(memory.digest(len(memory.cells), device.window), seed, len(answer))
        if device.ends and token % device.ends == 0:
            break
        answer.append(token)
        if len(memory.cells) == device.context_size:
            if keep < 0:
                break
            kept = min(keep, len(memory.cells) - 2)
            memory.shift(kept, (len(memory.cells) - kept) // 2)
        memory.append(token, adapters)
    return answer if keep >= 0 else answer[: device.context_size - len(prompt)]
