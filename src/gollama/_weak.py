"""Sets that hold nobody."""

from __future__ import annotations

import weakref
from typing import TypeVar

Thing = TypeVar("Thing")


def members(things: weakref.WeakSet[Thing]) -> list[Thing]:
    """Those that are in it, also while other threads put some in or take some out."""
    while True:
        try:
            return list(things)
        except RuntimeError:  # it changed its size meanwhile
            continue
