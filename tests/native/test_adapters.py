"""LoRA adapters and control vectors: what they change is what their arithmetic says, and what does not fit is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy
import pytest

from gollama import Context, InvalidModelError, LoadOptions, Model, _native
from tests.support import tiny
from tests.support.tiny_adapters import ALPHA, RANK, WIDTH, direction, factors, merged, write_adapter, write_vector

TENSORS = ("blk.0.attn_q.weight", "blk.1.ffn_down.weight")
TOKENS = [1, *range(260, 272)]
# flash attention rounds to 16 bits
EXACT = LoadOptions(context_size=64, threads=1, cache_type_k="f32", cache_type_v="f32", flash_attention="off")
Used = Sequence[tuple[Any, float]]


def logits(model: Model, adapters: Used = (), vectors: Used = (), tokens: Sequence[int] = TOKENS) -> numpy.ndarray:
    with Context(model, EXACT) as context:
        context._handle.set_adapters(adapters, vectors)
        context.decode(tokens)
        return numpy.array(context.logits())


def delta(seed: int, tensor: str, inputs: int = WIDTH, outputs: int = WIDTH) -> numpy.ndarray:
    """scale * B A, for a scale of 1."""
    a, b = factors(seed, tensor, 2 * WIDTH if "ffn_down" in tensor else inputs, outputs)
    return numpy.asarray(ALPHA / RANK * b @ a)


def adapter(model: Model, path: Path, **options: Any) -> _native.AdapterHandle:
    return _native.AdapterHandle(model._handle, write_adapter(path, **options))


def vector(model: Model, path: Path, first: int = 1, last: int = 99, **options: Any) -> _native.ControlVectorHandle:
    return _native.ControlVectorHandle(model._handle, write_vector(path, **options), first, last)


# ---- what they compute ----


def test_an_adapter_adds_scale_b_a_x(tiny_model: Model, tmp_path: Path) -> None:
    # of the output alone, so that x is the same without it: from the logits W x, whose W is known
    rows = tiny_model.n_vocab
    weights = next(tensor.data for tensor in gguf.GGUFReader(tiny_model.path).tensors if tensor.name == "output.weight")
    plain = logits(tiny_model)
    x = numpy.linalg.lstsq(weights.astype(numpy.float64), plain.astype(numpy.float64), rcond=None)[0]
    handle = adapter(tiny_model, tmp_path / "a.gguf", tensors=["output.weight"], shapes={"output.weight": (WIDTH, rows)})
    for scale in (1.0, 0.25, -2.0):
        right = plain + scale * delta(1, "output.weight", outputs=rows) @ x
        assert numpy.allclose(logits(tiny_model, [(handle, scale)]), right, atol=2e-5)


@pytest.mark.parametrize("scales", [(1.0,), (0.3, 1.5), (-0.5, 0.5)])
def test_adapters_compute_what_the_model_does_with_their_sum_in_its_weights(
        tiny_model: Model, tmp_path: Path, scales: tuple[float, ...]) -> None:
    used = [(adapter(tiny_model, tmp_path / f"{seed}.gguf", seed=seed), scale) for seed, scale in enumerate(scales)]
    sums = {tensor: sum(scale * delta(seed, tensor) for seed, scale in enumerate(scales)) for tensor in TENSORS}
    with Model(merged(tiny_model.path, tmp_path / "merged.gguf", sums)) as whole:  # type: ignore[arg-type]
        right = logits(whole)
    assert not numpy.allclose(right, logits(tiny_model), atol=0.1)
    assert numpy.allclose(logits(tiny_model, used), right, atol=2e-5)


def test_a_control_vector_is_added_to_what_its_layers_give(tmp_path: Path) -> None:
    # as a bias of the layer's last matrix is
    scale = 1.5
    with Model(tiny.write(tmp_path / "plain.gguf", layers=4)) as model:
        for first, last in ((1, 3), (2, 2)):
            layers = range(first, last + 1)
            biases = {f"blk.{layer}.ffn_down.bias": scale * direction(layer) for layer in layers}
            with Model(tiny.write(tmp_path / f"{first}.gguf", layers=4, biases=biases)) as biased:
                right = logits(biased)
            handle = vector(model, tmp_path / "v.gguf", first, last, layers=(1, 2, 3))
            assert not numpy.allclose(right, logits(model), atol=0.1)
            assert numpy.allclose(logits(model, vectors=[(handle, scale)]), right, atol=2e-5)


def test_control_vectors_sum(tmp_path: Path) -> None:
    with Model(tiny.write(tmp_path / "plain.gguf")) as model:
        biases = {"blk.1.ffn_down.bias": 0.5 * direction(1, seed=1) - 2 * direction(1, seed=2)}
        with Model(tiny.write(tmp_path / "biased.gguf", biases=biases)) as biased:
            right = logits(biased)
        used = [(vector(model, tmp_path / f"{seed}.gguf", seed=seed), scale) for seed, scale in ((1, 0.5), (2, -2.0))]
        assert numpy.allclose(logits(model, vectors=used), right, atol=2e-5)


def test_what_was_taken_off_leaves_nothing(tiny_model: Model, tmp_path: Path) -> None:
    plain = logits(tiny_model)
    lora, calm = adapter(tiny_model, tmp_path / "a.gguf"), vector(tiny_model, tmp_path / "v.gguf")
    with Context(tiny_model, EXACT) as context:
        for scale in (1.0, 0.0, 1.0, None):
            context._handle.set_adapters(*([], []) if scale is None else ([(lora, scale)], [(calm, scale)]))
            context.clear()
            context.decode(TOKENS)
            assert numpy.array_equal(context.logits(), plain) == (not scale)


# ---- what is refused ----


@pytest.mark.parametrize(("options", "words"), [
    ({"shapes": {TENSORS[0]: (48, WIDTH)}}, "incorrect shape"), ({"architecture": "gpt2"}, "arch mismatch"),
    ({"tensors": ["blk.7.attn_q.weight"]}, "does not exist"), ({"invocation": [260, 261]}, "aLoRA"),
    ({"change": {f"{TENSORS[0]}.lora_a": numpy.ones((RANK, WIDTH), numpy.int32)}}, "of a type"),
    ({"change": {f"{TENSORS[0]}.lora_a": numpy.ones((3, RANK, WIDTH), numpy.float32)}}, "incorrect shape"),
    ({"change": {f"{TENSORS[0]}.lora_b": numpy.ones((WIDTH, RANK + 1), numpy.float32)}}, "not transposed"),
])
def test_an_adapter_that_does_not_fit_is_refused(tiny_model: Model, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidModelError, match=words):
        adapter(tiny_model, tmp_path / "a.gguf", **options)
    assert numpy.isfinite(logits(tiny_model)).all()


@pytest.mark.parametrize(("options", "words"), [
    ({"width": 48}, "of another model"), ({"layers": (1, 2)}, "of another model"), ({"layers": ()}, "no directions"),
    ({"name": "dir.{}"}, "no direction"), ({"name": "direction.{}x"}, "no direction"), ({"name": "direction.-{}"}, "no direction"),
    ({"layers": (0,)}, "no direction"), ({"name": "direction.4294967296{}"}, "no direction"),
    ({"kind": numpy.float16}, "no list of 32-bit"),
])
def test_a_control_vector_that_does_not_fit_is_refused(tiny_model: Model, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidModelError, match=words):
        vector(tiny_model, tmp_path / "v.gguf", **options)


def test_damaged_files_are_refused(tiny_model: Model, tmp_path: Path) -> None:
    for kind, whole in ((_native.AdapterHandle, write_adapter(tmp_path / "a.gguf")),
                        (lambda model, path: _native.ControlVectorHandle(model, path, 1, 9), write_vector(tmp_path / "v.gguf"))):
        cut = tmp_path / "cut.gguf"
        for length in (0, 3, 40, whole.stat().st_size - 100):
            cut.write_bytes(whole.read_bytes()[:length])
            with pytest.raises(InvalidModelError):
                kind(tiny_model._handle, cut)
        with pytest.raises(InvalidModelError):
            kind(tiny_model._handle, tiny_model.path)


def test_a_vector_of_what_is_no_number_is_refused(tiny_model: Model, tmp_path: Path) -> None:
    path = write_vector(tmp_path / "v.gguf")
    path.write_bytes(path.read_bytes().replace(direction(1).tobytes(), numpy.full(WIDTH, numpy.nan, numpy.float32).tobytes()))
    with pytest.raises(InvalidModelError, match="no number"):
        _native.ControlVectorHandle(tiny_model._handle, path, 1, 9)
