"""The LoRA adapters and control vectors of a model, by name."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from gollama import _native
from gollama._locks import ForkLock
from gollama.engine import Adapters as Chosen
from gollama.engine import Engine, Prefixes
from gollama.errors import AdapterNotFoundError, OptionError
from gollama.model import Model, existing_file, file_fingerprint
from gollama.options import SamplingParams, adapter_name, adapter_scales

ADAPTER, VECTOR = KINDS = ("adapter", "control vector")
ALL_LAYERS = (1, 2**31 - 1)
POLL_SECONDS = 0.01


class Adapters:
    """What was loaded, and what those requests are computed with that name nothing. For any thread."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._lock = ForkLock()  # of those who change the dicts; the others read them as they stand
        self._loaded: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
        self._defaults: dict[str, Mapping[str, float]] = {kind: {} for kind in KINDS}

    def names(self, kind: str) -> tuple[str, ...]:
        return tuple(self._loaded[kind])

    def load(self, kind: str, name: str, path: str | os.PathLike[str], layers: tuple[int, int] | None = None) -> None:
        """Load a file under a name that is free."""
        adapter_name(kind, name)
        first, last = _layers(layers)
        self._require_free(kind, name)
        file = existing_file(path)
        digest = file_fingerprint(file)
        handle: Any = (_native.AdapterHandle(self._model._handle, file, digest) if kind == ADAPTER else
                       _native.ControlVectorHandle(self._model._handle, file, first, last, f"{digest} {first}-{last}"))
        try:
            with self._lock:
                self._require_free(kind, name)
                self._loaded[kind] = {**self._loaded[kind], name: handle}
        except BaseException:
            handle.close()
            raise

    def _require_free(self, kind: str, name: str) -> None:
        if name in self._loaded[kind]:
            raise OptionError(f"there is a {kind} {name!r} already: unload it first, or take another name")

    def unload(self, kind: str, name: str, owner: Engine) -> None:
        """Free one, once the requests that use it have ended; those that come meanwhile do not find it any more."""
        with self._lock:
            handle = self._find(kind, name)
            self._loaded[kind] = {key: value for key, value in self._loaded[kind].items() if key != name}
            self._defaults[kind] = {key: value for key, value in self._defaults[kind].items() if key != name}

        def free(prefixes: Prefixes) -> bool:
            released = prefixes.release(handle)
            if released:
                handle.close()
            return released

        while owner.any(lambda request: any(one is handle for one, _ in request.adapters)) or not owner.call(free):
            time.sleep(POLL_SECONDS)  # by polling, so that Ctrl-C works

    def set_defaults(self, **scales: Mapping[str, float]) -> None:
        """What is computed with where a request does not say; by the names of SamplingParams' fields."""
        checked = {kind: adapter_scales(field, value) or {} for kind, (field, value) in zip(KINDS, scales.items())}
        with self._lock:
            for kind, chosen in checked.items():
                for name in chosen:
                    self._find(kind, name)
            self._defaults = {**self._defaults, **checked}

    def chosen(self, params: SamplingParams) -> Chosen:
        """What a request is computed with, in an order of its own. AdapterNotFoundError for a name that there is not."""
        wanted = zip(KINDS, (params.adapters, params.control_vectors))
        return tuple((self._find(kind, name), scale) for kind, scales in wanted
                     for name, scale in sorted((self._defaults[kind] if scales is None else scales).items()) if scale)

    def by_fingerprint(self) -> dict[str, Any]:
        """Everything that is loaded, by what tells it apart in another process, too."""
        return {handle.fingerprint: handle for kind in KINDS for handle in self._loaded[kind].values()}

    def _find(self, kind: str, name: str) -> Any:
        loaded = self._loaded[kind]
        if name not in loaded:
            there = f"there are: {', '.join(map(repr, loaded))}" if loaded else "none is loaded"
            raise AdapterNotFoundError(f"there is no {kind} {name!r}; {there}")
        return loaded[name]


def _layers(layers: Any) -> tuple[int, int]:
    if layers is None:
        return ALL_LAYERS
    if (not isinstance(layers, tuple) or len(layers) != 2 or any(isinstance(one, bool) or not isinstance(one, int) for one in layers)
            or not 1 <= layers[0] <= layers[1] <= ALL_LAYERS[1]):
        raise OptionError(f"layers must be the first and the last layer that is steered, (first, last) from 1 on, not {layers!r}")
    return layers
