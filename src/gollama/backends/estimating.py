"""How much memory a model takes, told before it is loaded, and of one that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gollama import _native
from gollama._memory import available_memory
from gollama.backends.placement import DEFAULT_CONTEXT_SIZE, SCORED_ROWS, Placement, context_fields, place
from gollama.errors import OutOfMemoryError
from gollama.options import LoadOptions

HOST = _native.HOST


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes of a device's memory. The host's row is called "host"; its weights count although they are mapped from the file."""

    device: str
    weights: int
    context: int  # KV cache and recurrent states
    compute: int  # buffers for what lies between
    memory_free: int  # of the device, at that time
    memory_total: int

    @property
    def needed(self) -> int:
        return self.weights + self.context + self.compute


@dataclass(frozen=True)
class Estimate:
    """What loading a model would take, for the placement that loading would choose now."""

    devices: tuple[DeviceMemory, ...]  # the host's last
    gpu_layers: int  # more than the model has: all
    context_size: int
    sequences: int
    problem: str | None  # why it does not fit; None: it does


def memory_rows(rows: Sequence[_native.MemoryRow]) -> tuple[DeviceMemory, ...]:
    free = available_memory()  # of the host, of which ggml knows nothing
    return tuple(DeviceMemory(*row[:4], row.memory_free if free is None or row.device != HOST else free, row.memory_total) for row in rows)


def estimate(path: Path, options: LoadOptions, sequences: int = 1) -> Estimate:
    """Measured by llama.cpp, which lays everything out and allocates nothing. Takes a fraction of a second.

    `sequences` generations at once, each with a context of its own. BackendError, InvalidModelError as loading raises them.
    """
    problem = None
    try:
        placement = place(path, options)
    except OutOfMemoryError as error:
        problem = str(error)
        placement = Placement(options.backend, (), 0, None)
    size = placement.context_size or (options.context_size if isinstance(options.context_size, int) else DEFAULT_CONTEXT_SIZE)
    context = context_fields(options, size, sequences, max(sequences, SCORED_ROWS))
    rows = memory_rows(_native.estimate(path, placement.fields(options), context))
    return Estimate(rows, placement.gpu_layers, size, sequences, problem or _problem(rows))


def _problem(rows: Sequence[DeviceMemory]) -> str | None:
    for row in rows:
        if row.needed > row.memory_free:
            return f"{row.device} would need {row.needed / 2**20:.0f} MiB and has {row.memory_free / 2**20:.0f} MiB free"
    return None
