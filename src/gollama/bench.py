"""How fast a model is here: prompt and decode rates by device and by the layers that are kept on it."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gollama import models
from gollama.backends import Device, devices
from gollama.errors import OutOfMemoryError
from gollama.llm import LLM
from gollama.model import Model

SHARES = (0.25, 0.5, 0.75)  # of a model's layers, beside all of them


@dataclass(frozen=True)
class BenchResult:
    """Medians over the repeats; tokens a second."""

    device: str  # "CPU", "CUDA0"
    backend: str
    description: str
    gpu_layers: int
    layers: int  # that the model has, the output's among them
    prompt_tokens: int
    prompt_rate: float
    generated_tokens: int
    decode_rate: float
    device_memory: int  # bytes taken of the device; 0 for the CPU
    problem: str | None = None  # why there are no figures


def bench(model: str | os.PathLike[str], *, gpu_layers: Sequence[int] | None = None, prompt: int = 512, generated: int = 128,
          repeats: int = 3, only: Sequence[str] = (), on_result: Callable[[BenchResult], object] | None = None) -> list[BenchResult]:
    """Measure on the CPU, and on each device with each number of layers; None: a quarter, half, three quarters and all of them.

    `only` names the devices to take. `on_result` sees each result as it comes.
    """
    path = models.resolve(model)
    with Model(path, vocab_only=True) as known:
        layers = known.n_layer + 1
    results = []
    for device in devices():
        if only and device.name not in only:
            continue
        for count in _counts(device, layers, gpu_layers):
            result = _measured(path, device, count, layers, prompt, generated, repeats)
            results.append(result)
            if on_result is not None:
                on_result(result)
    return results


def _counts(device: Device, layers: int, given: Sequence[int] | None) -> Iterator[int]:
    if device.kind == "cpu":
        yield 0
        return
    counts = given or [*(round(share * layers) for share in SHARES), layers]
    yield from dict.fromkeys(min(count, layers) for count in counts if count > 0)


def _measured(path: os.PathLike[str], device: Device, count: int, layers: int, prompt: int, generated: int, repeats: int) -> BenchResult:
    options = {"backend": "cpu"} if device.kind == "cpu" else {"backend": device.backend, "devices": [device.name], "gpu_layers": count}
    facts = (device.name, device.backend, device.description, count, layers, prompt)
    try:
        with LLM(path, context_size=prompt + generated + 1, max_sequences=1, prefix_cache=0, **options) as llm:
            n_vocab = llm.model.n_vocab
            memory = sum(row.needed for row in llm.memory() if row.device == device.name)
            rates = []
            for number in range(-1, repeats):  # the first warms up
                tokens = [(7919 * (number + 2) + 31 * index) % (n_vocab - 1) for index in range(prompt)]
                timings = llm.generate(tokens, max_tokens=generated, temperature=0, ignore_eos=True, cache_prompt=False).timings
                rates.append((timings.prompt_tokens_per_second, timings.decode_tokens_per_second))
    except OutOfMemoryError as error:
        return BenchResult(*facts, 0.0, generated, 0.0, 0, str(error))
    prompt_rate, decode_rate = (statistics.median(rate) for rate in zip(*rates[1:], strict=True))
    return BenchResult(*facts, prompt_rate, generated, decode_rate, memory)
