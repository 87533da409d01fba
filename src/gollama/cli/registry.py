"""The commands `gollama registry ...`: which names there are, and what they mean."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Optional

import typer

from gollama.cli import amounts, completion, output
from gollama.cli.application import JsonOption, app

group = typer.Typer(no_args_is_help=True, help="The names of models: yours, your team's, and those that gollama comes with.")
app.add_typer(group, name="registry")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", autocompletion=completion.names, help="A model's name.")]


def _registry() -> Any:
    from gollama.models import ModelRegistry

    return ModelRegistry()


@group.command(name="list")
def list_names(
    ability: Annotated[Optional[str], typer.Option(  # noqa: UP045
        help="Only models that can do this: chat, tools, thinking, vision, audio, embedding, rerank, infill, code.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List every name, what it stands for, and which registry says so. A star marks what is taken without a tag."""
    registry = _registry()
    found = [entry for entry in registry if ability is None or ability in entry.abilities]
    if as_json:
        rows = [{"name": entry.name, "origin": entry.origin, "pinned": entry.name in registry.pins, **entry.table()} for entry in found]
        output.print_json({"models": rows, "registries": [dataclasses.asdict(team) for team in registry.registries]})
        return
    table = output.table("name", "model", "quantizations", "licence", "can", "from")
    for entry in found:
        marks = "*" * entry.default + " pinned" * (entry.name in registry.pins)
        verified = " (verified)" * any(variant.verified for variant in entry.variants)
        output.add_row(table, entry.name + marks, entry.title + verified, " ".join(entry.quantizations), entry.license or "?",
                       " ".join(entry.abilities), entry.origin)
    output.print_table(table)
    for team in registry.registries:
        print(f"registry {output.visible(team.location)}" + (f" sha256 {team.sha256}" if team.sha256 else ""))


@group.command()
def add(
    target: Annotated[str, typer.Argument(metavar="NAME|REGISTRY", help="A new name and its sources; or, alone, the https address or "
                                          "the path of a team's registry.")],
    sources: Annotated[Optional[list[str]], typer.Argument(  # noqa: UP045
        metavar="SOURCE...", show_default=False,
        help="Where the model comes from, in order of preference: hf:..., pypi:..., https:..., a path.")] = None,
    quant: Annotated[Optional[str], typer.Option("--quant", "-q", help="The quantization; without it, as the source's name tells.")] = None,  # noqa: UP045
    title: Annotated[str, typer.Option(help="What the model is called.")] = "",
    license: Annotated[str, typer.Option(help="Its licence.")] = "",
    size: Annotated[Optional[str], typer.Option(help="Its size, such as 98362432 or 5GB.")] = None,  # noqa: UP045
    sha256: Annotated[Optional[str], typer.Option(help="The digest that the model, or the registry, must have.")] = None,  # noqa: UP045
    ability: Annotated[Optional[list[str]], typer.Option(help="What it can do; may be given several times.")] = None,  # noqa: UP045
    context: Annotated[Optional[int], typer.Option(min=1, help="Tokens it was trained for.")] = None,  # noqa: UP045
    replace: Annotated[bool, typer.Option("--replace", help="Take the name although it means something else.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Add a name of your own, or the registry of your team."""
    registry = _registry()
    if not sources:
        number = registry.add_registry(target, sha256)
        if as_json:
            output.print_json({"location": target, "models": number})
        else:
            print(f"{number} models from {output.visible(target)}")
        return
    kind = quant or _told(sources)
    entry = registry.add(target, sources, quantization=kind, title=title, license=license, sha256=sha256, abilities=ability or (),
                         size=None if size is None else amounts.size(size), context=context, replace=replace)
    _print_entry(entry, as_json)


def _told(sources: list[str]) -> str:
    from gollama.models.choosing import quantization

    for source in sources:
        found = quantization(source.partition("#")[0].replace(":", "-").replace("/", "-"))
        if found:
            return found
    raise typer.BadParameter("say the quantization with --quant: the sources do not tell it")


def _print_entry(entry: Any, as_json: bool) -> None:
    if as_json:
        output.print_json({"name": entry.name, **entry.table()})
    else:
        print(f"{entry.name}  {' '.join(entry.quantizations)}  from {', '.join(map(str, entry.variants[-1].sources))}")


@group.command()
def remove(
    target: Annotated[str, typer.Argument(metavar="NAME|REGISTRY", autocompletion=completion.own,
                                          help="A name of your own, the pin of a name, or a team's registry.")],
    as_json: JsonOption = False,
) -> None:
    """Remove a name of your own, a pin, or a team's registry. Files stay: `gollama rm` deletes those."""
    registry = _registry()
    if "://" in target or target.startswith(("/", ".", "~")) or target in {team.location for team in registry.registries}:
        registry.remove_registry(target)
    else:
        registry.remove(target)
    if as_json:
        output.print_json({"removed": target})


@group.command()
def pin(
    name: NameArgument,
    revision: Annotated[Optional[str], typer.Option(help="A commit, tag or branch of its repository; without it, what is here.")] = None,  # noqa: UP045
    as_json: JsonOption = False,
) -> None:
    """Hold a name at the files it stands for now, by revision and sha256. `registry remove` lets go, `registry upgrade` moves on."""
    registry = _registry()
    held = registry.pin(name, revision)
    full = registry.target(name, with_lock=False).name
    if as_json:
        output.print_json({"name": full, **held.table()})
    else:
        print(f"{full}  held at {held.source}")


@group.command()
def upgrade(
    names: Annotated[Optional[list[str]], typer.Argument(  # noqa: UP045
        metavar="NAME...", autocompletion=completion.names, show_default=False,
        help="Names; without any: every registry and every pin.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Get the newest of names, and of your team's registries; pins move along."""
    registry = _registry()
    done = [step for name in (names or [None]) for step in registry.upgrade(name)]  # type: ignore[list-item]
    if as_json:
        output.print_json([dataclasses.asdict(step) for step in done])
        return
    for step in done:
        change = "nothing new" if step.before == step.after else f"{(step.before or 'nothing')[:12]} -> {(step.after or 'nothing')[:12]}"
        print(f"{output.visible(step.name)}  {change}")
    if not done:
        print("there is no registry and no pin to upgrade")


