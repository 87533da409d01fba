"""The one place that turns C failures into exceptions."""

from __future__ import annotations

from gollama._native.library import Library
from gollama.errors import (
    BrokenError,
    CancelledError,
    GollamaError,
    InvalidModelError,
    NativeError,
    OptionError,
    OutOfMemoryError,
)


class Failures:
    """A gollama_error for one thread's calls, and the exceptions its codes stand for."""

    def __init__(self, library: Library) -> None:
        self._ffi = library.ffi
        lib = library.lib
        self.error = library.ffi.new("gollama_error *")
        self._classes: dict[int, type[GollamaError]] = {
            lib.GOLLAMA_FAILED: NativeError,
            lib.GOLLAMA_INVALID_ARGUMENT: OptionError,
            lib.GOLLAMA_INVALID_MODEL: InvalidModelError,
            lib.GOLLAMA_OUT_OF_MEMORY: OutOfMemoryError,
            lib.GOLLAMA_CONTEXT_FULL: OutOfMemoryError,
            lib.GOLLAMA_CANCELLED: CancelledError,
            lib.GOLLAMA_BROKEN: BrokenError,
        }

    def check(self, subject: str = "", otherwise: type[GollamaError] | None = None) -> None:
        """Raise what the last call left in the error, if it left something.

        `subject` goes in front of the message; `otherwise` replaces the class for refusals (not for memory and
        broken states).
        """
        code = self.error.code
        if code == 0:
            return
        message = self._ffi.string(self.error.message).decode(errors="replace")
        kind = self._classes.get(code, NativeError)
        if otherwise is not None and kind in (NativeError, OptionError, InvalidModelError):
            kind = otherwise
        raise kind(f"{subject}: {message}" if subject else message)

    def exception(self, code: int, message: str) -> GollamaError:
        """What a code and its message stand for."""
        return self._classes.get(code, NativeError)(message)
