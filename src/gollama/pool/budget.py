"""The memory that a pool may take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from gollama._memory import available_memory
from gollama._options import INT32_MAX
from gollama.backends import devices
from gollama.backends.estimating import HOST
from gollama.errors import BackendError, OptionError
from gollama.pool.records import Amounts, MemoryUse

MIB = 2**20
SHARE = 0.8  # of what is free, where nothing was said


class Budget:
    """A limit in bytes for the host and for each device.

    Of a device that was not named it is a share of what was free when a model was first to be placed there.
    """

    def __init__(self, memory: int | Mapping[str, int] | None = None) -> None:
        given = {HOST: memory} if isinstance(memory, int) else {} if memory is None else memory
        if not isinstance(given, Mapping):
            raise OptionError(f"memory must be MiB, or a mapping of device names ('host', 'CUDA0' …) to MiB, not {memory!r}")
        self.limits: dict[str, int] = {_device(name): _mebibytes(amount) * MIB for name, amount in given.items()}
        _require_known(set(self.limits) - {HOST})
        free = available_memory()
        if HOST not in self.limits and free is not None:
            self.limits[HOST] = int(SHARE * free)

    def limits_for(self, free: Amounts) -> dict[str, int]:
        """The limits of these devices, of which so many bytes are free."""
        return {device: self.limits.get(device, int(SHARE * amount)) for device, amount in free.items()}

    def learn(self, free: Amounts) -> None:
        """Keep the limits of devices that were not known."""
        self.limits.update(self.limits_for(free))

    def lacking(self, wanted: Amounts, held: Iterable[Amounts] = ()) -> dict[str, int]:
        """How many bytes each device lacks for what is wanted beside what is held; empty where all fits."""
        used = total(held)
        more = {device: used[device] + amount - self.limits.get(device, 0) for device, amount in wanted.items() if amount}
        return {device: amount for device, amount in more.items() if amount > 0}

    def use(self, held: Iterable[Amounts]) -> tuple[MemoryUse, ...]:
        used = total(held)
        return tuple(MemoryUse(device, limit, used[device]) for device, limit in self.limits.items())


def total(held: Iterable[Amounts]) -> Counter[str]:
    used: Counter[str] = Counter()
    for amounts in held:
        used.update(amounts)
    return used


def _device(name: Any) -> str:
    if not isinstance(name, str):
        raise OptionError(f"memory must map names of devices to MiB, and {name!r} is no name")
    return HOST if name.lower() == HOST else name


def _mebibytes(amount: Any) -> int:
    if isinstance(amount, bool) or not isinstance(amount, int) or not 0 < amount <= INT32_MAX:
        raise OptionError(f"memory must be MiB, whole numbers of at least 1, not {amount!r}")
    return amount


def _require_known(names: set[str]) -> None:
    if not names:
        return
    here = [device.name for device in devices() if device.backend != "cpu"]
    if unknown := names - set(here):
        raise BackendError(f"memory names {', '.join(map(repr, sorted(unknown)))}; the devices here are: "
                           + ", ".join(map(repr, [HOST, *here])))
