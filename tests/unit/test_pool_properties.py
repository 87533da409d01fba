"""Laws of the pool's machine of states, whatever its users do and however its jobs end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gollama.errors import BackendError, DownloadError, OutOfMemoryError
from gollama.options import LoadOptions
from gollama.pool.budget import MIB, Budget
from gollama.pool.core import FETCH, MEASURE, UNLOAD_JOB, Core, Job
from gollama.pool.entries import IN, LEASE, LOAD, UNLOAD, Entry, Ticket
from gollama.pool.records import Amounts, Need
from tests.support.fake_loader import FakeLlm

SIZES: dict[str, Amounts] = {
    "a": {"host": 30 * MIB}, "b": {"host": 30 * MIB}, "c": {"host": 40 * MIB}, "d": {"host": 20 * MIB, "GPU0": 30 * MIB},
    "e": {"host": 10 * MIB, "GPU0": 20 * MIB}, "too large": {"host": 200 * MIB}}
LIMITS = {"host": 100 * MIB, "GPU0": 40 * MIB}
NAMES = st.sampled_from(sorted(SIZES))


class PoolMachine(RuleBasedStateMachine):
    """Users and the jobs' ends come in any order; `advance` is called whenever the thread would."""

    @initialize(ttl=st.sampled_from([None, None, 0.0, 5.0]))
    def begin(self, ttl: float | None) -> None:
        self.now = 0.0
        budget = Budget(100)
        budget.limits.update(LIMITS)
        self.core = Core(budget, lambda: self.now)
        self.core.entries.update({name: Entry(name, LoadOptions(), True, ttl) for name in SIZES})
        self.tickets: list[Ticket] = []
        self.outcomes: dict[int, Any] = {}
        self.jobs: list[Job] = []
        self.alive: set[FakeLlm] = set()

    # ---- users ----

    @rule(name=NAMES, wish=st.sampled_from([LEASE, LEASE, LEASE, LOAD, UNLOAD]))
    def ask(self, name: str, wish: str) -> None:
        self.now += 0.01
        outcomes: list[Any] = []
        ticket = self.core.ask(self.core.entries[name], wish, outcomes.append)
        self.tickets.append(ticket)
        self.outcomes[ticket.number] = outcomes

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        self.core.withdraw(data.draw(st.sampled_from(self.tickets)))

    @precondition(lambda self: any(ticket.leased for ticket in self.tickets))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.now += 0.01
        self.core.withdraw(data.draw(st.sampled_from([ticket for ticket in self.tickets if ticket.leased])))

    @rule(name=NAMES, pinned=st.booleans())
    def pin(self, name: str, pinned: bool) -> None:
        self.core.entries[name].pinned = pinned

    @rule(seconds=st.floats(0.1, 4))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    # ---- the thread ----

    @rule()
    def advance(self) -> None:
        before = {entry: (entry.leases, entry.used) for entry in self.core.entries.values() if entry.state == IN}
        job = self.core.advance()
        if job is None:
            return
        self.jobs.append(job)
        if job.kind == UNLOAD_JOB:
            self.may_go(job.entry, before)

    @rule(steps=st.integers(3, 12))
    def work(self, steps: int) -> None:
        """As long as nobody comes, jobs end well, one after another: else few models would ever be loaded."""
        for _ in range(steps):
            self.advance()
            if self.jobs:
                self.end(self.jobs.pop(0), "well")
            self.the_budget_is_never_exceeded()

    def may_go(self, entry: Entry, before: dict[Entry, tuple[int, float | None]]) -> None:
        leases, used = before[entry]
        assert leases == 0
        assert entry.reason == "asked" or not entry.pinned
        assert used is not None
        if entry.reason == "ttl":
            assert entry.ttl is not None and used + entry.ttl <= self.now
        if entry.reason == "memory":  # nobody who was unused for longer could have gone in its place
            for other, (other_leases, other_used) in before.items():
                assert other_used is not None
                if not other_leases and not other.pinned and other_used < used:
                    assert any(other.held.get(device, 0) < amount for device, amount in entry.held.items())

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), ending=st.sampled_from(["well", "well", "well", "memory", "badly"]))
    def finish(self, data: st.DataObject, ending: str) -> None:
        job = data.draw(st.sampled_from(self.jobs))
        self.jobs.remove(job)
        self.end(job, ending)

    def end(self, job: Job, ending: str) -> None:
        entry, core = job.entry, self.core
        needed = SIZES[entry.name]
        if job.kind == UNLOAD_JOB:
            self.alive.remove(entry.llm)
            core.unloaded(entry)
        elif ending == "badly":
            core.failed(job, DownloadError("no") if job.kind == FETCH else BackendError("no"))
        elif job.kind == FETCH:
            core.fetched(entry, Path(entry.name), entry.name)
        elif job.kind == MEASURE:
            core.measured(entry, Need(needed, 1, LIMITS, "another program has it" if ending == "memory" else None))
        elif ending == "memory":
            core.failed(job, OutOfMemoryError("no room"))
        else:
            llm = FakeLlm(Path(entry.name))
            self.alive.add(llm)
            core.loaded(entry, llm, needed, needed)

    # ---- laws ----

    @invariant()
    def the_budget_is_never_exceeded(self) -> None:
        used: Counter[str] = Counter()
        for entry in self.core.entries.values():
            used.update(entry.held)
        assert all(used[device] <= limit for device, limit in LIMITS.items())

    @invariant()
    def what_is_loaded_is_counted(self) -> None:
        for llm in self.alive:
            assert self.core.entries[llm.path.name].held == SIZES[llm.path.name]

    @invariant()
    def nobody_has_a_lease_on_what_is_not_loaded(self) -> None:
        leases = Counter(ticket.entry for ticket in self.tickets if ticket.leased)
        for entry in self.core.entries.values():
            assert entry.leases == leases[entry]
        for ticket in self.tickets:
            if ticket.leased:
                assert ticket.entry.state == IN and ticket.llm is ticket.entry.llm and ticket.llm in self.alive

    @invariant()
    def llama_cpp_does_one_thing_at_a_time(self) -> None:
        assert sum(job.kind != FETCH for job in self.jobs) <= 1

    @invariant()
    def each_is_served_at_most_once(self) -> None:
        assert all(len(outcomes) <= 1 for outcomes in self.outcomes.values())

    def teardown(self) -> None:
        """Once leases end, and jobs end well, everybody was served."""
        if not hasattr(self, "core"):
            return
        for _ in range(50 + 20 * len(self.tickets)):
            for ticket in self.tickets:
                if ticket.leased:
                    self.core.withdraw(ticket)
            self.now += 0.01
            self.advance()
            for job in list(self.jobs):
                self.jobs.remove(job)
                self.end(job, "well")
            self.the_budget_is_never_exceeded()
        assert all(ticket.served for ticket in self.tickets)
        assert not any(entry.waiting or entry.dismissing for entry in self.core.entries.values())
        self.core.close()
        while (last := self.core.advance()) is not None:
            assert last.kind == UNLOAD_JOB
            self.end(last, "well")
        assert not self.alive and not self.core.pending() and self.core.working is None


PoolMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
test_the_pool_keeps_its_laws = PoolMachine.TestCase
