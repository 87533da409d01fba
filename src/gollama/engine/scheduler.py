"""Which tokens a step computes."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator, Sequence

from gollama.engine.choice import Choice
from gollama.engine.request import Adapters, Request

PRIORITY_STEP = 64  # how many later arrivals of the next lower priority a request overtakes
LEAST_SHARE = 32  # prompt tokens of a step beside others' single tokens
TURN_STEPS = 8  # of requests with the same adapters, before others have theirs: a change takes about a tenth of a step
PRIORITY_TURNS = 2  # how many later turns of the next lower priority a turn overtakes
MIXED_SHARE = 4  # beside single tokens, prompts get at least this part of a step, and no more than by heads, so that tokens keep coming


class Queue:
    """Waiting requests. A higher priority overtakes a bounded number of earlier arrivals, so that nobody starves."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Request]] = []
        self._arrivals = itertools.count()
        self.deadline = math.inf  # the first of those who wait

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[Request]:
        return (entry[2] for entry in self._heap)

    def push(self, request: Request) -> None:
        """Let a request wait; one that was here before has its place again."""
        if request.arrival < 0:
            request.arrival = next(self._arrivals)
        self.deadline = min(self.deadline, request.deadline)
        heapq.heappush(self._heap, (rank(request), request.arrival, request))

    def pop(self) -> Request:
        return heapq.heappop(self._heap)[2]

    def leave(self, now: float) -> list[Request]:
        """Take out those who were cancelled or whose deadline has passed."""
        leaving = [request for request in self if request.cancelled or request.deadline <= now]
        if leaving:
            gone = set(leaving)
            self._heap = [entry for entry in self._heap if entry[2] not in gone]
            heapq.heapify(self._heap)
        self.deadline = min((request.deadline for request in self), default=math.inf)
        return leaving


class Turns:
    """Whose turn it is of several sets of adapters, of which a step has one. Each waits behind those who have had fewer turns since it
    came; a higher priority overtakes a bounded number of them, so that nobody starves."""

    def __init__(self) -> None:
        self._tickets: dict[Adapters, int] = {}
        self._numbers = itertools.count()
        self._current: Adapters | None = None

    def next(self, choices: Sequence[Choice], goes_on: bool) -> Adapters:
        """Of the sets that these have; the highest priority in each counts. `goes_on`: the last turn has not ended."""
        priorities: dict[Adapters, int] = {}
        for request in (choice.request for choice in choices):
            priorities[request.adapters] = max(request.priority, priorities.get(request.adapters, request.priority))
        self._tickets = {adapters: self._tickets[adapters] for adapters in self._tickets if adapters in priorities}
        for adapters in priorities:
            if adapters not in self._tickets:
                self._tickets[adapters] = next(self._numbers)
        if not goes_on or self._current not in self._tickets:
            self._current = min(self._tickets, key=lambda adapters: self._tickets[adapters] - PRIORITY_TURNS * priorities[adapters])
            self._tickets[self._current] = next(self._numbers)
        return self._current


def rank(request: Request) -> int:
    """Its place among others; the least comes first."""
    return request.arrival - request.priority * PRIORITY_STEP


def shares(pending: Sequence[int], first: int, budget: int) -> list[int]:
    """The budget divided over prompts with so many tokens left: half is for the one at `first`, the rest for the shortest.

    One after the other they begin to answer earlier than all at the same time, and nobody waits for ever.
    """
    result = [0] * len(pending)
    result[first] = min(pending[first], -(-budget // 2))
    left = budget - result[first]
    for index in sorted(range(len(pending)), key=pending.__getitem__):
        more = min(pending[index] - result[index], left)
        result[index] += more
        left -= more
    return result


def plan(pending: Sequence[int], ranks: Sequence[int], budget: int) -> list[int]:
    """How many tokens each choice gets of a step, of those it has to compute. Who has just one gets it first."""
    prompts = [index for index, count in enumerate(pending) if count > 1]
    if not prompts:
        return list(pending)
    singles = sum(count == 1 for count in pending)
    left = budget - singles
    if singles:  # what comes by the head: where nearly everybody waits for a prompt, there is no use in steps for a few
        by_heads = budget * len(prompts) // (len(prompts) + singles)
        left = min(left, max(LEAST_SHARE, budget // MIXED_SHARE, by_heads))
    first = min(range(len(prompts)), key=lambda number: ranks[prompts[number]])
    counts = [min(count, 1) for count in pending]
    for index, share in zip(prompts, shares([pending[index] for index in prompts], first, left)):
        counts[index] = share
    return counts
