"""Several models within one memory budget: loaded on demand, unloaded when others need the room, never while in use.

`core` says what is to be done, `keeper` is the thread that does it, `loading` how; `sync` and `aio` are how to ask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gollama.pool.records import MemoryUse, ModelStatus, PoolEvent
from gollama.pool.sync import Lease, ModelPool

__all__ = ["AsyncLease", "AsyncModelPool", "Lease", "MemoryUse", "ModelPool", "ModelStatus", "PoolEvent"]

if TYPE_CHECKING:
    from gollama.pool.aio import AsyncLease, AsyncModelPool


def __getattr__(name: str) -> Any:
    """asyncio takes longer to import than all the rest."""
    if name in ("AsyncLease", "AsyncModelPool"):
        from gollama.pool import aio

        return getattr(aio, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
