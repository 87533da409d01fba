"""Loading the compiled libraries: once, on first use, by explicit path."""

from __future__ import annotations

import functools
import importlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gollama._locks import ForkLock
from gollama.errors import LibraryError

PACKAGE = Path(__file__).resolve().parent.parent
FOLDER = PACKAGE / "lib"

_lock = ForkLock(fork_waits=True)
_library: Library | None = None


@dataclass(frozen=True)
class Library:
    """cffi's two halves of the loaded extension, and what was loaded."""

    ffi: Any
    lib: Any
    release: str
    cpu_variant: str


def library() -> Library:
    """The loaded library; loads it on the first call. Any thread may call it."""
    if _library is None:
        with _lock:
            if _library is None:
                _load()
    assert _library is not None
    return _library


@functools.cache
def build() -> dict[str, Any]:
    """The build's manifest: release, packages with digests, CPU variants, digests of the libraries."""
    try:
        manifest: dict[str, Any] = json.loads((PACKAGE / "_build.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LibraryError(f"{PACKAGE} holds Python files only: gollama was not built. "
                           "Install it with `pip install .`, or `pip install -e .` for work on it") from None
    return manifest


def _load() -> None:
    global _library
    manifest = build()
    try:
        _preload(manifest)
        _llama = importlib.import_module("gollama._llama")
    except (ImportError, OSError) as error:
        raise LibraryError(f"the libraries in {FOLDER} cannot be loaded: {error}") from error
    ffi, lib = _llama.ffi, _llama.lib
    release = manifest["llama_cpp"]["release"]
    _check(ffi, lib, release)

    from gollama._native import log

    lib.gollama_start(log.callback(ffi, lib))
    _library = Library(ffi, lib, release, _load_cpu_backend(ffi, lib, manifest["cpu_variants"]))


def _preload(manifest: dict[str, Any]) -> None:
    """Load the libraries by full path in the order of their needs.

    The dynamic loader would ask LD_LIBRARY_PATH before the package's own folder, and a llama.cpp that is installed
    on the machine has libraries of the same names.
    """
    import ctypes

    for name in manifest["load_order"]:
        ctypes.CDLL(str(FOLDER / name), mode=ctypes.RTLD_LOCAL)


def _check(ffi: Any, lib: Any, release: str) -> None:
    """Refuse libraries of another release, and copies of llama.cpp that were in the process before ours."""
    for index in range(3):
        found = lib.gollama_library_file(index)
        file = Path(os.fsdecode(ffi.string(found))) if found != ffi.NULL else FOLDER
        if file != FOLDER and not file.resolve().is_relative_to(FOLDER.resolve()):
            raise LibraryError(f"another copy of llama.cpp is in this process, {file}, and would be used instead of "
                               "gollama's own: use gollama before the package that brings it, or in another process")
    version = ffi.string(lib.llama_version()).decode()
    if version.removesuffix("-dev") != release.removeprefix("v"):
        raise LibraryError(f"the libraries in {FOLDER} are of llama.cpp {version}, and gollama was built for "
                           f"{release.removeprefix('v')}: install gollama anew")


def _load_cpu_backend(ffi: Any, lib: Any, variants: list[str]) -> str:
    """Load the variant that suits this processor best; its name."""
    error = ffi.new("gollama_error *")
    # one that is alone is for every processor of its kind, and has no score
    scores = {name: lib.gollama_backend_score(os.fsencode(FOLDER / name), error) if len(variants) > 1 else 1 for name in variants}
    for name in sorted(scores, key=lambda name: -scores[name]):
        if scores[name] > 0 and lib.gollama_backend_load(os.fsencode(FOLDER / name), error):
            return Path(name).stem.removeprefix("lib").removeprefix("ggml-cpu-")
    message = ffi.string(error.message).decode(errors="replace")
    raise LibraryError(f"none of the CPU libraries in {FOLDER} runs on this processor: {message or ', '.join(variants)}")
