"""What devices hold and how busy they are, sampled while something else runs."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from gollama import _native
from gollama._memory import available_memory
from gollama._weak import members
from gollama.backends import Device, devices
from gollama.results import DeviceUse

logger = logging.getLogger("gollama")

PCI = Path("/sys/bus/pci/devices")
MOST_SAMPLES = 10_000  # of each device; the oldest go


@dataclass(frozen=True)
class DeviceSample:
    """A device at one moment: all programs on it, not this one alone."""

    device: str
    time: float  # time.perf_counter()
    memory_used: int  # bytes
    memory_total: int
    utilization: float | None  # 0 to 1; None where the driver does not tell


class Reading(NamedTuple):
    memory_used: int
    memory_total: int
    utilization: float | None


Reader = Callable[[], Reading]
_running: weakref.WeakSet[DeviceMonitor] = weakref.WeakSet()


def use_since(start: float) -> tuple[DeviceUse, ...]:
    """What the monitors that run now have seen since that time.perf_counter(), at least their last sample. Any thread may ask."""
    return tuple(monitor.use_since(device, start) for monitor in members(_running) for device in monitor.devices)


class DeviceMonitor:
    """Samples devices in a thread of its own, as a `with` block.

    NVIDIA's tell their use where the package nvidia-ml-py is installed (`pip install "gollama-cpu[monitor]"`), AMD's by files of
    the kernel; of the others the memory is known, and the use is not.

    >>> with DeviceMonitor(interval=0.1) as monitor:
    ...     pass
    >>> all(sample.memory_total > 0 for sample in monitor.latest())
    True
    """

    def __init__(self, only: Sequence[Device] | None = None, *, interval: float = 0.5, pci: Path = PCI) -> None:
        """`only` these devices; None: all but the CPU. `interval` in seconds."""
        if not interval > 0:
            raise ValueError(f"interval must be a number of seconds greater than 0, not {interval!r}")
        found = [device for device in devices() if device.backend != "cpu"] if only is None else only
        self._readers = {device.name: _reader(device, pci) for device in found}
        self._samples: dict[str, deque[DeviceSample]] = {name: deque(maxlen=MOST_SAMPLES) for name in self._readers}
        self._silent: set[str] = set()  # devices of which it was told that they could not be sampled
        self._interval = interval
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> DeviceMonitor:
        for name in self._readers:
            self._sample(name)  # so that there is one at once, and an error comes here
        self._thread = threading.Thread(target=self._run, name="gollama-monitor", daemon=True)
        self._thread.start()
        _running.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Take a last sample and end. What was sampled stays. May be called again."""
        if self._thread is not None:
            _running.discard(self)
            self._stop.set()
            self._thread.join()
            self._thread = None
            self._sample_all()

    @property
    def devices(self) -> list[str]:
        """The names of those that are sampled."""
        return list(self._readers)

    def samples(self, device: str) -> list[DeviceSample]:
        """Of one device, oldest first."""
        return list(self._samples[device])

    def latest(self) -> list[DeviceSample]:
        """One of each device."""
        return [kept[-1] for kept in self._samples.values() if kept]

    def peak_memory(self, device: str) -> int:
        """The most that was in use at a sample, in bytes."""
        return max((sample.memory_used for sample in self.samples(device)), default=0)

    def mean_utilization(self, device: str) -> float | None:
        return _mean(self.samples(device))

    def use_since(self, device: str, start: float) -> DeviceUse:
        """From a time.perf_counter() on, or at the last sample where there is none since."""
        kept = self.samples(device)
        recent = [sample for sample in kept if sample.time >= start] or kept[-1:]
        return DeviceUse(device, max((sample.memory_used for sample in recent), default=0), _mean(recent))

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self._sample_all()

    def _sample_all(self) -> None:
        """Of every device whose driver answers: one that sleeps need not."""
        for name in self._readers:
            try:
                self._sample(name)
            except Exception as error:
                if name not in self._silent:
                    self._silent.add(name)
                    logger.warning("%s could not be sampled, and is passed over while that is so: %s", name, error)

    def _sample(self, name: str) -> None:
        self._samples[name].append(DeviceSample(name, time.perf_counter(), *self._readers[name]()))


def _mean(samples: Sequence[DeviceSample]) -> float | None:
    known = [sample.utilization for sample in samples if sample.utilization is not None]
    return sum(known) / len(known) if known else None


def _reader(device: Device, pci: Path) -> Reader:
    """The best there is: the driver's own, or what ggml knows."""
    if device.id is not None:
        busy = pci / device.id / "gpu_busy_percent"
        if busy.is_file():
            return lambda: _amdgpu(busy.parent)
        handle = _nvml_handle(device.id)
        if handle is not None:
            return lambda: _nvml(handle)
    return lambda: _ggml(device.name)


def _ggml(name: str) -> Reading:
    facts = next(facts for facts in _native.devices() if facts.name == name)
    free = available_memory() if facts.kind == "cpu" else None  # of the host's ggml says that all of it is free
    return Reading(facts.memory_total - (facts.memory_free if free is None else free), facts.memory_total, None)


def _amdgpu(folder: Path) -> Reading:
    used, total, busy = (int((folder / name).read_text()) for name in ("mem_info_vram_used", "mem_info_vram_total", "gpu_busy_percent"))
    return Reading(used, total, busy / 100)


def _nvml_handle(address: str) -> Any:
    """NVML's handle of a device by its place on the bus; None without the package, the driver or the device."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetHandleByPciBusId(address.encode())
    except pynvml.NVMLError:
        return None


def memory_bandwidth(device: Device) -> float | None:
    """Bytes a second that a device reads of its memory at most, by its clock and the width of its bus; None: not told."""
    handle = None if device.id is None else _nvml_handle(device.id)
    if handle is None:
        return None
    import pynvml

    try:
        clock = pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_MEM) * 1e6
        return float(2 * clock * pynvml.nvmlDeviceGetMemoryBusWidth(handle) / 8)  # two transfers a clock
    except pynvml.NVMLError:
        return None


def _nvml(handle: Any) -> Reading:
    import pynvml

    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    try:
        busy = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    except pynvml.NVMLError:  # as with MIG
        busy = None
    return Reading(memory.used, memory.total, busy)
