"""Which model is loaded and unloaded when: a machine of states, without threads, locks and llama.cpp.

Whoever drives it calls one method at a time: `ask`, `release` and the like as users come and go; after each of them `advance`, which says
what to do next; and the method that takes a job's outcome. What is to be told to others gathers in `events`.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from gollama.errors import ClosedError, OutOfMemoryError
from gollama.pool.budget import Budget
from gollama.pool.entries import IN, LEASE, LOADING, OUT, UNLOAD, UNLOADING, Deliver, Entry, Ticket
from gollama.pool.records import NOTHING, Amounts, Need, PoolEvent
from gollama.pool.room import last_use, victims

FETCH, MEASURE, LOAD_JOB, UNLOAD_JOB = "fetch", "measure", "load", "unload"
MOST_FETCHES = 4  # at once


@dataclass(frozen=True)
class Job:
    """Something to be done with a model. Any number of fetches may run; of the others, which use llama.cpp, one at a time.

    `path` is the file to measure or to load: that of the entry is forgotten when nobody waits any more.
    """

    kind: str
    entry: Entry
    path: Path | None = None


class Core:
    """The models of a pool, by name."""

    def __init__(self, budget: Budget, clock: Callable[[], float]) -> None:
        self.budget = budget
        self.entries: dict[str, Entry] = {}
        self.events: deque[PoolEvent] = deque()
        self.closed = False
        self.working: Entry | None = None  # whom the running job is about
        self._clock = clock
        self._numbers = itertools.count()
        self._foreign: list[Entry] = []  # of the parent of a fork; kept, since it is not ours to free

    def held(self) -> list[Amounts]:
        return [entry.held for entry in self.entries.values() if entry.held]

    # ---- users come and go ----

    def ask(self, entry: Entry, wish: str, deliver: Deliver) -> Ticket:
        """Serve the wish now or later; its ticket. ClosedError."""
        if self.closed:
            raise ClosedError("the pool is closed")
        ticket = Ticket(next(self._numbers), entry, wish, deliver)
        if wish == UNLOAD:
            entry.dismissing.append(ticket)
        elif entry.open:
            self._serve(ticket)
        else:
            entry.waiting.append(ticket)
        return ticket

    def withdraw(self, ticket: Ticket) -> None:
        """Who had the ticket waits no longer; a lease that it got is given back."""
        if ticket.leased:
            ticket.leased = False
            self.release(ticket.entry)
        elif not ticket.served:
            ticket.served = True
            (ticket.entry.dismissing if ticket.wish == UNLOAD else ticket.entry.waiting).remove(ticket)
            if ticket.entry.state == OUT and not ticket.entry.waiting:
                ticket.entry.path = None  # its file may be another by the time it is asked for again

    def release(self, entry: Entry) -> None:
        """A lease ended."""
        entry.leases -= 1
        entry.used = self._clock()

    def close(self) -> None:
        """Give nothing any more; what is loaded is unloaded by the jobs that follow."""
        self.closed = True
        for entry in self.entries.values():
            for ticket in [*entry.waiting, *entry.dismissing]:
                self._serve(ticket, ClosedError("the pool was closed"))

    def give_up(self, error: BaseException) -> None:
        """Whoever drives this failed: tell everybody who waits, and take what was under way for not begun."""
        self.working = None
        for entry in list(self.entries.values()):
            if entry.state == LOADING:
                entry.state, entry.held = OUT, NOTHING
            elif entry.state == UNLOADING:
                entry.state = IN
            for ticket in [*entry.waiting, *entry.dismissing]:
                self._serve(ticket, error)

    def forked(self) -> None:
        """In a child: what is in use, or under way, is the parent's. Models that nobody used are here, too."""
        self.working = None
        self.events.clear()
        for name, entry in list(self.entries.items()):
            if entry.leases or entry.state in (LOADING, UNLOADING):
                self._foreign.append(entry)
                self.entries[name] = Entry(name, entry.options, entry.configured, entry.ttl, pinned=entry.pinned)
            else:
                entry.fetching, entry.path, entry.waiting, entry.dismissing = False, None, [], []

    def _serve(self, ticket: Ticket, error: BaseException | None = None) -> None:
        entry = ticket.entry
        ticket.served = True
        for queue in (entry.waiting, entry.dismissing):
            if ticket in queue:
                queue.remove(ticket)
        if error is None and ticket.wish == LEASE:
            entry.leases += 1
            ticket.leased, ticket.llm = True, entry.llm
        ticket.deliver(entry if error is None else error)

    def _fail(self, entry: Entry, error: BaseException) -> None:
        """Everybody who waits is told; the next who asks tries anew."""
        entry.error = str(error)
        entry.progress = entry.path = None
        self._tell("failed", entry, seconds=self._clock() - entry.began, error=error)
        for ticket in list(entry.waiting):
            self._serve(ticket, error)
        self._dismiss(entry)

    def _dismiss(self, entry: Entry) -> None:
        """Tell those who wanted it unloaded that it is."""
        for ticket in list(entry.dismissing):
            self._serve(ticket)
        if not (entry.configured or entry.pinned or entry.waiting or entry.fetching):  # names that lead nowhere would gather
            self.entries.pop(entry.name, None)

    # ---- what to do next ----

    def advance(self) -> Job | None:
        """A job that can be begun now, and counts as begun; call it until there is none."""
        for entry in list(self.entries.values()):
            if entry.dismissing and entry.state == OUT:
                self._dismiss(entry)
        job = None if self.closed else self._fetch()
        if job is None:
            begin = self._next_load()
            if self.working is None:
                job = self._unload_any() or (None if begin is None else begin())
        self._serve_open()
        return job

    def pending(self) -> bool:
        """Whether something may be to be done before anybody calls again."""
        if self.closed:
            return any(entry.state != OUT for entry in self.entries.values())
        return (any(entry.waiting or entry.dismissing for entry in self.entries.values())
                or self.next_expiry() is not None or bool(self._overdrawn()))

    def next_expiry(self) -> float | None:
        """When, by the clock, the next model has stayed unused for long enough."""
        return min((entry.used + entry.ttl for entry in self.entries.values()
                    if self._idle(entry) and not entry.pinned and entry.ttl is not None and entry.used is not None), default=None)

    def _serve_open(self, before: float = math.inf) -> None:
        """Those whose model is here, of tickets with lower numbers than that."""
        for entry in self.entries.values():
            if entry.open:
                for ticket in [ticket for ticket in entry.waiting if ticket.number < before]:
                    self._serve(ticket)

    def _overdrawn(self) -> list[str]:
        """Devices of which several models took more than was told, and than the pool may."""
        return [use.device for use in self.budget.use(held) if use.used > use.limit] if len(held := self.held()) > 1 else []

    def _fetch(self) -> Job | None:
        if sum(entry.fetching for entry in self.entries.values()) >= MOST_FETCHES:
            return None
        for entry in self.entries.values():
            if entry.waiting and entry.state == OUT and entry.path is None and not entry.fetching:
                entry.fetching, entry.progress = True, None
                entry.began = self._clock()
                return Job(FETCH, entry)
        return None

    def _unload_any(self) -> Job | None:
        """Who is to go whether another wants its memory or not."""
        now = self._clock()
        over = self._overdrawn()
        for entry in sorted(self.entries.values(), key=last_use):
            if self.closed and entry.state == IN:
                return self._unload(entry, "closed")
            if not self._idle(entry):
                continue
            if entry.dismissing:
                return self._unload(entry, "asked")
            if entry.pinned:
                continue
            if entry.ttl is not None and entry.used is not None and entry.used + entry.ttl <= now:
                return self._unload(entry, "ttl")
            if any(entry.held.get(device) for device in over):
                return self._unload(entry, "memory")
        return None

    def _idle(self, entry: Entry) -> bool:
        return entry.state == IN and not entry.leases and not (entry.open and entry.waiting)

    def _unload(self, entry: Entry, reason: str) -> Job:
        entry.state, entry.reason = UNLOADING, reason
        entry.began = self._clock()
        self.working = entry
        self._tell("unloading", entry, memory=entry.held, reason=reason)
        return Job(UNLOAD_JOB, entry)

    # ---- who is loaded next, and who makes room ----

    def _next_load(self) -> Callable[[], Job] | None:
        """How to begin what brings the first of those who wait nearer. Marks whose leases must end before; nobody overtakes."""
        for entry in self.entries.values():
            entry.draining = False
        if self.closed:
            return None
        wanted = [entry for entry in self.entries.values() if entry.waiting and entry.state == OUT and entry.path is not None]
        for entry in sorted(wanted, key=lambda entry: entry.waiting[0].number):
            self._serve_open(before=entry.waiting[0].number)
            if entry.need is None:
                return partial(self._begin, entry)
            try:
                going = victims(entry, entry.need, self.entries.values(), self.budget, settled=self.working is None)
            except OutOfMemoryError as error:
                if entry.need.problem is not None:
                    entry.need = None  # there may be more memory the next time
                self._fail(entry, error)
                continue
            if going is None:
                return None
            if not going:
                return partial(self._begin, entry)
            for victim in going:
                victim.draining = True
            free = [victim for victim in going if not victim.leases]
            return partial(self._unload, free[0], "memory") if len(free) == len(going) else None
        return None

    def _begin(self, entry: Entry) -> Job:
        """Measure what it needs, or load it, where that is known."""
        self.working = entry
        entry.began = self._clock()
        if entry.need is None:
            return Job(MEASURE, entry, entry.path)
        entry.state, entry.held, entry.progress = LOADING, entry.need.amounts, 0.0
        self._tell("loading", entry, memory=entry.held)
        return Job(LOAD_JOB, entry, entry.path)

    # ---- what came of a job ----

    def fetched(self, entry: Entry, path: Path, stamp: Any) -> None:
        entry.fetching, entry.progress = False, None
        if stamp != entry.stamp:
            entry.need = None  # of another file
        entry.path, entry.stamp = path if entry.waiting else None, stamp  # as `withdraw` does

    def measured(self, entry: Entry, need: Need) -> None:
        self.working = None
        self.budget.learn(need.free)
        entry.need = need

    def loaded(self, entry: Entry, llm: Any, taken: Amounts, most: Amounts) -> None:
        """`taken`: what it takes now; `most`: with all its sequences, which is what counts."""
        need = entry.need
        assert need is not None
        self.working = None
        entry.state, entry.llm, entry.progress, entry.error = IN, llm, None, None
        entry.held = {device: max(most.get(device, 0), need.amounts.get(device, 0)) for device in {**need.amounts, **most}}
        if not self.budget.lacking(entry.held):  # else what was told is as good as it gets
            entry.need = replace(need, amounts=entry.held)
        entry.used = self._clock()
        self._tell("loaded", entry, seconds=entry.used - entry.began, memory=taken)
        last = entry.dismissing[0].number if entry.dismissing else math.inf
        for ticket in [ticket for ticket in entry.waiting if ticket.number < last]:  # before others' wish for the memory is looked at
            self._serve(ticket)

    def failed(self, job: Job, error: BaseException) -> None:
        """A job failed. Where memory is short while other models have some, these go first, and it is tried again."""
        entry = job.entry
        if job.kind == FETCH:
            entry.fetching = False
        else:
            self.working = None
        if job.kind == LOAD_JOB:
            entry.state, entry.held = OUT, NOTHING
            assert entry.need is not None
            if isinstance(error, OutOfMemoryError) and any(other.evictable for other in self.entries.values()):
                entry.need, entry.progress = replace(entry.need, problem=str(error)), None
                return
        self._fail(entry, error)

    def unloaded(self, entry: Entry) -> None:
        self.working = None
        self._tell("unloaded", entry, seconds=self._clock() - entry.began, memory=entry.held, reason=entry.reason)
        entry.state, entry.llm, entry.held, entry.path = OUT, None, NOTHING, None
        for other in self.entries.values():
            if other.need is not None and other.need.problem is not None:
                other.need = None  # there is more memory now

    def _tell(self, kind: str, entry: Entry, **facts: Any) -> None:
        self.events.append(PoolEvent(kind, entry.name, time.time(), **facts))
