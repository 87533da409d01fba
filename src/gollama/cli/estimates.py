"""What `gollama estimate` prints."""

from __future__ import annotations

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from gollama.cli.output import visible
from gollama.compatibility import Compatibility, Quantization

MIB = 2**20


def print_compatibility(found: Compatibility) -> None:
    console = Console(highlight=False)
    estimate = found.estimate
    table = Table("device", *(Column(name, justify="right") for name in ("weights", "context", "compute", "together", "free")),
                  box=None, pad_edge=False)
    for row in estimate.devices:
        sizes = (row.weights, row.context, row.compute, row.needed, row.memory_free)
        table.add_row(row.device, *(f"{size / MIB:.0f} MiB" for size in sizes))
    console.print(table)
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
    table = Table("quantization", Column("size", justify="right"), "fits", "speed", "", box=None, pad_edge=False)
    for each in found.quantizations:
        marks = " ".join(["this one"] * _is(each, found) + ["recommended"] * (each.name == found.recommended))
        size = "?" if each.size is None else f"{each.size / 1e6:.0f} MB"
        fits = {True: "yes", False: "no", None: "?"}[each.fits]
        table.add_row(Text(visible(each.quantization or each.name)), size, fits, _speed(each.speed, each.tokens_per_second), marks)
    console.print(table)
    if found.recommended is None:
        console.print("none of them fits: take a smaller model, or a smaller --context")


def _is(each: Quantization, found: Compatibility) -> bool:
    return each.size == found.size


def _speed(kind: str, rate: float | None) -> str:
    if rate is None:
        return f"{kind}: the memory bandwidth of a device is not known"
    return f"{kind}, about {rate:.0f} tokens/s" if rate >= 1 else f"{kind}, about a token in {1 / rate:.0f} s"
