"""Which backend and which devices to compute with."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gollama import _native
from gollama._memory import available_memory
from gollama.backends import loading
from gollama.backends.installed import InstalledBackend, installed
from gollama.backends.probing import probe
from gollama.errors import BackendError
from gollama.options import BACKENDS, LoadOptions

logger = logging.getLogger("gollama")

AUTO = tuple(name for name in BACKENDS if name != "cpu")  # in the order in which they are taken
SOFTWARE = ("llvmpipe", "lavapipe", "swiftshader", "microsoft basic render")  # drivers that compute on the CPU


@dataclass(frozen=True)
class Device:
    """Something to compute on. Memory is bytes, as it was when the list was made."""

    name: str  # as `devices=` takes it: "CUDA0", "Vulkan1"; "CPU"
    description: str
    backend: str  # "cuda", …; "cpu"
    kind: str  # "gpu", "igpu" (shares the host's memory), "cpu", "accel" (helps the CPU)
    id: str | None  # on its bus: "0000:01:00.0"
    memory_free: int
    memory_total: int
    note: str = ""  # of an LLM's CPU: which installed backend was passed over, and why

    @property
    def is_software(self) -> bool:
        """Whether it is a driver that computes on the CPU, slower than the CPU itself. It must be asked for."""
        return self.backend != "cpu" and any(word in self.description.lower() for word in SOFTWARE)


@dataclass(frozen=True)
class Choice:
    """What to compute with, and what was passed over on the way there."""

    backend: str
    devices: tuple[Device, ...]  # of the backend; none for the CPU
    notes: tuple[str, ...] = ()


def devices() -> list[Device]:
    """Every device that gollama can use here: those of the installed backends that work, then the CPU.

    Loads these backends into the process. A device that two backends know is there twice, under two names.
    """
    found: list[Device] = []
    for backend in _one_of_each(installed()):
        if probe(backend).problem is None:
            with contextlib.suppress(BackendError):  # it worked in the child, and does not here
                found += _devices_of(backend)
    return [*found, cpu()]


def cpu(note: str = "") -> Device:
    """The CPU, its memory that of the host."""
    facts = next(facts for facts in _native.devices() if facts.kind == "cpu")
    free = available_memory()  # of which ggml knows nothing
    return replace(_device(facts, "cpu"), memory_free=facts.memory_free if free is None else free, note=note)


def choose(options: LoadOptions) -> Choice:
    """What the options ask for, loaded and ready. BackendError where that cannot be had."""
    gpu_wanted = options.devices is not None or (options.prefer_gpu and options.gpu_layers != 0)
    if options.backend == "cpu" or (options.backend == "auto" and not gpu_wanted):
        return Choice("cpu", ())
    candidates = [one for one in installed() if options.backend in ("auto", one.backend)]
    if options.backend == "auto":
        known = [one for one in candidates if one.backend in AUTO]
        candidates = sorted(known, key=lambda one: AUTO.index(one.backend)) + [one for one in candidates if one.backend not in AUTO]
    elif not candidates:
        unreadable = [f"{one.distribution}: {one.problem}" for one in installed() if not one.backend]  # it may be one of these
        raise BackendError("; ".join([f"backend {options.backend!r} is not installed (installed: {_names(installed())}): "
                                      f"{advice(options.backend)}", *unreadable]))
    notes = []
    for backend in candidates:
        probed = probe(backend)
        if probed.problem is not None:
            notes.append(f"{backend.distribution} cannot be used: {probed.problem}")
            continue
        try:
            here = _devices_of(backend)
        except BackendError as error:  # it worked in the child, and does not here
            notes.append(f"{backend.distribution} cannot be used: {error}")
            continue
        wanted = _wanted(here, options)
        if wanted:
            return Choice(backend.backend, wanted, tuple(notes))
        notes.append(f"{backend.distribution} was passed over: it has {_names(here, 'no device')}"
                     + ", which computes on the CPU and must be asked for by name" * all(device.is_software for device in here))
    if options.backend != "auto":
        raise BackendError(f"backend {options.backend!r} cannot be used. " + ". ".join(notes))
    if options.devices is not None:
        wanted_names = ", ".join(map(repr, options.devices))
        raise BackendError(". ".join([f"there are no devices {wanted_names}; there are: {_names(devices())}", *notes]))
    for note in notes:
        _warn_once(f"{note}. Computing on the CPU")
    return Choice("cpu", (), tuple(notes))


def advice(backend: str) -> str:
    """How to install a backend on this platform."""
    wheels = [row["distribution"] for row in _native.build().get("wheels", ()) if row["backend"] == backend]
    if not wheels:
        return "there is no wheel of it for this platform ({system} {machine})".format(**_native.build())
    return " or ".join(f"`pip install {name}`" for name in sorted(wheels))


def _wanted(here: Sequence[Device], options: LoadOptions) -> tuple[Device, ...]:
    """Those of a backend's devices that the options mean; none where they mean others. BackendError where they cannot be meant."""
    if options.devices is not None:
        names = {device.name.lower(): device for device in here}
        chosen = []
        for wanted in options.devices:
            found = names.get(wanted.lower()) if isinstance(wanted, str) else here[wanted] if wanted < len(here) else None
            if found is None:
                if options.backend == "auto":
                    return ()
                raise BackendError(f"backend {options.backend!r} has no device {wanted!r}; it has: {_names(here)}")
            chosen.append(found)
        return tuple(dict.fromkeys(chosen))
    usable = [device for device in here if options.backend != "auto" or not device.is_software]
    # as llama.cpp does: what shares the host's memory is taken where there is nothing better
    return tuple(device for device in usable if device.kind == "gpu") or tuple(device for device in usable if device.kind == "igpu")


def _devices_of(backend: InstalledBackend) -> list[Device]:
    names = loading.load(backend)
    return [_device(facts, backend.backend) for facts in _native.devices() if facts.name in names]


def _device(facts: _native.DeviceFacts, backend: str) -> Device:
    return Device(facts.name, facts.description, backend, facts.kind, facts.id, facts.memory_free, facts.memory_total)


def _one_of_each(backends: Iterable[InstalledBackend]) -> list[InstalledBackend]:
    """The first usable wheel of each hardware: a process has no use for two CUDAs."""
    first: dict[str, InstalledBackend] = {}
    for backend in backends:
        if backend.backend not in first or probe(first[backend.backend]).problem is not None:
            first[backend.backend] = backend
    return list(first.values())


def _names(these: Iterable[InstalledBackend | Device], none: str = "none") -> str:
    return ", ".join(one.distribution if isinstance(one, InstalledBackend) else f"{one.name} ({one.description})" for one in these) or none


@functools.cache
def _warn_once(message: str) -> None:
    logger.warning("%s", message)
