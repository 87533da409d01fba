"""Callbacks from C into Python: an exception is parked, the C side told to stop, and raised when the call returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gollama._native.library import Library
from gollama.errors import CancelledError

Progress = Callable[[float], object]

_registered = False


class _Parked:
    def __init__(self, function: Progress) -> None:
        self.function = function
        self.exception: BaseException | None = None
        self.stopped = False


@contextmanager
def progress(library: Library, function: Progress | None) -> Iterator[tuple[Any, Any]]:
    """(callback, its user data) for llama_model_params; raises what `function` raised, or CancelledError.

    `function` gets the share done, 0.0 to 1.0, on the thread that loads. Returning False stops the load.
    """
    ffi = library.ffi
    if function is None:
        yield ffi.NULL, ffi.NULL
        return
    _register(library)
    parked = _Parked(function)
    handle = ffi.new_handle(parked)
    try:
        yield library.lib.gollama_python_progress, handle
    finally:
        if parked.exception is not None:
            raise parked.exception
        if parked.stopped:
            raise CancelledError("the load was stopped by its progress callback")


def _register(library: Library) -> None:
    global _registered
    if _registered:
        return
    ffi = library.ffi

    @ffi.def_extern(name="gollama_python_progress")  # type: ignore[untyped-decorator]
    def report(share: float, handle: Any) -> bool:
        parked: _Parked = ffi.from_handle(handle)
        try:
            parked.stopped = parked.function(share) is False
        except BaseException as exception:  # KeyboardInterrupt too: it is raised again in progress()
            parked.exception = exception
            parked.stopped = True
        return not parked.stopped

    _registered = True
