"""llama.cpp's log, line by line, into the logger `gollama`."""

from __future__ import annotations

import _thread
import logging
import sys
from typing import Any

logger = logging.getLogger("gollama")
logger.addHandler(logging.NullHandler())

# enum ggml_log_level, in its order: none, debug, info, warn, error
_LEVELS = (logging.NOTSET, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)


def _failed(kind: type[BaseException], *_details: Any) -> None:
    """A handler raised. Nothing may cross C; a Ctrl-C that came meanwhile is raised again behind the call."""
    if issubclass(kind, KeyboardInterrupt):
        _thread.interrupt_main()


def callback(ffi: Any, lib: Any) -> Any:
    """The C function that llama.cpp's log lines go to, from whichever thread."""

    @ffi.def_extern(name="gollama_python_log", onerror=_failed)  # type: ignore[untyped-decorator]
    def write(level: int, line: Any) -> None:
        if not sys.is_finalizing():
            logger.log(_LEVELS[level] if 0 <= level < len(_LEVELS) else logging.INFO, "%s", ffi.string(line).decode(errors="replace"))

    return lib.gollama_python_log


def follow_level(lib: Any) -> None:
    """Have lines that no handler wants dropped in C, by the logger's level as it is now."""
    level = logger.getEffectiveLevel()
    lib.gollama_set_log_level(next((number for number, name in enumerate(_LEVELS) if number and name >= level), len(_LEVELS)))
