"""The backend wheels that are installed, found by their entry points. Nothing is loaded here."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gollama import _native

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "gollama.backends"
MOST_MANIFEST = 2**20  # bytes


@dataclass(frozen=True)
class InstalledBackend:
    """A backend wheel, and why it must not be used, if so."""

    distribution: str  # "gollama-cuda12"
    backend: str  # "cuda"; "" where the wheel cannot be read
    folder: Path | None
    modules: tuple[tuple[str, str], ...] = ()  # (file in `folder`/lib, sha256)
    preload: tuple[str, ...] = ()  # libraries of `requires` that the modules need
    requires: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The modules."""
        assert self.folder is not None
        return tuple(self.folder / "lib" / name for name, _ in self.modules)


def installed() -> list[InstalledBackend]:
    """Every backend wheel on the import path, the preferred of two for the same hardware first."""
    from importlib.metadata import entry_points  # takes a tenth of the time of importing gollama

    found = {entry.name: _read(entry) for entry in entry_points(group=GROUP)}
    # of two for the same hardware (cuda12 and cuda13) the newer comes first; the driver decides whether it can be used
    return [found[name] for name in sorted(found, reverse=True)]


def _read(entry: EntryPoint) -> InstalledBackend:
    distribution = entry.dist.name if entry.dist else f"gollama-{entry.name}"
    try:
        folder = Path(entry.load())
        with (folder / "backend.json").open("rb") as file:
            manifest = json.loads(file.read(MOST_MANIFEST))
        backend = InstalledBackend(distribution, manifest["backend"], folder, tuple(manifest["modules"].items()),
                                   tuple(manifest["preload"]), tuple(manifest["requires"]))
        texts = (backend.backend, *(word for pair in backend.modules for word in pair), *backend.preload, *backend.requires)
        if not all(isinstance(text, str) for text in texts) or not all(Path(name).name == name for name, _ in backend.modules):
            raise ValueError("backend.json holds something else than names")
        release = manifest["llama_cpp"]["release"]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # what a foreign package does when it is asked for its folder
        problem = f"its files cannot be read ({type(error).__name__}: {error}): install it anew"
        return InstalledBackend(distribution, "", None, problem=problem)
    return _checked(backend, release)


def _checked(backend: InstalledBackend, release: Any) -> InstalledBackend:
    """The same, with what can be seen to be wrong without loading it."""
    problem = None
    core = _native.build()["llama_cpp"]["release"]
    if release != core:
        problem = (f"it is of llama.cpp {release} and the core of {core}: install the same version of both, "
                   f"`pip install --upgrade gollama-cpu {backend.distribution}`")
    elif missing := [file.name for file in backend.files if not file.is_file()]:
        problem = f"{', '.join(missing)} is missing: install it anew, `pip install --force-reinstall --no-deps {backend.distribution}`"
    return replace(backend, problem=problem)
