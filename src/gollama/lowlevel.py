"""llama.cpp's C API itself, for experts: `ffi` and `lib` of the compiled extension.

Everything that llama.h, ggml-backend.h, gguf.h, mtmd.h and mtmd-helper.h declare and do not deprecate is an attribute of
`lib`, and every type is known to `ffi`.

Nothing here is safe. A pointer that was freed, a batch wider than n_batch, logits that were not asked for, a wrong token id,
or two threads in one context end the process or corrupt it silently; GGML_ASSERT calls abort(). A C++ exception that a
function throws ends the process, except in those whose names begin with `gollama_`, which fill a gollama_error. Objects made
here are freed by whoever made them, children before parents. Pointers that belong to a Model, Context or Sampler are not
handed out.

>>> from gollama.lowlevel import ffi, lib
>>> ffi.string(lib.llama_print_system_info())[:3]
b'CPU'
"""

from __future__ import annotations

from typing import Any

from gollama import _native

__all__ = ["ffi", "lib"]


def __getattr__(name: str) -> Any:
    """The libraries are loaded when the first of the two is asked for."""
    if name in __all__:
        return getattr(_native.library(), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
