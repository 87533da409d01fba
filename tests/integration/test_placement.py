"""What loading takes, told before and after; contexts that fit themselves to the memory, and those that do not fit. On the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gollama import LLM, OutOfMemoryError
from gollama.backends import DeviceMemory
from gollama.engine import ContextDevice
from gollama.intake import affordable_sequences
from tests.conftest import MODELS

OPTIONS: dict[str, dict[str, Any]] = {
    "small": {"context_size": 512},
    "wide": {"context_size": 8192, "micro_batch_size": 1024},
    "narrow": {"context_size": 4096, "batch_size": 256, "micro_batch_size": 64},
    "quantized": {"context_size": 4096, "cache_type_k": "q8_0", "cache_type_v": "q8_0", "flash_attention": "on"},
}


def assert_close(estimated: tuple[DeviceMemory, ...], taken: tuple[DeviceMemory, ...]) -> None:
    assert [row.device for row in estimated] == [row.device for row in taken] == ["host"]
    for part in ("weights", "context", "compute"):
        assert getattr(estimated[0], part) == pytest.approx(getattr(taken[0], part), rel=0.1), part


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_an_estimate_is_what_loading_takes(model: str, options: dict[str, Any]) -> None:
    estimate = LLM.estimate(model, **options)
    with LLM(model, **options) as llm:
        assert_close(estimate.devices, llm.memory())
    assert estimate.problem is None and estimate.context_size == options["context_size"]


def test_an_estimate_for_several_is_what_several_take() -> None:
    estimate = LLM.estimate("smollm2", context_size=512, sequences=4)
    with LLM("smollm2", context_size=512, max_sequences=4) as llm:
        before = llm.memory()
        llm.generate(["One", "Two", "Three", "Four"], max_tokens=2)
        assert_close(estimate.devices, llm.memory())
        assert before[0].context < llm.memory()[0].context


def test_a_context_by_itself_is_what_the_model_was_trained_for() -> None:
    with LLM("smollm2", context_size="auto") as llm:
        assert llm.context_size == llm.model.n_ctx_train


def test_a_context_that_does_not_fit_is_an_error_with_the_figures(smollm2: LLM) -> None:
    estimate = LLM.estimate("smollm2", context_size=2**26)
    assert estimate.problem is not None and "MiB free" in estimate.problem
    with pytest.raises(OutOfMemoryError, match=r"insufficient memory.* \d{5,}.*smaller context"):
        LLM("smollm2", context_size=2**26)
    assert smollm2.generate("Water", max_tokens=1, temperature=0).text


@dataclass
class Row:
    context: int
    memory_free: int


@pytest.mark.parametrize(("rows", "sequences"), [
    ([Row(100, 1000)], 6),  # half of what is free, and the one that is there
    ([Row(100, 10**6)], 16),
    ([Row(100, 10**6), Row(10, 30)], 2),  # a GPU that is nearly full
    ([Row(100, 0)], 16),  # nobody knows
    ([Row(0, 10)], 16),  # a device that holds no context
    ([Row(100, 10)], 1),
])
def test_no_more_sequences_than_fit_on_every_device(rows: list[Row], sequences: int) -> None:
    device = SimpleNamespace(context=SimpleNamespace(memory=lambda: rows))
    assert affordable_sequences(cast(ContextDevice, device), 16) == sequences
