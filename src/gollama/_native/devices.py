"""Backends by path, the devices that they bring, and how much of their memory a model takes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gollama._locks import ForkLock
from gollama._native import log
from gollama._native.context import ContextFields, MemoryRow, memory_room, memory_rows, sized_params
from gollama._native.failures import Failures
from gollama._native.library import Library, library
from gollama._native.parameters import LoadFields, ModelParams
from gollama._native.text import c_text, path_bytes
from gollama.errors import BackendError

_kept: list[object] = []  # what must stay loaded as long as the process
# meanwhile llama.cpp's log, of all threads, goes by way of the stack of the one that measures, which a child of a fork does not have
_measuring = ForkLock(fork_waits=True)


class DeviceFacts(NamedTuple):
    """A device as ggml tells of it."""

    name: str  # unique in the process: "CPU", "CUDA0"
    description: str
    backend: str  # as ggml calls it: "CUDA"
    kind: str  # "cpu", "gpu", "igpu" (shares the host's memory), "accel" (helps the CPU), "meta"
    id: str | None  # on its bus: "0000:01:00.0"
    memory_free: int  # bytes
    memory_total: int


@dataclass(frozen=True)
class Fitted:
    """What llama.cpp's fit chose."""

    gpu_layers: int
    context_size: int
    tensor_split: tuple[float, ...]
    tensor_overrides: tuple[tuple[str, str], ...]


def preload(file: Path) -> None:
    """Load a library that a backend needs, so that it finds it by its name. BackendError with the loader's words."""
    import ctypes

    try:
        if sys.platform == "win32":
            _kept.append(os.add_dll_directory(str(file.parent)))
        _kept.append(ctypes.CDLL(str(file)))
    except OSError as error:
        raise BackendError(str(error)) from error


def load_backend(file: Path) -> None:
    """Load a backend's library. BackendError with the reason."""
    loaded = library()
    failures = Failures(loaded)
    loaded.lib.gollama_backend_load(os.fsencode(file), failures.error)
    failures.check(otherwise=BackendError)


def devices() -> list[DeviceFacts]:
    """The devices of the backends that were loaded, with their memory as it is now."""
    loaded = library()
    ffi, lib = loaded.ffi, loaded.lib
    kinds = {lib.GGML_BACKEND_DEVICE_TYPE_CPU: "cpu", lib.GGML_BACKEND_DEVICE_TYPE_GPU: "gpu", lib.GGML_BACKEND_DEVICE_TYPE_IGPU: "igpu",
             lib.GGML_BACKEND_DEVICE_TYPE_ACCEL: "accel", lib.GGML_BACKEND_DEVICE_TYPE_META: "meta"}
    failures = Failures(loaded)
    found = []
    for index in range(lib.gollama_device_count()):
        device = ffi.new("gollama_device *")
        lib.gollama_device_describe(index, device, failures.error)
        failures.check(otherwise=BackendError)
        found.append(DeviceFacts(c_text(ffi, device.name) or "", c_text(ffi, device.description) or "", c_text(ffi, device.backend) or "",
                                 kinds[device.type], c_text(ffi, device.id), device.memory_free, device.memory_total))
    return found


def cpu_features() -> list[str]:
    """The instruction sets that the CPU library in use was compiled for and found here, by ggml's names."""
    loaded = library()
    words = (c_text(loaded.ffi, loaded.lib.llama_print_system_info()) or "").replace(":", "|").split("|")
    return [word.split("=")[0].strip() for word in words if word.strip().endswith("= 1")]


def try_device(name: str) -> None:
    """Make sure that a device answers and computes. BackendError with the reason."""
    loaded = library()
    failures = Failures(loaded)
    loaded.lib.gollama_device_try(name.encode(), failures.error)
    failures.check(otherwise=BackendError)


def init_numa(strategy: str) -> None:
    """Tell ggml how to use the machine's NUMA nodes. Once in a process; later calls change nothing."""
    lib = library().lib
    lib.llama_numa_init(getattr(lib, f"GGML_NUMA_STRATEGY_{strategy.upper()}"))


def estimate(path: str | os.PathLike[str], model: LoadFields, context: ContextFields) -> list[MemoryRow]:
    """What loading would take of each device and of the host, without loading."""
    loaded = library()
    log.follow_level(loaded.lib)
    failures = Failures(loaded)
    params = ModelParams(loaded, model)
    rows, capacity = memory_room(loaded)
    with _measuring:
        count = loaded.lib.gollama_estimate(path_bytes(path), params.params, sized_params(loaded.lib, context), rows, capacity,
                                            failures.error)
    failures.check(str(path))
    return memory_rows(loaded, rows, count)


def fit(path: str | os.PathLike[str], model: LoadFields, context: ContextFields, leave: Sequence[int], least_context: int) -> Fitted:
    """llama.cpp's choice of what `gpu_layers` -1 and `context_size` 0 leave open; `leave` bytes stay free on each device.

    OutOfMemoryError where no choice fits.
    """
    loaded = library()
    ffi, lib = loaded.ffi, loaded.lib
    log.follow_level(lib)
    failures = Failures(loaded)
    placed = ModelParams(loaded, model)
    model_params = ffi.new("struct llama_model_params *", placed.params)
    context_params = ffi.new("struct llama_context_params *", sized_params(lib, context))
    margins = ffi.new("size_t[]", lib.llama_max_devices())
    margins[0 : len(leave)] = list(leave)
    with _measuring:
        lib.gollama_fit(path_bytes(path), model_params, context_params, placed.tensor_split, placed.overrides, margins, least_context,
                        failures.error)
    failures.check(str(path))
    split = tuple(placed.tensor_split[0 : len(model["devices"])]) if model_params.tensor_split != ffi.NULL else ()
    return Fitted(model_params.n_gpu_layers, context_params.n_ctx // context["sequences"], split, _overrides(loaded, model_params))


def _overrides(loaded: Library, params: Any) -> tuple[tuple[str, str], ...]:
    ffi, lib = loaded.ffi, loaded.lib
    found = []
    index = 0
    while params.tensor_buft_overrides != ffi.NULL and params.tensor_buft_overrides[index].pattern != ffi.NULL:
        override = params.tensor_buft_overrides[index]
        device = lib.ggml_backend_buft_get_device(override.buft)
        if device == ffi.NULL:  # so it is for the CPU's own memory
            device = lib.ggml_backend_dev_by_type(lib.GGML_BACKEND_DEVICE_TYPE_CPU)
        found.append((c_text(ffi, override.pattern) or "", c_text(ffi, lib.ggml_backend_dev_name(device)) or ""))
        index += 1
    return tuple(found)
