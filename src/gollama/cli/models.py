"""The commands about models by name: pull, list, lock."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from gollama import models
from gollama.cli import amounts, completion, output
from gollama.cli.application import JsonOption, app
from gollama.errors import RegistryError
from gollama.models import lockfile

NamesArgument = Annotated[Optional[list[str]], typer.Argument(  # noqa: UP045
    metavar="MODEL...", autocompletion=completion.names, show_default=False,
    help="Names (`gollama registry list` shows them), hf:OWNER/REPOSITORY:QUANTIZATION, or https addresses. "
         "Without any: all that the lock file holds.")]
QuantOption = Annotated[Optional[str], typer.Option(  # noqa: UP045
    "--quant", "-q", metavar="QUANTIZATION", help="The quantization, such as Q8_0. Without it: the first that the registry names.")]


@app.command()
def pull(names: NamesArgument = None, quant: QuantOption = None, as_json: JsonOption = False) -> None:
    """Fetch models by name, verified, for use without a network later. Prints where each lies."""
    registry = models.ModelRegistry()
    if not names and registry.locked is None:
        raise typer.BadParameter("say which models, or a lock file (`gollama --lock FILE pull`)")
    rows = []
    for name in names or list(registry.locked or {}):
        target = registry.target(name, quant) if not name.startswith(("ollama:", "lmstudio:")) else None
        found = registry.fetch(name, quant)
        rows.append({"name": target.name if target else name, "path": str(found.path), "files": list(map(str, found.files)),
                     "size": found.size, "source": str(found.source), "revision": found.revision})
        if not as_json:
            print(found.path)
    if as_json:
        output.print_json(rows)


@app.command(name="list")
def list_models(
    place: Annotated[Optional[str], typer.Option(  # noqa: UP045
        help="Only those of one place: gollama, 'Hugging Face', Ollama, 'LM Studio' or elsewhere.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the models that are here, with size, quantization, last use and where they lie; those of other tools too.

    What can be fetched by name is in `gollama registry list`.
    """
    found = [model for model in models.ModelStore() if place is None or model.place.lower() == place.lower()]
    if as_json:
        output.print_json([record(model) for model in found])
        return
    table = output.table("name", "size", "quantization", "last use", "where", numbers=("size",))
    for model in found:
        output.add_row(table, model.name, amounts.bytes_text(model.size), model.quantization or "?", amounts.ago(model.used), model.place)
    output.print_table(table)


def record(model: Any) -> dict[str, Any]:
    """A model of the store as JSON says it."""
    row = {**dataclasses.asdict(model), "path": str(model.path), "files": list(map(str, model.files))}
    return {key: row[key] for key in ("name", "size", "quantization", "used", "place", "path", "files", "source", "revision", "sha256")}


@app.command()
def lock(
    names: Annotated[list[str], typer.Argument(metavar="MODEL...", autocompletion=completion.names,
                                               help="What the application loads, spelled as it does.")],
    file: Annotated[Path, typer.Option(help="The lock file; models that are in it stay.")] = Path("gollama.lock"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if the file would change.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write down exactly which files models are (revision, size, sha256), fetching what is not here.

    The file is used where it is named: `gollama --lock FILE ...`, GOLLAMA_LOCK, or ModelRegistry(lock=FILE). It is never found by itself.
    """
    registry = models.ModelRegistry()
    held = registry.lock(names, file, write=not check)
    if check and not (file.exists() and held == lockfile.read(file)):
        raise RegistryError(f"{file} is not what these models are now: `gollama lock {' '.join(names)} --file {file}` writes it")
    if as_json:
        output.print_json({name: model.table() for name, model in held.items()})
        return
    for name, model in held.items():
        print(f"{name}  {model.source}  {amounts.bytes_text(model.size)}")
