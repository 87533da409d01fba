"""Who makes room for a model that is to be loaded."""

from __future__ import annotations

from collections.abc import Collection

from gollama.errors import OutOfMemoryError
from gollama.pool.budget import Budget
from gollama.pool.entries import UNLOADING, Entry
from gollama.pool.records import Need, megabytes


def last_use(entry: Entry) -> float:
    return entry.used if entry.used is not None else 0.0


def victims(entry: Entry, need: Need, entries: Collection[Entry], budget: Budget, settled: bool) -> list[Entry] | None:
    """Who must go so that the model fits, those whom nobody uses first, then the longest unused. None: wait for what is under way.

    OutOfMemoryError where it would not fit even then and nothing is under way (`settled`).
    """
    if lacking := budget.lacking(need.amounts):
        raise OutOfMemoryError(f"{entry.name} needs {megabytes(need.amounts)}, and the pool may take "
                               f"{megabytes({device: budget.limits[device] for device in lacking})}: give the pool more memory, or load "
                               "the model with a smaller context_size, max_sequences or prefix_cache")
    order = sorted((other for other in entries if other.evictable), key=lambda other: (other.leases > 0, last_use(other)))
    if need.problem is not None and order:
        return order[:1]
    for count in range(len(order) + 1 if need.problem is None else 0):
        if _fits(need, order[:count], entries, budget):
            return _necessary(need, order[:count], entries, budget)
    if not settled:
        return None
    if need.problem is not None:
        raise OutOfMemoryError(f"{entry.name} does not fit: {need.problem}")
    pinned = "; ".join(f"{other.name} holds {megabytes(other.held)}" for other in entries if other.pinned and other.held)
    raise OutOfMemoryError(f"{entry.name} needs {megabytes(need.amounts)}, and models that are pinned leave too little: {pinned}")


def _fits(need: Need, going: list[Entry], entries: Collection[Entry], budget: Budget) -> bool:
    """Beside what stays."""
    staying = [other.held for other in entries if other.held and other.state != UNLOADING and other not in going]
    return not budget.lacking(need.amounts, staying)


def _necessary(need: Need, going: list[Entry], entries: Collection[Entry], budget: Budget) -> list[Entry]:
    """Those without whose going it does not fit: an older one may hold too little, or be on another device. The older go rather."""
    for victim in reversed(going):
        others = [other for other in going if other is not victim]
        if _fits(need, others, entries, budget):
            going = others
    return going
