"""A pool's records and messages."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import MappingProxyType

from gollama.errors import BusyError
from gollama.pool.entries import IN, OUT, UNLOAD, Entry, Ticket
from gollama.pool.records import ModelStatus, megabytes


def status_of(entry: Entry, now: float) -> ModelStatus:
    """`now` by the pool's clock."""
    last_used = time.time() if entry.leases else None if entry.used is None else time.time() - (now - entry.used)
    return ModelStatus(
        entry.name, entry.told_state(), entry.progress, entry.leases, len(entry.waiting), entry.pinned, entry.ttl, last_used,
        MappingProxyType(dict(entry.held)), None if entry.need is None else entry.need.sequences, entry.options, entry.path, entry.error)


def those_who_may_go(entries: Iterable[Entry]) -> str:
    """Who holds memory and is in use."""
    return "; ".join(f"{entry.name} ({entry.leases} leases) holds {megabytes(entry.held)}" for entry in entries if entry.leases)


def still_waiting(ticket: Ticket, allowed: float | None, users: str) -> BusyError:
    """What is said to those who waited for long enough."""
    entry = ticket.entry
    if ticket.wish == UNLOAD:
        return BusyError(f"{entry.name} could not be unloaded within {allowed:g} s: it has {entry.leases} leases")
    if entry.state == OUT and not entry.fetching and entry.need is not None:
        what = f"it waits for {megabytes(entry.need.amounts)}" + (f", and {users}" if users else "")
    elif entry.state == IN:
        what = "another model waits for its memory, or somebody for its unloading"
    else:
        share = "" if entry.progress is None else f", {entry.progress:.0%} done"
        what = f"it is {entry.told_state()}{share}, which goes on"
    return BusyError(f"{entry.name} could not be had within {allowed:g} s: {what}. Try again, wait longer (timeout), "
                     "or give the pool more memory")
