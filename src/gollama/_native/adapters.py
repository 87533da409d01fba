"""LoRA adapters and control vectors of a model."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from gollama._locks import ForkLock
from gollama._native.failures import Failures
from gollama._native.handles import Handle
from gollama._native.library import library
from gollama._native.model import ModelHandle
from gollama._native.text import path_bytes


class AdapterHandle(Handle):
    """Owns a LoRA adapter of a model. May be used by many contexts of it."""

    def __init__(self, model: ModelHandle, path: str | os.PathLike[str], fingerprint: str = "") -> None:
        loaded = library()
        failures = Failures(loaded)
        with model.use() as pointer, model.adapting:
            adapter = loaded.lib.gollama_adapter_load(pointer, path_bytes(path), failures.error)
            failures.check(str(path))
            super().__init__(f"the adapter {path}", adapter, _locked(model.adapting, loaded.lib.llama_adapter_lora_free), model)
        self.fingerprint = fingerprint  # the same in another process


def _locked(lock: ForkLock, free: Callable[[Any], None]) -> Callable[[Any], None]:
    def freed(pointer: Any) -> None:
        with lock:
            free(pointer)

    return freed


class ControlVectorHandle(Handle):
    """Owns a control vector that fits a model: its directions for the layers `first` to `last`, from 1 on. For any number of contexts."""

    def __init__(self, model: ModelHandle, path: str | os.PathLike[str], first: int, last: int, fingerprint: str = "") -> None:
        loaded = library()
        failures = Failures(loaded)
        with model.use() as pointer:
            vector = loaded.lib.gollama_control_vector_load(pointer, path_bytes(path), first, last, failures.error)
            failures.check(str(path))
            super().__init__(f"the control vector {path}", vector, loaded.lib.gollama_control_vector_free, model)
        self.fingerprint = fingerprint
