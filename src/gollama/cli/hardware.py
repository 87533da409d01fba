"""The commands that look at the machine: doctor, devices, estimate, bench."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.console import Console
from rich.text import Text

from gollama.cli import amounts, output
from gollama.cli.application import AnyModel, JsonOption, ModelArgument, app, loading, read_given
from gollama.cli.estimates import print_compatibility
from gollama.options import LoadOptions


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Say what was found here: backends and why each works or not, drivers, devices, and the wheel that would fit better."""
    from gollama.doctor import report

    found = report()
    if as_json:
        output.print_json(found)
        return
    console = Console(highlight=False)
    _heading(console, "gollama", f"{found['gollama']} on llama.cpp {found['llama_cpp']['release']} ({found['llama_cpp']['provider']}), "
             f"Python {found['python']['version']}")
    machine, cpu = found["machine"], found["cpu"]
    library = f"{machine['libc']} {'.'.join(map(str, machine['version']))}".strip()
    _heading(console, "machine", ", ".join(filter(None, (f"{machine['system']} {machine['machine']}", library, machine["environment"]))))
    _heading(console, "CPU", f"library {cpu['library']}, {cpu['threads']} threads, {amounts.mib_text(cpu['memory_free'])} of memory free; "
             + " ".join(cpu["features"]))
    for gpu in machine["gpus"]:
        driver = f"{gpu['driver']} {'.'.join(map(str, gpu['driver_version']))}".strip()
        _heading(console, "GPU", f"{gpu['title']}, " + (gpu["problem"] or f"driver {driver}"))
    for backend in found["backends"]:
        _heading(console, backend["distribution"], backend["problem"] or f"works: {', '.join(backend['devices'])}")
    if not found["backends"]:
        _heading(console, "backends", "none is installed beside the CPU's")
    console.print()
    _print_devices(found["devices"])
    console.print()
    advice = found["recommendation"]
    for reason in advice["reasons"]:
        _heading(console, "found", reason)
    _heading(console, "advice", advice["command"] or "nothing better is known for this machine")
    _heading(console, "cache", found["cache"])


@app.command(name="devices")
def list_devices(as_json: JsonOption = False) -> None:
    """List what gollama can compute on, with free and total memory."""
    from gollama.backends import devices
    from gollama.doctor import device_record

    rows = [device_record(device) for device in devices()]
    if as_json:
        output.print_json(rows)
    else:
        _print_devices(rows)


@app.command()
def estimate(
    model: AnyModel,
    context_size: Annotated[Optional[int], loading("context_size", "--context", "--context-size", "-c")] = None,  # noqa: UP045
    sequences: Annotated[int, typer.Option(min=1, help="Generations at once, each with a context of its own.")] = 1,
    backend: Annotated[Optional[str], loading("backend")] = None,  # noqa: UP045
    gpu_layers: Annotated[Optional[str], loading("gpu_layers")] = None,  # noqa: UP045
    gpu_memory: Annotated[Optional[int], loading("gpu_memory")] = None,  # noqa: UP045
    cache_type_k: Annotated[Optional[str], loading("cache_type_k")] = None,  # noqa: UP045
    cache_type_v: Annotated[Optional[str], loading("cache_type_v")] = None,  # noqa: UP045
    as_json: JsonOption = False,
) -> None:
    """Say what a model would take of each device's memory and how fast it would be, without loading or downloading it.

    Of hf:OWNER/REPOSITORY only the header is read; its quantizations are listed with what each would be on this machine.
    """
    from gollama.compatibility import check

    given = read_given(locals(), LoadOptions)
    if gpu_layers is not None and gpu_layers.isdigit():
        given["gpu_layers"] = int(gpu_layers)
    found = check(model, sequences=sequences, **given)
    if as_json:
        rest = dataclasses.asdict(found)
        output.print_json({**rest.pop("estimate"), **rest, "fits": found.fits})
    else:
        print_compatibility(found)


@app.command()
def bench(
    model: ModelArgument,
    device: Annotated[Optional[list[str]], typer.Option(  # noqa: UP045
        help="A device's name (`gollama devices`); may be given several times. Without it: all.")] = None,
    gpu_layers: Annotated[Optional[list[int]], typer.Option(  # noqa: UP045
        min=1, help="Layers on the device; may be given several times. Without it: a quarter, half, three quarters, all.")] = None,
    prompt: Annotated[int, typer.Option(min=1, help="Tokens of prompt.")] = 512,
    generate: Annotated[int, typer.Option(min=2, help="Tokens to generate.")] = 128,
    repeats: Annotated[int, typer.Option(min=1, help="Runs behind each figure, which is their median.")] = 3,
    json_file: Annotated[Optional[Path], typer.Option("--output", help="Write the figures to this file as JSON.")] = None,  # noqa: UP045
    plot: Annotated[Optional[Path], typer.Option(help="Draw them into this file (SVG, PNG; needs matplotlib).")] = None,  # noqa: UP045
    as_json: JsonOption = False,
) -> None:
    """Measure prompt and decode rates on each device, with more and more of the layers on it."""
    from gollama import bench as benching

    if plot is not None:
        benching.require_matplotlib()
    console = Console(stderr=True, highlight=False)
    results = benching.bench(model, gpu_layers=gpu_layers, prompt=prompt, generated=generate, repeats=repeats, only=device or (),
                             on_start=lambda name, layers: console.print(f"measuring {name}" + f", {layers} layers on it" * bool(layers)))
    records = [dataclasses.asdict(result) for result in results]
    if as_json:
        output.print_json(records)
    else:
        _print_bench(records)
    if json_file is not None:
        json_file.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")
    if plot is not None:
        benching.plot(results, plot)


def _print_bench(records: list[dict[str, Any]]) -> None:
    numbers = ("layers", "prompt tokens/s", "decode tokens/s", "device memory", "utilization")
    table = output.table("device", *numbers, numbers=numbers)
    for row in records:
        layers = f"{row['gpu_layers']} of {row['layers']}"
        if row["problem"]:
            output.add_row(table, row["device"], layers, row["problem"])
            continue
        busy = "–" if row["utilization"] is None else f"{row['utilization']:.0%}"
        output.add_row(table, row["device"], layers, f"{row['prompt_rate']:.1f}", f"{row['decode_rate']:.1f}",
                       amounts.mib_text(row["device_memory"]), busy)
    output.print_table(table)


def _print_devices(rows: list[dict[str, Any]]) -> None:
    table = output.table("device", "backend", "kind", "description", "free", "total", numbers=("free", "total"))
    for row in rows:
        kind = "software" if row["is_software"] else row["kind"]
        output.add_row(table, row["name"], row["backend"], kind, row["description"], amounts.mib_text(row["memory_free"]),
                       amounts.mib_text(row["memory_total"]))
    output.print_table(table)


def _heading(console: Console, name: str, told: str) -> None:
    console.print(Text.assemble((f"{name}: ", "bold"), told), soft_wrap=True)
