"""The commands that look into GGUF files: show, inspect, gguf set, gguf remove, gguf rename."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.console import Console
from rich.text import Text

from gollama import gguf, models
from gollama.cli import output
from gollama.cli.application import AnyModel, JsonOption, app
from gollama.cli.output import visible
from gollama.errors import OptionError

SHOWN_ITEMS = 3  # of an array
SHOWN_TEXT = 200

gguf_app = typer.Typer(no_args_is_help=True, help="Write GGUF files with other metadata.")
app.add_typer(gguf_app, name="gguf")

Source = Annotated[str, typer.Argument(metavar="MODEL", help="A name or a path.")]
Target = Annotated[Path, typer.Argument(help="The file to write; it must not be there yet.")]


@app.command()
def show(model: AnyModel, as_json: JsonOption = False) -> None:
    """Show a model's sizes and metadata, without downloading it."""
    files = _headers(model, skip_numbers=True)
    facts, metadata = _facts(files), {key: _short(files[0].metadata, key) for key in files[0].metadata}
    if as_json:
        output.print_json({**facts, "metadata": metadata})
    else:
        _print_pairs([*facts.items(), *metadata.items()])


@app.command()
def inspect(
    model: AnyModel,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor.")] = False,
    template: Annotated[bool, typer.Option("--template", help="Print the chat templates.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at what a model's file holds, and warn of what looks wrong or hostile. Nothing of it is run.

    Ends with 0 whatever is found; with --json, `findings` is empty where nothing is.
    """
    first, *others = _headers(model, skip_numbers=False)
    found = gguf.inspect(first, *others)
    if as_json:
        output.print_json(_inspection_record(found, tensors, template))
        return
    _print_inspection(found)
    if tensors:
        _print_tensors(found)
    if template:
        for each in found.templates:
            print(f"\n--- template {visible(each.name)} ---\n{visible(each.text, chr(10) + chr(9))}")


@gguf_app.command(name="set")
def set_values(
    source: Source,
    target: Target,
    values: Annotated[list[str], typer.Argument(
        metavar="KEY=VALUE...", help="VALUE is JSON, or text where it is none; @FILE is the text of a file.")],
    kind: Annotated[Optional[str], typer.Option(  # noqa: UP045
        "--type", help="uint32, string, …, for keys that are new or that change it. Without it: as it was, or what fits.")] = None,
) -> None:
    """Write a copy of the model with other values: `gollama gguf set smollm2 new.gguf general.name=Mine`."""
    path = models.resolve(source)
    file = gguf.read(path, strict=False)
    given = {key: _value(file, key, text, kind) for key, text in map(_pair, values)}
    _edit(path, target, set=given if kind is None else {key: gguf.Value(value, kind) for key, value in given.items()})


@gguf_app.command()
def remove(source: Source, target: Target, keys: Annotated[list[str], typer.Argument(metavar="KEY...")]) -> None:
    """Write a copy of the model without some keys."""
    _edit(models.resolve(source), target, remove=keys)


@gguf_app.command()
def rename(source: Source, target: Target, names: Annotated[list[str], typer.Argument(metavar="OLD=NEW...")]) -> None:
    """Write a copy of the model with other names for some keys."""
    _edit(models.resolve(source), target, rename=dict(map(_pair, names)))


def _edit(source: Path, target: Path, **changes: Any) -> None:
    gguf.edit(source, target, **changes)
    print(target)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE")
    return key, value


def _value(file: gguf.GGUFFile, key: str, text: str, kind: str | None) -> Any:
    """The value that a text of the command line means: a string where the key holds one, else what JSON makes of it."""
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise OptionError(f"{text[1:]} is not UTF-8: {error}") from None
    before = file.metadata.fields.get(key)
    if kind == "string" or (kind is None and before is not None and before.type == "string"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _headers(model: str, *, skip_numbers: bool) -> tuple[gguf.GGUFFile, ...]:
    """The headers of a model's files: of one that is here, or by ranges of one elsewhere."""
    from gollama.models.remote import located, read_headers

    found = located(model)
    if isinstance(found, Path):
        return gguf.with_parts(gguf.read(found, strict=False), found)
    return read_headers(found, skip_numbers=skip_numbers).headers


def _facts(files: tuple[gguf.GGUFFile, ...]) -> dict[str, Any]:
    found = gguf.inspect(*files)
    vocabulary = found.vocabulary
    return {
        "path": found.name, "title": found.title, "kind": found.kind, "architecture": found.architecture, "file_type": found.file_type,
        "file_size": found.size, "parameters": found.parameters, "bits_per_weight": round(found.bits_per_weight, 2),
        "context": found.context_length, "embedding": found.embedding_length, "layers": found.layers, "heads": found.heads,
        "kv_heads": found.kv_heads, "sliding_window": found.sliding_window, "experts": found.experts,
        "vocabulary": None if vocabulary is None else vocabulary.size, "tokenizer": None if vocabulary is None else vocabulary.model,
        "special_tokens": {} if vocabulary is None else dict(vocabulary.special), "chat_template": bool(found.templates),
        "license": found.license,
    }


def _short(metadata: gguf.Metadata, key: str) -> Any:
    """A value as it is shown: an array by its beginning, which is not read where it was skipped."""
    field = metadata.fields[key]
    if field.type != "array":
        return metadata[key]
    if not metadata.is_here(key):
        return f"[{field.count} of {field.item_type}]"
    items = [str(item)[:SHOWN_TEXT] for item in metadata[key][:SHOWN_ITEMS]]
    more = f", … {field.count} of {field.item_type}" if field.count > SHOWN_ITEMS else ""
    return f"[{', '.join(items)}{more}]"


def _inspection_record(found: gguf.Inspection, tensors: bool, template: bool) -> dict[str, Any]:
    vocabulary = found.vocabulary
    left_out = {"vocabulary", "templates", "tensors"}
    plain = {field.name: getattr(found, field.name) for field in dataclasses.fields(found) if field.name not in left_out}
    return {
        **plain,
        "types": [dataclasses.asdict(each) for each in found.types],
        "findings": [dataclasses.asdict(each) for each in found.findings],
        "tensor_count": len(found.tensors),
        "vocabulary": None if vocabulary is None else {
            "model": vocabulary.model, "pre": vocabulary.pre, "size": vocabulary.size, "merges": vocabulary.merges,
            "special": {name: {"id": token, "text": vocabulary.text(token)} for name, token in vocabulary.special.items()},
            "control": None if vocabulary.control is None else len(vocabulary.control)},
        "templates": {each.name: each.text if template else len(each.text) for each in found.templates},
        **({"tensors": [dataclasses.asdict(each) for each in found.tensors]} if tensors else {}),
    }


def _print_inspection(found: gguf.Inspection) -> None:
    record = _inspection_record(found, False, False)
    vocabulary = record.pop("vocabulary")
    types, findings, templates = record.pop("types"), record.pop("findings"), record.pop("templates")
    pairs = [(name, value) for name, value in record.items() if value is not None]
    pairs += [("types", ", ".join(f"{each['type']} {each['share']:.0%} ({each['tensors']} tensors)" for each in types))] if types else []
    if vocabulary is not None:
        special = ", ".join(f"{name} {token['id']} {token['text']!r}" for name, token in vocabulary["special"].items())
        pairs += [("tokenizer", f"{vocabulary['model']}, {vocabulary['size']} tokens, {vocabulary['control']} of them control tokens"),
                  ("special", special)]
    pairs += [("templates", ", ".join(f"{name}, {length} characters" for name, length in templates.items()) or "none")]
    _print_pairs(pairs)
    console = Console(highlight=False)
    for finding in findings:
        console.print(Text.assemble(("warning: ", "bold yellow"), visible(f"{finding['kind']}: {finding['message']}")), soft_wrap=True)
    if not findings:
        console.print("nothing looks wrong or hostile")


def _print_tensors(found: gguf.Inspection) -> None:
    table = output.table("tensor", "type", "shape", "bytes", numbers=("shape", "bytes"))
    for tensor in found.tensors:
        output.add_row(table, tensor.name, tensor.type, " × ".join(map(str, tensor.shape)), str(tensor.size))
    output.print_table(table)


def _print_pairs(pairs: list[tuple[str, Any]]) -> None:
    table = output.table("key", "value")
    for key, value in pairs:
        if isinstance(value, Mapping):
            value = ", ".join(f"{name} {token}" for name, token in value.items())
        text = "" if value is None else str(value)
        output.add_row(table, key[:SHOWN_TEXT], text if len(text) <= SHOWN_TEXT else text[:SHOWN_TEXT] + "…")
    output.print_table(table)
