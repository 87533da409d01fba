"""A seeded miniature model of the llama architecture, written with the `gguf` package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy

LONG_TOKEN = "▁" + "supercalifragilistic" * 4  # far more than 32 bytes
WORDS = ("▁the", "▁a", "▁sky", "▁blue", LONG_TOKEN, *"abcdefghijklmnopqrstuvwxyz", "▁")


def write_gpt2(path: Path, *, context: int = 32, width: int = 32) -> Path:
    """A miniature of the GPT-2 architecture, which learns its positions."""
    random = numpy.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(4)
    writer.add_layer_norm_eps(1e-5)
    tokens = _add_vocabulary(writer)

    def tensor(name: str, *shape: int) -> None:
        writer.add_tensor(name, random.standard_normal(shape, dtype=numpy.float32) * 0.3)

    tensor("token_embd.weight", tokens, width)
    tensor("position_embd.weight", context, width)
    for name, *shape in (("output_norm", width), ("blk.0.attn_norm", width), ("blk.0.attn_qkv", 3 * width, width),
                         ("blk.0.attn_output", width, width), ("blk.0.ffn_norm", width), ("blk.0.ffn_up", 2 * width, width),
                         ("blk.0.ffn_down", width, 2 * width)):
        tensor(f"{name}.weight", *shape)
        tensor(f"{name}.bias", shape[0])
    _finish(writer)
    return path


def _add_vocabulary(writer: gguf.GGUFWriter) -> int:
    """Every byte, a few words, one token of more than 32 bytes; the number of tokens."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *WORDS]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 259 + [-float(index) for index in range(len(WORDS))])
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * len(WORDS)])  # enum llama_token_type
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    return len(tokens)


def _finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write(path: Path, *, seed: int = 0, layers: int = 2, width: int = 32, heads: int = 4, context: int = 128,
          template: str | None = None, biases: Mapping[str, numpy.ndarray] | None = None) -> Path:
    """Write the model; same arguments, same bytes. `biases` are further tensors."""
    random = numpy.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // heads)
    tokens = _add_vocabulary(writer)
    if template is not None:
        writer.add_chat_template(template)

    def tensor(name: str, *shape: int) -> None:
        data = random.standard_normal(shape, dtype=numpy.float32) * 0.3
        writer.add_tensor(name, numpy.ones(shape, numpy.float32) if "norm" in name else data)

    tensor("token_embd.weight", tokens, width)
    tensor("output_norm.weight", width)
    tensor("output.weight", tokens, width)
    for layer in range(layers):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensor(f"blk.{layer}.{name}.weight", width, width)
        for name in ("attn_norm", "ffn_norm"):
            tensor(f"blk.{layer}.{name}.weight", width)
        tensor(f"blk.{layer}.ffn_gate.weight", 2 * width, width)
        tensor(f"blk.{layer}.ffn_up.weight", 2 * width, width)
        tensor(f"blk.{layer}.ffn_down.weight", width, 2 * width)
    for name, data in (biases or {}).items():
        writer.add_tensor(name, data.astype(numpy.float32))
    _finish(writer)
    return path
