"""What a pool tells of its models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from gollama.options import LoadOptions

Amounts = Mapping[str, int]  # bytes by the name of the device; "host" is the machine itself
NOTHING: Amounts = MappingProxyType({})

STATES = ("unloaded", "fetching", "waiting", "loading", "loaded", "unloading")
EVENTS = ("loading", "loaded", "unloading", "unloaded", "failed")
REASONS = ("memory", "ttl", "asked", "closed")


@dataclass(frozen=True)
class ModelStatus:
    """A model of a pool at one moment."""

    name: str
    state: str  # one of STATES; "waiting" is for memory, or for another load to end
    progress: float | None  # while it is fetched or loaded: the share that is there, where that is known
    leases: int
    waiting: int  # who waits for it
    pinned: bool
    ttl: float | None  # seconds that it stays after its last lease; None: until its memory is needed
    last_used: float | None  # time.time() when its last lease ended, or now while there is one; None: never
    memory: Amounts  # counted against the budget: what it takes, or would with every one of its sequences, if that is more
    sequences: int | None  # most generations at once, for which memory is kept
    options: LoadOptions
    path: Path | None  # of its file, once that is known
    error: str | None  # why the last load failed


@dataclass(frozen=True)
class PoolEvent:
    """Something that befell a model."""

    kind: str  # one of EVENTS
    model: str
    time: float  # time.time()
    seconds: float | None = None  # what "loaded", "unloaded" and "failed" took since they began
    memory: Amounts = field(default_factory=lambda: NOTHING)  # "loading": kept for it; "loaded": taken; "unloading", "unloaded": given back
    reason: str | None = None  # of "unloading" and "unloaded", one of REASONS
    error: BaseException | None = None  # of "failed"


@dataclass(frozen=True)
class MemoryUse:
    """A device's part in the budget; bytes."""

    device: str
    limit: int
    used: int  # by models that are loaded, are being loaded or unloaded

    @property
    def free(self) -> int:
        return self.limit - self.used


@dataclass(frozen=True)
class Need:
    """What loading a model takes, with memory for so many generations at once."""

    amounts: Amounts
    sequences: int
    free: Amounts = field(default_factory=lambda: NOTHING)  # of each device, at that time
    problem: str | None = None  # why there is not as much now; None: there is


def megabytes(amounts: Amounts) -> str:
    """For messages: "300 MiB of host, 20 MiB of CUDA0"."""
    return ", ".join(f"{amount / 2**20:.0f} MiB of {device}" for device, amount in amounts.items() if amount) or "nothing"
