"""What the engine is asked for, and how it answers: token ids only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

EndReason = Literal["stop", "length", "cancelled", "timeout", "error"]

# what the device computes with beside the model, each with its scale; equal ones are computed together, and share what is in memory
Adapters = tuple[tuple[Any, float], ...]
BASE: Adapters = ()


class Sampler(Protocol):
    """Chooses tokens for one sequence; used by the engine's thread alone once it is submitted."""

    def pin(self) -> None: ...

    def unpin(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Counts:
    """What one choice cost. Times are seconds from `time.perf_counter`; 0.0 for what did not come to pass."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    drafted_tokens: int
    accepted_tokens: int
    submitted: float
    started: float
    first: float
    last: float


class Listener(Protocol):
    """Hears what becomes of a request. Called on the engine's thread, which waits: be quick, and do not raise."""

    def token(self, choice: int, token: int, data: bytes, logprob: float, top: Sequence[tuple[int, float]]) -> bool:
        """A token was generated; True ends the choice."""

    def collected(self, choice: int, tokens: list[int], data: bytes) -> None:
        """All tokens of a choice of a quiet request, and their texts; comes right before `finished`."""

    def prompt(self, logprobs: Sequence[tuple[int, bytes, float, Sequence[tuple[int, float]]]]) -> None:
        """(token, its text, log probability, likeliest) of prompt tokens, in order, from the second on; in one or more pieces."""

    def finished(self, choice: int, reason: EndReason, error: BaseException | None, counts: Counts) -> None:
        """The last word about a choice; comes exactly once for each."""


@dataclass(eq=False)
class Request:
    """One prompt and the choices to generate from it.

    `samplers` has one for each choice, all told of the prompt already; the engine closes them. `deadline` is a time of
    `time.perf_counter`. `logprobs`, `prompt_logprobs`: -1 for none, else how many of the likeliest tokens; the prompt's are
    told from index `score_from` on. `max_tokens` 0 computes the prompt only. Without `reuse` no cached prefix serves it.
    A `quiet` request's listener hears of the tokens at the end only; it may not ask for log probabilities. With `shift` a full
    context is slid along: the first `keep` tokens stay, half of the rest goes.
    """

    tokens: list[int]
    samplers: list[Sampler]
    listener: Listener
    max_tokens: int | None = None
    priority: int = 0
    deadline: float = math.inf
    logprobs: int = -1
    prompt_logprobs: int = -1
    score_from: int = 1
    reuse: bool = True
    quiet: bool = False
    shift: bool = False
    keep: int = 0
    adapters: Adapters = BASE

    # the engine's
    submitted: float = 0.0
    arrival: int = -1  # its number in the queue
    cancelled: bool = False
