"""LoRA adapters: applied, taken off, and refused where they do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy
import pytest

import gollama
from gollama import InvalidModelError, ModelNotFoundError, OptionError


def write_adapter(path: Path, *, architecture: str = "llama", width: int = 32, tensor: str = "blk.0.attn_q.weight") -> Path:
    """An adapter for one tensor of the miniature model."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    random = numpy.random.default_rng(1)
    writer.add_tensor(f"{tensor}.lora_a", random.standard_normal((4, width), dtype=numpy.float32))
    writer.add_tensor(f"{tensor}.lora_b", random.standard_normal((width, 4), dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def llm(tiny_path: Path) -> Iterator[gollama.LLM]:
    with gollama.LLM(tiny_path, context_size=128, threads=1) as llm:
        yield llm


def answer(llm: gollama.LLM) -> list[int]:
    return llm.generate("the sky", max_tokens=8, temperature=0, ignore_eos=True).tokens


def test_an_adapter_changes_the_answer_until_it_is_taken_off(llm: gollama.LLM, tmp_path: Path) -> None:
    plain = answer(llm)
    llm.set_adapters({write_adapter(tmp_path / "adapter.gguf"): 1.0})
    assert answer(llm) != plain
    llm.set_adapters({})
    assert answer(llm) == plain


def test_a_scale_of_zero_is_no_adapter(llm: gollama.LLM, tmp_path: Path) -> None:
    plain = answer(llm)
    llm.set_adapters({write_adapter(tmp_path / "adapter.gguf"): 0.0})
    assert answer(llm) == plain


def test_an_adapter_stays_when_there_are_more_sequences(llm: gollama.LLM, tmp_path: Path) -> None:
    llm.set_adapters({write_adapter(tmp_path / "adapter.gguf"): 1.0})
    alone = answer(llm)
    together = llm.generate(["the sky"] * 4, max_tokens=8, temperature=0, ignore_eos=True)
    assert llm.stats().sequences >= 4 and [completion.tokens for completion in together] == [alone] * 4


@pytest.mark.parametrize(("options", "words"), [
    ({"width": 48}, "incorrect shape"), ({"architecture": "gpt2"}, "arch mismatch"), ({"tensor": "blk.7.attn_q.weight"}, "does not exist"),
])
def test_an_adapter_that_does_not_fit_is_refused_and_the_engine_lives(
        llm: gollama.LLM, tmp_path: Path, options: dict[str, object], words: str) -> None:
    plain = answer(llm)
    with pytest.raises(InvalidModelError, match=words):
        llm.set_adapters({write_adapter(tmp_path / "adapter.gguf", **options): 1.0})  # type: ignore[arg-type]
    assert answer(llm) == plain


def test_what_is_no_adapter_is_refused(llm: gollama.LLM, tiny_path: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidModelError, match="adapter"):
        llm.set_adapters({tiny_path: 1.0})
    with pytest.raises(ModelNotFoundError):
        llm.set_adapters({tmp_path / "nothing.gguf": 1.0})
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(write_adapter(tmp_path / "adapter.gguf").read_bytes()[:-100])
    with pytest.raises(InvalidModelError, match="cut off or damaged"):
        llm.set_adapters({cut: 1.0})


@pytest.mark.parametrize("scale", [float("nan"), "1", None, True])
def test_a_scale_is_a_number(llm: gollama.LLM, tmp_path: Path, scale: object) -> None:
    with pytest.raises(OptionError, match="scale"):
        llm.set_adapters({write_adapter(tmp_path / "adapter.gguf"): scale})  # type: ignore[dict-item]
