"""The arithmetic: from times to rates, from rounds to medians and ratios, and the bars that they are held against."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Span:
    """One request: seconds from the start of the run to its first token and to its last, and how many there were."""

    first: float
    end: float
    tokens: int


def spans(answer: Mapping[str, Any]) -> list[Span]:
    return [Span(one["first"], one["end"], one["tokens"]) for one in answer["requests"]]


def one_after_another_rate(requests: Sequence[Span]) -> float:
    """Tokens a second while decoding: all tokens but the first ones, over the times from the first to the last of each request.

    The same for a single request. Time spent on prompts does not count.
    """
    return sum(one.tokens - 1 for one in requests) / sum(one.end - one.first for one in requests)


def batch_rate(requests: Sequence[Span]) -> float:
    """Tokens a second of requests that run at once: from the first token of the last one to start, to the end of all.

    Only tokens of that interval count. The sequences of a batch move in step, one token each; so the last one to start, all of whose
    tokens but the first lie in the interval, is the clock for the others, which had some of theirs before it or end before it.
    """
    last = max(requests, key=lambda one: one.first)
    end = max(one.end for one in requests)
    pace = (last.tokens - 1) / (last.end - last.first)
    made = sum(min(one.tokens - 1, pace * max(0.0, one.end - last.first)) for one in requests)
    return made / (end - last.first)


def own_cost(counters: Mapping[str, float]) -> float:
    """Microseconds a step that are neither llama_decode's nor the samplers'."""
    own = counters["step_seconds"] - counters["decode_seconds"] - counters["sample_seconds"]
    return 1e6 * own / counters["steps"]


@dataclass(frozen=True)
class Bar:
    """What a figure is held against: at least `limit`, or at most."""

    limit: float
    at_most: bool = False

    def met(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.limit:g}"


@dataclass(frozen=True)
class Line:
    """One line of the table: medians over the rounds. `other` and `ratio` are None where there was nobody to compare with.

    `against` None says that the figure itself is held against the bar, not a ratio.
    """

    model: str
    what: str
    figure: float
    against: str | None
    other: float | None
    ratio: float | None
    bar: Bar | None
    rounds: int
    note: str = ""

    @property
    def met(self) -> bool | None:
        value = self.figure if self.against is None else self.ratio
        return None if self.bar is None or value is None else self.bar.met(value)

    def record(self) -> dict[str, Any]:
        return {**asdict(self), "bar": str(self.bar) if self.bar else None, "met": self.met}


def compared(model: str, what: str, ours: Sequence[float], against: str, theirs: Sequence[float] | None, bar: Bar | None,
             note: str = "") -> Line:
    """A line of two contenders; the ratio is the median of the rounds' ratios. `theirs` None: not given."""
    other = ratio = None
    if theirs is not None:
        other = statistics.median(theirs)
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return Line(model, what, statistics.median(ours), against, other, ratio, bar, len(ours), note)


def alone(model: str, what: str, ours: Sequence[float], bar: Bar | None = None, note: str = "") -> Line:
    """A line of one contender, whose figure itself is held against the bar."""
    return Line(model, what, statistics.median(ours), None, None, None, bar, len(ours), note)
