"""What a pool keeps of a model, and of those who wait for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gollama.options import LoadOptions
from gollama.pool.records import NOTHING, Amounts, Need

OUT, LOADING, IN, UNLOADING = "out", "loading", "in", "unloading"
LEASE, LOAD, UNLOAD = "lease", "load", "unload"

Deliver = Callable[[Any], object]


@dataclass(eq=False)
class Ticket:
    """Somebody who waits: for a lease, for a load, or for an unload. Served once, with the entry or with an exception."""

    number: int
    entry: Entry
    wish: str
    deliver: Deliver
    served: bool = False
    leased: bool = False  # and the lease is the ticket's, until it is withdrawn
    llm: Any = None  # then


@dataclass(eq=False)
class Entry:
    """A model of the pool. `llm` is there while `state` is IN or UNLOADING; `held` is what counts against the budget."""

    name: str
    options: LoadOptions
    configured: bool  # by the pool's maker; others are forgotten when they fail
    ttl: float | None = None
    state: str = OUT
    fetching: bool = False
    path: Path | None = None
    stamp: Any = None  # tells whether the file is still the one that was measured
    need: Need | None = None
    held: Amounts = field(default_factory=lambda: NOTHING)
    llm: Any = None
    leases: int = 0
    pinned: bool = False
    used: float | None = None  # by the pool's clock: when the last lease ended
    began: float = 0.0  # what is being done with it
    progress: float | None = None
    reason: str = ""  # why it is unloaded
    error: str | None = None
    draining: bool = False  # gives no new leases, because another model waits for its memory
    waiting: list[Ticket] = field(default_factory=list)
    dismissing: list[Ticket] = field(default_factory=list)  # who waits for its unloading

    @property
    def open(self) -> bool:
        """Whether it gives leases."""
        return self.state == IN and not self.draining and not self.dismissing

    @property
    def evictable(self) -> bool:
        """Whether it may be unloaded for another, once nobody uses it."""
        return self.state == IN and not self.pinned

    def told_state(self) -> str:
        """In the words of ModelStatus."""
        if self.state == OUT:
            return "fetching" if self.fetching else "waiting" if self.waiting else "unloaded"
        return {LOADING: "loading", IN: "loaded", UNLOADING: "unloading"}[self.state]
