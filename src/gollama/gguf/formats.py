"""The format's constants, from the `gguf` package."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from gollama import _native
from gollama.errors import LibraryError

MAGIC = b"GGUF"
VERSIONS = (1, 2, 3)
LOADABLE_VERSIONS = (2, 3)  # by llama.cpp
ALIGNMENT = "general.alignment"
DEFAULT_ALIGNMENT = 32
NUMBERS = {"uint8": "u1", "int8": "i1", "uint16": "u2", "int16": "i2", "uint32": "u4", "int32": "i4", "float32": "f4", "bool": "?",
           "uint64": "u8", "int64": "i8", "float64": "f8"}  # value types, as numpy calls them
WIDTHS = {name: 1 if code == "?" else int(code[1:]) for name, code in NUMBERS.items()}


@dataclass(frozen=True)
class TensorType:
    """How a tensor's numbers are kept: blocks of `block` numbers in `bytes` bytes."""

    name: str  # "Q4_K"
    block: int
    bytes: int

    def size(self, elements: int) -> int:
        return elements // self.block * self.bytes


@functools.cache
def value_types() -> dict[int, str]:
    """The types of metadata values by number: "uint32", "string", "array"."""
    from gguf.constants import GGUFValueType

    return {int(kind): kind.name.lower() for kind in GGUFValueType}


@functools.cache
def value_numbers() -> dict[str, int]:
    return {name: number for number, name in value_types().items()}


@functools.cache
def tensor_types() -> dict[int, TensorType]:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    return {int(kind): TensorType(kind.name, *GGML_QUANT_SIZES[kind]) for kind in GGMLQuantizationType if kind in GGML_QUANT_SIZES}


@functools.cache
def file_types() -> dict[int, str]:
    """What general.file_type says, as people name it: "Q4_K_M"."""
    from gguf.constants import LlamaFileType

    return {int(kind): kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in LlamaFileType}


@functools.cache
def token_types() -> dict[int, str]:
    """Types of tokens by number: "normal", "control", "user_defined"."""
    from gguf.constants import TokenType

    return {int(kind): kind.name.lower() for kind in TokenType}


def architectures() -> frozenset[str]:
    """Those that the pinned llama.cpp knows; the build took them from its source."""
    try:
        return frozenset(_native.build()["architectures"])
    except KeyError:
        raise LibraryError("gollama was built before it kept llama.cpp's list of architectures: install it anew") from None
