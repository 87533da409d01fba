"""The only package that touches `ffi` and `lib`: C names below this line, Python nouns above.

`__all__` is the contract. Everything that owns a native object is a Handle.
"""

from gollama._native.adapters import AdapterHandle, ControlVectorHandle
from gollama._native.chat import ChatFormat, ChatParser, ChatTemplatesHandle, Rendered, builtin_templates
from gollama._native.context import HOST, ContextFields, ContextHandle, MemoryRow, Sampled, State, Step
from gollama._native.devices import (
    DeviceFacts,
    Fitted,
    cpu_features,
    devices,
    estimate,
    fit,
    init_numa,
    load_backend,
    preload,
    try_device,
)
from gollama._native.embedding import EmbedderFields, EmbedderHandle, Piece
from gollama._native.handles import Handle
from gollama._native.library import Library, build, library
from gollama._native.model import ModelHandle
from gollama._native.parameters import ComputeFields, LoadFields, PlacementFields
from gollama._native.sampler import SamplerHandle, sampling_defaults
from gollama._native.schema import schema_grammar
from gollama._native.speculator import DraftRequest, SpeculatorHandle
from gollama._native.text import utf8

__all__ = [
    "HOST",
    "AdapterHandle",
    "ChatFormat",
    "ChatParser",
    "ChatTemplatesHandle",
    "ComputeFields",
    "ContextFields",
    "ContextHandle",
    "ControlVectorHandle",
    "DeviceFacts",
    "DraftRequest",
    "EmbedderFields",
    "EmbedderHandle",
    "Fitted",
    "Handle",
    "Library",
    "LoadFields",
    "MemoryRow",
    "ModelHandle",
    "Piece",
    "PlacementFields",
    "Rendered",
    "Sampled",
    "SamplerHandle",
    "SpeculatorHandle",
    "State",
    "Step",
    "build",
    "builtin_templates",
    "cpu_features",
    "devices",
    "estimate",
    "fit",
    "init_numa",
    "library",
    "load_backend",
    "preload",
    "sampling_defaults",
    "schema_grammar",
    "try_device",
    "utf8",
]
