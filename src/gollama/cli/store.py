"""The commands about the files of models: rm, prune, verify, du, import, cp."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from gollama.cli import amounts, completion, output
from gollama.cli.application import JsonOption, app
from gollama.cli.models import record

HereArgument = Annotated[list[str], typer.Argument(metavar="MODEL...", autocompletion=completion.here,
                                                   help="Names or paths of models that are here (`gollama list`).")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Take the name although it means something else.")]


def _print_removal(removal: Any, as_json: bool) -> None:
    if as_json:
        output.print_json({"models": [record(model) for model in removal.models], "freed": removal.freed, "dry_run": removal.dry_run})
        return
    word = "would delete" if removal.dry_run else "deleted"
    for model in removal.models:
        print(f"{word} {output.visible(model.name)}  {amounts.bytes_text(model.size)}  {output.visible(str(model.path))}")
    print(f"{'would free' if removal.dry_run else 'freed'} {amounts.bytes_text(removal.freed)}")


@app.command()
def rm(names: HereArgument, dry_run: DryRunOption = False, as_json: JsonOption = False) -> None:
    """Delete models. What other tools fetched is theirs to delete; a file imported by reference stays and only its name goes."""
    from gollama.models import ModelStore

    _print_removal(ModelStore().remove(*names, dry_run=dry_run), as_json)


@app.command()
def prune(
    older_than: Annotated[Optional[str], typer.Option(  # noqa: UP045
        metavar="TIME", help="Delete what was not used for so long: 30d, 12h, 2w.")] = None,
    max_size: Annotated[Optional[str], typer.Option(  # noqa: UP045
        metavar="SIZE", help="Then delete the longest unused until at most so much is left: 20GB, 500MiB.")] = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete models that are not used: gollama's own, and those it fetched into the Hugging Face cache. Pinned ones stay."""
    from gollama.models import ModelStore, deleting

    if older_than is None and max_size is None:
        raise typer.BadParameter("say --older-than, --max-size or both")
    store = ModelStore()
    planned = store.prune(older_than=None if older_than is None else amounts.duration(older_than),
                          max_size=None if max_size is None else amounts.size(max_size), dry_run=True)
    if dry_run or not planned.models:
        _print_removal(planned, as_json)
        return
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("say --yes to delete, or --dry-run to see what would be")
        _print_removal(planned, False)
        typer.confirm("Delete?", abort=True, err=True)
    _print_removal(deleting.remove(store, planned.models, dry_run=False), as_json)


@app.command()
def verify(
    names: Annotated[Optional[list[str]], typer.Argument(  # noqa: UP045
        metavar="MODEL...", autocompletion=completion.here, show_default=False, help="Names or paths; without any: all.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Read models and compare their sha256 with what registries, the Hub or an earlier reading said. Exit code 1 if one differs."""
    from gollama.models import ModelStore

    store = ModelStore()
    with _reading(sum(model.size for model in map(store.find, names)) if names else None) as on_block:
        rows = [row for name in names or [None] for row in store.verify(name, on_block)]  # type: ignore[list-item]
    wrong = [row for row in rows if row.right is False]
    if as_json:
        output.print_json([{**dataclasses.asdict(row), "path": str(row.path)} for row in rows])
    else:
        table = output.table("name", "state", "sha256", "file")
        for row in rows:
            state = {True: "right", False: "DAMAGED", None: "noted"}[row.right]
            output.add_row(table, row.name, state, row.sha256[:16], str(row.path))
        output.print_table(table)
    if wrong:
        print(f"gollama: {len(wrong)} of {len(rows)} files are not what they were: `gollama rm` and `gollama pull` fetch them again",
              file=sys.stderr)
        raise typer.Exit(1)


@contextmanager
def _reading(total: int | None) -> Iterator[Callable[[int], object]]:
    """A bar on stderr, if that is a terminal, for bytes that are read."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=total)
        yield lambda count: bar.advance(task, count)


@app.command()
def du(as_json: JsonOption = False) -> None:
    """Say how much the models take, by place; a file with several names counts once."""
    from gollama.models import ModelStore

    store = ModelStore()
    usage = store.disk_usage()
    if as_json:
        output.print_json({"folder": str(store.root), "places": {place: {"models": number, "size": size}
                                                                for place, (number, size) in usage.items()}})
        return
    table = output.table("where", "models", "size", numbers=("models", "size"))
    for place, (number, size) in usage.items():
        output.add_row(table, place, str(number), amounts.bytes_text(size))
    numbers, sizes = zip(*usage.values(), strict=True) if usage else ((), ())
    output.add_row(table, "together", str(sum(numbers)), amounts.bytes_text(sum(sizes)))
    output.print_table(table)


@app.command(name="import")
def import_file(
    file: Annotated[Path, typer.Argument(help="A GGUF file; of a split model its first part.")],
    name: Annotated[str, typer.Argument(help="The name it gets, such as mine or mine:7b.")],
    reference: Annotated[bool, typer.Option("--reference", help="Note where it lies, instead of linking it into the store.")] = False,
    copy: Annotated[bool, typer.Option("--copy", help="Copy it into the store.")] = False,
    replace: ReplaceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give a model file that is here a name, without copying it: a hard link, or where that cannot be a note of its path."""
    if reference and copy:
        raise typer.BadParameter("--reference or --copy, not both")
    _add(file, name, "reference" if reference else "copy" if copy else "auto", replace, as_json)


@app.command()
def cp(
    source: Annotated[str, typer.Argument(metavar="MODEL", autocompletion=completion.here,
                                          help="A model that is here, also another tool's.")],
    name: Annotated[str, typer.Argument(help="The name it gets as well.")],
    replace: ReplaceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give a model that is here one more name, without copying it."""
    from gollama.models import ModelStore

    _add(ModelStore().find(source).path, name, "auto", replace, as_json)


def _add(file: Path, name: str, how: str, replace: bool, as_json: bool) -> None:
    from gollama.models import ModelStore

    model = ModelStore().add(file, name, how=how, replace=replace)
    if as_json:
        output.print_json(record(model))
    else:
        where = "noted at" if model.place == "elsewhere" else "in the store at"
        print(f"{model.name}  {amounts.bytes_text(model.size)}  {where} {model.path}")
