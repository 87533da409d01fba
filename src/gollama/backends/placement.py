"""Where a model goes: which devices, how many layers on them, how much context, so that it fits their memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gollama import _native
from gollama._threads import usable_cores
from gollama.backends.choosing import Device, choose
from gollama.errors import BackendError, OutOfMemoryError
from gollama.options import LoadOptions

MIB = 2**20
LEAVE = 1024 * MIB  # llama.cpp's own: what other programs, and what llama.cpp does not count, may take of a device
DEFAULT_CONTEXT_SIZE = 4096
AUTO = -1  # layers: as many as fit
ALL = 9999
SCORED_ROWS = 32  # rows of a step whose logits are kept to score a prompt; each is as wide as the vocabulary


@dataclass(frozen=True)
class Placement:
    """What a model is loaded with, and why."""

    backend: str
    devices: tuple[Device, ...]  # none: the CPU alone
    gpu_layers: int  # more than the model has: all
    context_size: int | None  # None: not decided here
    tensor_split: tuple[float, ...] = ()
    tensor_overrides: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()  # what was passed over, and why

    def fields(self, options: LoadOptions, *, vocab_only: bool = False) -> _native.LoadFields:
        return {
            "devices": [device.name for device in self.devices],
            "gpu_layers": self.gpu_layers,
            "split_mode": options.split_mode,
            "main_gpu": options.main_gpu,
            "tensor_split": self.tensor_split,
            "tensor_overrides": self.tensor_overrides,
            "use_mmap": options.use_mmap,
            "use_mlock": options.use_mlock,
            "check_tensors": options.check_tensors,
            "vocab_only": vocab_only,
        }


def compute_fields(options: LoadOptions) -> _native.ComputeFields:
    """How to compute, as the options say it."""
    threads = options.threads or usable_cores()
    return {"threads": threads, "threads_batch": options.threads_batch or threads, "flash_attention": options.flash_attention,
            "cache_type_k": options.cache_type_k, "cache_type_v": options.cache_type_v}


def context_fields(options: LoadOptions, context_size: int, sequences: int = 1, outputs: int = 1) -> _native.ContextFields:
    return {"context_size": context_size, "batch_size": options.batch_size, "micro_batch_size": options.micro_batch_size,
            "sequences": sequences, "outputs": outputs, **compute_fields(options)}


def unplaced() -> Placement:
    """For a vocabulary, which needs no device."""
    return Placement("cpu", (), 0, None)


def place(path: Path, options: LoadOptions) -> Placement:
    """Choose devices, and what of the model goes on them. Reads the devices' free memory now.

    BackendError for a backend or devices that cannot be had; OutOfMemoryError where what was asked for does not fit.
    """
    if options.numa is not None:
        _native.init_numa(options.numa)
    choice = choose(options)
    _require_devices(options, choice.devices)
    overrides = tuple((pattern, _override(device)) for pattern, device in options.tensor_overrides.items())
    words = {"auto": AUTO, "all": ALL}
    layers = (words[options.gpu_layers] if isinstance(options.gpu_layers, str) else options.gpu_layers) if choice.devices else 0
    context_size = options.context_size if isinstance(options.context_size, int) else None
    placement = Placement(choice.backend, choice.devices, layers, context_size, tuple(options.tensor_split), overrides, choice.notes)
    if layers or options.context_size == "auto":
        return _fitted(path, options, placement)
    return placement


def _require_devices(options: LoadOptions, devices: Sequence[Device]) -> None:
    """BackendError for options that speak of devices that are not there."""
    count = len(devices)
    if not devices:
        return
    if options.main_gpu >= count:
        raise BackendError(f"main_gpu is {options.main_gpu}, and there are {count} devices, numbered from 0")
    for name in ("tensor_split", "gpu_memory"):
        given = getattr(options, name)
        if given and len(given) > 1 and len(given) != count:
            raise BackendError(f"{name} has {len(given)} numbers, and there are {count} devices: "
                               + ", ".join(device.name for device in devices))


def _override(name: str) -> str:
    known = {device.name.lower(): device.name for device in _native.devices()}
    if name.lower() not in known:
        raise BackendError(f"tensor_overrides names the device {name!r}; there are: {', '.join(known.values())}")
    return known[name.lower()]


def _leave(options: LoadOptions, devices: Sequence[Device]) -> list[int]:
    """Bytes to leave free on each device, such that no more than `gpu_memory` is taken."""
    if not devices:
        return [LEAVE]
    limits = options.gpu_memory
    if limits is None:
        # a small device keeps a share that suits it
        return [min(LEAVE, device.memory_total // 8) for device in devices]
    given = (limits,) if isinstance(limits, int) else tuple(limits)
    amounts = [limit * MIB for limit in (given * len(devices) if len(given) == 1 else given)]
    return [max(0, device.memory_free - amount) for device, amount in zip(devices, amounts, strict=True)]


def _fitted(path: Path, options: LoadOptions, placement: Placement) -> Placement:
    """The same with what was left open decided by llama.cpp's fit. OutOfMemoryError, with the figures, where nothing fits."""
    open_context = options.context_size == "auto"
    model = placement.fields(options)
    if not placement.gpu_layers:
        model["devices"] = ()  # they hold nothing of the model, and the host is what must be fitted
    context = context_fields(options, placement.context_size or (0 if open_context else DEFAULT_CONTEXT_SIZE))
    leave = _leave(options, placement.devices if placement.gpu_layers else ())
    if options.split_mode == "tensor":  # which the fit does not know
        return placement
    try:
        fitted = _native.fit(path, model, context, leave, DEFAULT_CONTEXT_SIZE)
    except OutOfMemoryError:
        raise OutOfMemoryError(_figures(path, options, _native.estimate(path, model, context), leave)) from None
    return replace(placement, gpu_layers=fitted.gpu_layers, tensor_split=fitted.tensor_split or placement.tensor_split,
                   tensor_overrides=fitted.tensor_overrides, context_size=fitted.context_size if open_context else placement.context_size)


def _figures(path: Path, options: LoadOptions, rows: Sequence[_native.MemoryRow], leave: Sequence[int]) -> str:
    """What was wanted of each device, and what there is."""
    parts = []
    for row, left in zip(rows, [*leave, 0], strict=False):
        weights, context, compute = (size / MIB for size in (row.weights, row.context, row.compute))
        parts.append(f"{row.device} would need {weights + context + compute:.0f} MiB ({weights:.0f} of weights, {context:.0f} of context, "
                     f"{compute:.0f} to compute) and has {row.memory_free / MIB:.0f} MiB free"
                     + (f", of which {left / MIB:.0f} are to stay free" if left else ""))
    wish = f"gpu_layers={options.gpu_layers!r} and context_size={options.context_size!r}"
    return (f"{path.name} does not fit with {wish}: {'; '.join(parts)}. Take gpu_layers='auto', a smaller context_size or cache_type_k and "
            "cache_type_v 'q8_0', or a smaller model")
