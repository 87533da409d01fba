"""Which quantization of a repository to take. Pure functions of sizes and of one estimate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gollama.backends import Estimate
from gollama.compatibility.speed import kind_of
from gollama.models import choosing


@dataclass(frozen=True)
class Quantization:
    """One of a repository's models, judged by its size and by the estimate for one of them."""

    name: str  # the file's, without a part's number
    quantization: str | None  # "Q4_K_M"
    size: int | None  # bytes of all its parts
    fits: bool | None  # None: its size is not told
    tokens_per_second: float | None  # about
    speed: str  # as Speed.kind


def judge(sizes: Mapping[str, int | None], size: int, found: Estimate, rate: float | None, disk: int) -> tuple[Quantization, ...]:
    """Each of the models, the smallest first. `size`, `found` and `rate` are those of the one that was estimated.

    Weights grow with the file; the context and what is computed with stay, and so does what one device has too little of.
    """
    weights = sum(row.weights for row in found.devices)
    beside = sum(row.context + row.compute for row in found.devices)
    free = sum(row.memory_free for row in found.devices)
    judged = []
    for name, other in sizes.items():
        fits = None if other is None else weights * other / size + beside <= free and other <= disk
        expected = None if rate is None or not other else rate * size / other
        judged.append(Quantization(name, choosing.quantization(name), other, fits, expected, kind_of(expected)))
    return tuple(sorted(judged, key=lambda each: (each.size is None, each.size or 0, each.name)))


def recommend(known: Sequence[Quantization]) -> str | None:
    """The name of the one to take: what `hf:REPOSITORY` takes by itself, of those that fit and that answer as fast as people read."""
    fitting = [each for each in known if each.fits]
    fluent = [each for each in fitting if each.speed in ("fluent", "unknown")]
    if not fitting:
        return None
    return choosing.choose({each.name: each.size for each in fluent}) if fluent else fitting[0].name
