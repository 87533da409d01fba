"""How fast a model is here: prompt and decode rates by device and by the layers that are kept on it."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gollama import models
from gollama.backends import Device, devices
from gollama.errors import BackendError, OptionError, OutOfMemoryError
from gollama.llm import LLM
from gollama.model import Model
from gollama.monitor import DeviceMonitor

SAMPLED = 0.1  # seconds between two looks at the device
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
    device_memory: int  # bytes of the device that were in use at most, those of other programs among them; 0 for the CPU
    utilization: float | None = None  # 0 to 1, on average; None where the driver does not tell
    problem: str | None = None  # why there are no figures


def bench(model: str | os.PathLike[str], *, gpu_layers: Sequence[int] | None = None, prompt: int = 512, generated: int = 128,
          repeats: int = 3, only: Sequence[str] = (), on_start: Callable[[str, int], object] | None = None) -> list[BenchResult]:
    """Measure on the CPU, and on each device with each number of layers; None: a quarter, half, three quarters and all of them.

    `only` names the devices to take; BackendError for one that is not here. `on_start` is called before each measurement with the
    device's name and the number of layers on it.
    """
    path = models.resolve(model)
    with Model(path, vocab_only=True) as known:
        layers = known.n_layer + 1
    here = devices()
    unknown = set(only) - {device.name for device in here}
    if unknown:
        raise BackendError(f"there is no device {', '.join(sorted(unknown))}; there are: {', '.join(device.name for device in here)}")
    results = []
    for device in here:
        for count in _counts(device, layers, gpu_layers) if not only or device.name in only else ():
            if on_start is not None:
                on_start(device.name, count)
            results.append(_measured(path, device, count, layers, prompt, generated, repeats))
    return results


def require_matplotlib() -> None:
    """OptionError with what to install where it is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise OptionError('a plot needs matplotlib: pip install "gollama-cpu[plot]"') from None


def plot(results: Sequence[BenchResult], file: Path) -> None:
    """Draw both rates over the layers on each device; the file's ending says in which format. OptionError without matplotlib."""
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("prompt_rate", "decode_rate"), strict=True):
        for device in dict.fromkeys(result.device for result in results):
            rows = [result for result in results if result.device == device and result.problem is None]
            axes.plot([row.gpu_layers for row in rows], [getattr(row, name) for row in rows], marker="o", label=device)
        axes.set(xlabel="layers on the device", ylabel="tokens/s", title=name.replace("_", " "), ylim=(0, None))
        axes.legend()
    figure.savefig(file)


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
        with LLM(path, context_size=prompt + generated + 1, max_sequences=1, prefix_cache=0, **options) as llm, \
                DeviceMonitor([] if device.kind == "cpu" else [device], interval=SAMPLED) as monitor:
            rates = [_rates(llm, prompt, generated, number) for number in range(repeats + 1)]
    except OutOfMemoryError as error:
        return BenchResult(*facts, 0.0, generated, 0.0, 0, None, str(error))
    # the first run warms up
    prompt_rate, decode_rate = (statistics.median(rate) for rate in zip(*rates[1:], strict=True))
    peak, busy = (0, None) if device.kind == "cpu" else (monitor.peak_memory(device.name), monitor.mean_utilization(device.name))
    return BenchResult(*facts, prompt_rate, generated, decode_rate, peak, busy)


def _rates(llm: LLM, prompt: int, generated: int, number: int) -> tuple[float, float]:
    """Tokens a second for a prompt that nothing is kept of, and for what follows it."""
    tokens = [(7919 * (number + 1) + 31 * index) % (llm.model.n_vocab - 1) for index in range(prompt)]
    timings = llm.generate(tokens, max_tokens=generated, temperature=0, ignore_eos=True, cache_prompt=False).timings
    return timings.prompt_tokens_per_second, timings.decode_tokens_per_second
