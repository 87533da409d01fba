"""What `gollama estimate` prints."""

from __future__ import annotations

from rich.console import Console

from gollama.cli import amounts, output
from gollama.cli.output import visible
from gollama.compatibility import Compatibility, Quantization


def print_compatibility(found: Compatibility) -> None:
    console = Console(highlight=False)
    estimate = found.estimate
    numbers = ("weights", "context", "compute", "together", "free")
    table = output.table("device", *numbers, numbers=numbers)
    for row in estimate.devices:
        output.add_row(table, row.device, *map(amounts.mib_text, (row.weights, row.context, row.compute, row.needed, row.memory_free)))
    output.print_table(table)
    plural = "s" * (estimate.sequences > 1)
    console.print(f"{estimate.sequences} sequence{plural} with a context of {estimate.context_size} tokens: "
                  + (f"does not fit, {found.problem}" if found.problem else "fits"), soft_wrap=True, markup=False)
    console.print(f"speed: {_speed(found.speed.kind, found.speed.tokens_per_second)}")
    if not found.is_here:
        console.print(f"download: {found.size / 1e6:.0f} MB of {visible(found.file)}, {found.disk_free / 1e6:.0f} MB of disk free "
                      f"({found.bytes_read / 1e6:.1f} MB were read to tell)", soft_wrap=True, markup=False)
    if found.quantizations:
        _print_quantizations(console, found)


def _print_quantizations(console: Console, found: Compatibility) -> None:
    table = output.table("quantization", "size", "fits", "speed", "", numbers=("size",))
    for each in found.quantizations:
        marks = " ".join(["this one"] * _is(each, found) + ["recommended"] * (each.name == found.recommended))
        size = "?" if each.size is None else f"{each.size / 1e6:.0f} MB"
        fits = {True: "yes", False: "no", None: "?"}[each.fits]
        output.add_row(table, each.quantization or each.name, size, fits, _speed(each.speed, each.tokens_per_second), marks)
    output.print_table(table)
    if found.recommended is None:
        console.print("none of them fits: take a smaller model, or a smaller --context")


def _is(each: Quantization, found: Compatibility) -> bool:
    return each.size == found.size


def _speed(kind: str, rate: float | None) -> str:
    if rate is None:
        return f"{kind}: the memory bandwidth of a device is not known"
    return f"{kind}, about {rate:.0f} tokens/s" if rate >= 1 else f"{kind}, about a token in {1 / rate:.0f} s"
