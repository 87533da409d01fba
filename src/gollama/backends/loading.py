"""Load an installed backend into this process: the vendor's libraries first, then its modules, each by its full path."""

from __future__ import annotations

import re
from pathlib import Path

from gollama import _native
from gollama._locks import ForkLock
from gollama.backends.installed import InstalledBackend

_lock = ForkLock()
_loaded: dict[Path, tuple[str, ...]] = {}  # a backend's folder: the devices that came with it


def load(backend: InstalledBackend) -> tuple[str, ...]:
    """The names of its devices; BackendError if it cannot be loaded. Once in a process, from any thread.

    A backend stays loaded until the process ends: ggml's devices live as long.
    """
    assert backend.folder is not None
    with _lock:
        if backend.folder not in _loaded:
            before = {device.name for device in _native.devices()}
            for file in runtime_files(backend):
                _native.preload(file)
            for file in backend.files:
                _native.load_backend(file)
            _loaded[backend.folder] = tuple(device.name for device in _native.devices() if device.name not in before)
        return _loaded[backend.folder]


def runtime_files(backend: InstalledBackend) -> list[Path]:
    """The vendor's libraries that the backend needs, from the packages it requires; those that are elsewhere are the loader's to find."""
    from importlib.metadata import PackageNotFoundError, distribution

    found: dict[str, Path] = {}
    for requirement in backend.requires:
        name, = re.findall(r"^[\w.-]+", requirement)
        try:
            required = distribution(name)
        except PackageNotFoundError:
            continue
        found.update({file.name: Path(str(required.locate_file(file))) for file in required.files or () if file.name in backend.preload})
    return [found[name] for name in backend.preload if name in found]
