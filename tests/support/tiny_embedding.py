"""Seeded miniature models that embed or rank, written with the `gguf` package, and the same computed with numpy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy

from tests.support import tiny

PAD, UNK, CLS, SEP, MASK = range(5)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
# WordPiece as llama.cpp keeps it: "▁" begins a word, what has none goes on with one
BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"▁{word}" for word in ("the", "sky", "is", "blue", "cat", "sleeps")),
               *(f"▁{letter}" for letter in LETTERS), *LETTERS)
EPSILON = 1e-12
CONTEXT = 700  # of the miniature that most tests use
RERANK_TEMPLATE = "<s>the query {query} a text {document}</s>"


def write_bert(path: Path, *, pooling: gguf.PoolingType | None = gguf.PoolingType.MEAN, context: int = 64, width: int = 32, layers: int = 2,
               labels: Sequence[str] = (), head: bool = False, head_output: bool = True, eos: bool = False) -> Path:
    """A miniature BERT.

    `head` adds what scores a pair, without its last layer if not `head_output`; `eos` has inputs end with an EOS, which is [SEP].
    """
    random = numpy.random.default_rng(3)
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(4)
    writer.add_layer_norm_eps(EPSILON)
    writer.add_causal_attention(False)
    if pooling is not None:
        writer.add_pooling_type(pooling)
    if labels:
        writer.add_classifier_output_labels(labels)
    _add_bert_vocabulary(writer, eos)

    def tensor(name: str, *shape: int) -> None:
        data = random.standard_normal(shape, dtype=numpy.float32) * 0.3
        writer.add_tensor(name, data + 1 if "norm.weight" in name else data)

    def linear(name: str, outputs: int, inputs: int) -> None:
        tensor(f"{name}.weight", outputs, inputs)
        tensor(f"{name}.bias", outputs)

    def norm(name: str) -> None:
        tensor(f"{name}.weight", width)
        tensor(f"{name}.bias", width)

    tensor("token_embd.weight", len(BERT_TOKENS), width)
    tensor("token_types.weight", 2, width)
    tensor("position_embd.weight", context, width)
    norm("token_embd_norm")
    for layer in range(layers):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            linear(f"blk.{layer}.{name}", width, width)
        linear(f"blk.{layer}.ffn_up", 2 * width, width)
        linear(f"blk.{layer}.ffn_down", width, 2 * width)
        norm(f"blk.{layer}.attn_output_norm")
        norm(f"blk.{layer}.layer_output_norm")
    if head:
        linear("cls", width, width)
    if head and head_output:
        linear("cls.output", len(labels) or 1, width)
    tiny._finish(writer)
    return path


def _add_bert_vocabulary(writer: gguf.GGUFWriter, eos: bool) -> None:
    writer.add_token_type_count(2)
    writer.add_vocab_size(len(BERT_TOKENS))
    writer.add_tokenizer_model("bert")
    writer.add_token_list(BERT_TOKENS)
    writer.add_token_types([3] * 5 + [1] * (len(BERT_TOKENS) - 5))  # enum llama_token_type
    writer.add_bos_token_id(CLS)
    writer.add_sep_token_id(SEP)
    writer.add_unk_token_id(UNK)
    writer.add_pad_token_id(PAD)
    writer.add_mask_token_id(MASK)
    if eos:
        writer.add_eos_token_id(SEP)
        writer.add_add_eos_token(True)
        writer.add_add_sep_token(False)


def write_qwen3_ranker(path: Path, *, width: int = 32, context: int = 512) -> Path:
    """A miniature of the Qwen3 rerankers: causal, scored by the last token, with a template of its own."""
    random = numpy.random.default_rng(4)
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(2)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(width // 4)
    writer.add_value_length(width // 4)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_pooling_type(gguf.PoolingType.RANK)
    writer.add_classifier_output_labels(["yes", "no"])
    writer.add_chat_template([{"name": "rerank", "template": RERANK_TEMPLATE}])
    tokens = tiny._add_vocabulary(writer)

    def tensor(name: str, *shape: int) -> None:
        data = random.standard_normal(shape, dtype=numpy.float32) * 0.3
        writer.add_tensor(name, data + 1 if "norm" in name else data)

    tensor("token_embd.weight", tokens, width)
    tensor("output_norm.weight", width)
    tensor("cls.output.weight", 2, width)
    for layer in range(2):
        for name, outputs, inputs in (("attn_q", width, width), ("attn_k", width // 2, width), ("attn_v", width // 2, width),
                                      ("attn_output", width, width), ("ffn_gate", 2 * width, width), ("ffn_up", 2 * width, width),
                                      ("ffn_down", width, 2 * width)):
            tensor(f"blk.{layer}.{name}.weight", outputs, inputs)
        for name, size in (("attn_norm", width), ("ffn_norm", width), ("attn_q_norm", width // 4), ("attn_k_norm", width // 4)):
            tensor(f"blk.{layer}.{name}.weight", size)
    tiny._finish(writer)
    return path


class NumpyBert:
    """The BERT of a GGUF file of float32, computed with numpy."""

    def __init__(self, path: Path, heads: int = 4) -> None:
        self.weights: dict[str, Any] = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
        self.heads = heads
        self.layers = 1 + max(int(name.split(".")[1]) for name in self.weights if name.startswith("blk."))

    def hidden(self, tokens: Sequence[int]) -> numpy.ndarray:
        """The vectors of the tokens: (tokens, width)."""
        weights = self.weights
        place = weights["token_types.weight"][0] + weights["position_embd.weight"][: len(tokens)]
        state = weights["token_embd.weight"][list(tokens)] + place
        state = self._norm(state, "token_embd_norm")
        for layer in range(self.layers):
            block = f"blk.{layer}"
            state = self._norm(state + self._attention(state, block), f"{block}.attn_output_norm")
            up = self._linear(state, f"{block}.ffn_up")
            gelu = 0.5 * up * (1 + numpy.tanh(numpy.sqrt(2 / numpy.pi) * (up + 0.044715 * up**3)))  # as ggml computes it
            state = self._norm(state + self._linear(gelu, f"{block}.ffn_down"), f"{block}.layer_output_norm")
        return numpy.asarray(state)

    def scores(self, tokens: Sequence[int]) -> numpy.ndarray:
        """What the rank head says: (labels,), or (width,) without its last layer."""
        state = numpy.tanh(self._linear(self.hidden(tokens)[0], "cls"))
        return numpy.asarray(self._linear(state, "cls.output") if "cls.output.weight" in self.weights else state)

    def _linear(self, state: Any, name: str) -> Any:
        return state @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _norm(self, state: Any, name: str) -> Any:
        centred = state - state.mean(-1, keepdims=True)
        scaled = centred / numpy.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def _attention(self, state: Any, block: str) -> Any:
        length, width = state.shape
        query, key, value = (self._linear(state, f"{block}.attn_{part}").reshape(length, self.heads, -1).swapaxes(0, 1) for part in "qkv")
        logits = query @ key.swapaxes(1, 2) / numpy.sqrt(width / self.heads)
        shares = numpy.exp(logits - logits.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        return self._linear((shares @ value).swapaxes(0, 1).reshape(length, width), f"{block}.attn_output")


def unit(vectors: numpy.ndarray) -> numpy.ndarray:
    return numpy.asarray(vectors / numpy.linalg.norm(vectors, axis=-1, keepdims=True))
