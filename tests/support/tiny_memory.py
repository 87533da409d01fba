"""Seeded miniatures of models whose memory is not a plain cache: recurrent, hybrid, and with a sliding window."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy

from tests.support import tiny

WIDTH, STATE, KERNEL, RANK = 32, 8, 4, 4
WINDOW = 64  # the sliding window of the miniature Gemma


class _Writer:
    """A GGUF file in the making, with llama.cpp's common fields."""

    def __init__(self, path: Path, architecture: str, context: int, layers: int) -> None:
        self.random = numpy.random.default_rng(7)
        self.gguf = gguf.GGUFWriter(path, architecture)
        self.gguf.add_context_length(context)
        self.gguf.add_embedding_length(WIDTH)
        self.gguf.add_block_count(layers)
        self.gguf.add_layer_norm_rms_eps(1e-5)
        self.tokens = tiny._add_vocabulary(self.gguf)

    def tensor(self, name: str, *shape: int) -> None:
        data = self.random.standard_normal(shape, dtype=numpy.float32) * 0.3
        self.gguf.add_tensor(name, data + 1 if "norm" in name else data)

    def ends(self) -> None:
        self.tensor("token_embd.weight", self.tokens, WIDTH)
        self.tensor("output.weight", self.tokens, WIDTH)
        self.tensor("output_norm.weight", WIDTH)

    def feed_forward(self, layer: int) -> None:
        self.tensor(f"blk.{layer}.ffn_norm.weight", WIDTH)
        self.tensor(f"blk.{layer}.ffn_gate.weight", 2 * WIDTH, WIDTH)
        self.tensor(f"blk.{layer}.ffn_up.weight", 2 * WIDTH, WIDTH)
        self.tensor(f"blk.{layer}.ffn_down.weight", WIDTH, 2 * WIDTH)

    def state_space(self) -> None:
        self.gguf.add_ssm_conv_kernel(KERNEL)
        self.gguf.add_ssm_inner_size(2 * WIDTH)
        self.gguf.add_ssm_state_size(STATE)
        self.gguf.add_ssm_time_step_rank(RANK)

    def mamba_layer(self, layer: int, *, norms: bool = False) -> None:
        inner, block = 2 * WIDTH, f"blk.{layer}"
        self.tensor(f"{block}.attn_norm.weight", WIDTH)
        self.tensor(f"{block}.ssm_in.weight", 2 * inner, WIDTH)
        self.tensor(f"{block}.ssm_conv1d.weight", inner, KERNEL)
        self.tensor(f"{block}.ssm_conv1d.bias", inner)
        self.tensor(f"{block}.ssm_x.weight", RANK + 2 * STATE, inner)
        self.tensor(f"{block}.ssm_dt.weight", inner, RANK)
        self.tensor(f"{block}.ssm_dt.bias", inner)
        # negative, so that the state decays
        self.gguf.add_tensor(f"{block}.ssm_a", -numpy.abs(self.random.standard_normal((inner, STATE), dtype=numpy.float32)))
        self.tensor(f"{block}.ssm_d", inner)
        self.tensor(f"{block}.ssm_out.weight", WIDTH, inner)
        if norms:
            self.tensor(f"{block}.ssm_dt_norm.weight", RANK)
            self.tensor(f"{block}.ssm_b_norm.weight", STATE)
            self.tensor(f"{block}.ssm_c_norm.weight", STATE)


def write_mamba(path: Path, *, context: int = 1024) -> Path:
    """Recurrent: its memory is one state for each sequence."""
    writer = _Writer(path, "mamba", context, 2)
    writer.gguf.add_feed_forward_length(0)
    writer.gguf.add_head_count(0)
    writer.state_space()
    writer.ends()
    for layer in range(2):
        writer.mamba_layer(layer)
    tiny._finish(writer.gguf)
    return path


def write_jamba(path: Path, *, context: int = 1024) -> Path:
    """Hybrid: a recurrent layer, and one with attention."""
    writer = _Writer(path, "jamba", context, 2)
    writer.gguf.add_feed_forward_length(2 * WIDTH)
    writer.gguf.add_head_count(4)
    writer.gguf.add_head_count_kv([0, 4])
    writer.state_space()
    writer.ends()
    writer.mamba_layer(0, norms=True)
    writer.tensor("blk.1.attn_norm.weight", WIDTH)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        writer.tensor(f"blk.1.{name}.weight", WIDTH, WIDTH)
    writer.feed_forward(0)
    writer.feed_forward(1)
    tiny._finish(writer.gguf)
    return path


def write_gemma(path: Path, *, context: int = 1024) -> Path:
    """A layer that sees WINDOW tokens back, and one that sees all."""
    writer = _Writer(path, "gemma3", context, 2)
    writer.gguf.add_feed_forward_length(2 * WIDTH)
    writer.gguf.add_head_count(4)
    writer.gguf.add_head_count_kv(2)
    writer.gguf.add_key_length(WIDTH // 4)
    writer.gguf.add_value_length(WIDTH // 4)
    writer.gguf.add_sliding_window(WINDOW)
    writer.gguf.add_sliding_window_pattern(2)  # every second layer sees all
    writer.ends()
    for layer in range(2):
        block = f"blk.{layer}"
        for name, outputs in (("attn_q", WIDTH), ("attn_k", WIDTH // 2), ("attn_v", WIDTH // 2), ("attn_output", WIDTH)):
            writer.tensor(f"{block}.{name}.weight", outputs, WIDTH)
        for name, size in (("attn_norm", WIDTH), ("attn_q_norm", WIDTH // 4), ("attn_k_norm", WIDTH // 4),
                           ("post_attention_norm", WIDTH), ("post_ffw_norm", WIDTH)):
            writer.tensor(f"{block}.{name}.weight", size)
        writer.feed_forward(layer)
    tiny._finish(writer.gguf)
    return path


WRITERS = {"recurrent": write_mamba, "hybrid": write_jamba, "sliding window": write_gemma}
