"""The places of working sequences: llama.cpp computes only neighbours together."""

from __future__ import annotations

from collections.abc import Sequence

from gollama.engine.choice import Slot
from gollama.engine.prefixes import Prefixes


def close_ranks(prefixes: Prefixes) -> None:
    """Move working sequences next to each other, and among them those of the same adapters, which have the same steps."""
    busy = _busy(prefixes)
    while len(busy) > 1 and busy[-1].index - busy[0].index >= len(busy):
        gap = next(slot for slot in prefixes.slots[busy[0].index :] if slot.choice is None)
        end = min(busy[0], busy[-1], key=lambda slot: len(slot.tokens))
        if not prefixes.swap(gap, end):
            return  # it goes on as it is, only slower
        busy = _busy(prefixes)
    _sort(prefixes, busy)


def _busy(prefixes: Prefixes) -> list[Slot]:
    return [slot for slot in prefixes.slots if slot.choice is not None]


def _sort(prefixes: Prefixes, busy: Sequence[Slot]) -> None:
    order = list(dict.fromkeys(slot.adapters for slot in busy))
    if len(order) < 2:
        return
    wanted = dict(zip(busy, sorted((slot.adapters for slot in busy), key=order.index)))
    for slot, adapters in wanted.items():
        if slot.adapters != adapters:
            misplaced = [other for other in busy if other.adapters == adapters != wanted[other]]
            if not prefixes.swap(slot, min(misplaced, key=lambda other: (wanted[other] != slot.adapters, len(other.tokens)))):
                return
