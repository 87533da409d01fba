"""Seeded LoRA adapters and control vectors for the miniature model, and the model with the same arithmetic in its weights."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy

RANK, ALPHA, WIDTH = 4, 8.0, 32


def _finish(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def factors(seed: int, tensor: str, inputs: int = WIDTH, outputs: int = WIDTH) -> tuple[numpy.ndarray, numpy.ndarray]:
    """A of shape (rank, inputs) and B of shape (outputs, rank)."""
    random = numpy.random.default_rng([seed, *tensor.encode()])
    return tuple(random.standard_normal(shape, dtype=numpy.float32) * 0.3 for shape in ((RANK, inputs), (outputs, RANK)))  # type: ignore[return-value]


def write_adapter(path: Path, *, seed: int = 1, architecture: str = "llama", shapes: Mapping[str, tuple[int, int]] | None = None,
                  tensors: Sequence[str] = ("blk.0.attn_q.weight", "blk.1.ffn_down.weight"), invocation: Sequence[int] = (),
                  change: Mapping[str, numpy.ndarray] | None = None) -> Path:
    """`shapes`: (inputs, outputs) of the tensors that are not square; `change` puts other data in place of a lora_a or lora_b."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", ALPHA)
    if invocation:
        writer.add_key_value("adapter.alora.invocation_tokens", list(invocation), gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT32)
    for tensor in tensors:
        inputs, outputs = (shapes or {}).get(tensor, (2 * WIDTH if "ffn_down" in tensor else WIDTH, WIDTH))
        for letter, data in zip("ab", factors(seed, tensor, inputs, outputs)):
            name = f"{tensor}.lora_{letter}"
            writer.add_tensor(name, (change or {}).get(name, data))
    return _finish(writer, path)


def write_vector(path: Path, *, layers: Sequence[int] = (1,), width: int = WIDTH, seed: int = 1, kind: Any = numpy.float32,
                 name: str = "direction.{}") -> Path:
    writer = gguf.GGUFWriter(path, "controlvector")
    for layer in layers:
        writer.add_tensor(name.format(layer), direction(layer, width, seed).astype(kind))
    return _finish(writer, path)


def direction(layer: int, width: int = WIDTH, seed: int = 1) -> numpy.ndarray:
    return numpy.random.default_rng([seed, layer]).standard_normal(width, dtype=numpy.float32)


def merged(model: Path, target: Path, deltas: Mapping[str, numpy.ndarray]) -> Path:
    """A copy of a model with something added to its tensors."""
    shutil.copy(model, target)
    reader = gguf.GGUFReader(target, "r+")
    for tensor in reader.tensors:
        if tensor.name in deltas:
            tensor.data[:] += deltas[tensor.name]
    reader.data.flush()
    return target
