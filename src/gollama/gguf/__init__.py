"""GGUF files without loading them and without native code: read a header, inspect a model, change metadata into a new file.

>>> from gollama import gguf, models
>>> file = gguf.read(models.resolve("smollm2"))
>>> file.architecture, len(file.tensors), file.metadata["llama.context_length"]
('llama', 272, 8192)
"""

from gollama.gguf.cursor import Limits
from gollama.gguf.editing import edit
from gollama.gguf.inspecting import Finding, Inspection, Template, TypeShare, inspect, with_parts
from gollama.gguf.packing import Value
from gollama.gguf.parsing import read
from gollama.gguf.records import Field, GGUFFile, Metadata, StringArray, TensorInfo
from gollama.gguf.sources import ByteSource, FileBytes, RangeBytes
from gollama.gguf.vocabulary import Vocabulary

__all__ = [
    "ByteSource",
    "Field",
    "FileBytes",
    "Finding",
    "GGUFFile",
    "Inspection",
    "Limits",
    "Metadata",
    "RangeBytes",
    "StringArray",
    "Template",
    "TensorInfo",
    "TypeShare",
    "Value",
    "Vocabulary",
    "edit",
    "inspect",
    "read",
    "with_parts",
]
