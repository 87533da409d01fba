"""The application that the commands belong to, and what their options have in common."""

from __future__ import annotations

import dataclasses
import os
from typing import Annotated, Any, Optional

import typer

from gollama._options import help_text
from gollama.cli import completion
from gollama.options import LoadOptions

app = typer.Typer(
    name="gollama", no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="Run language models on this machine with llama.cpp.",
)

ModelArgument = Annotated[str, typer.Argument(
    autocompletion=completion.names,
    help="A name (`gollama registry list` shows them), hf:OWNER/REPOSITORY:QUANTIZATION, or the path of a GGUF file.")]
AnyModel = Annotated[str, typer.Argument(
    metavar="MODEL", autocompletion=completion.names,
    help="A name, the path of a GGUF file, or hf:OWNER/REPOSITORY:QUANTIZATION, of which only the header is read.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def common(
    lock: Annotated[Optional[str], typer.Option(  # noqa: UP045
        metavar="FILE", help="Take models exactly as this lock file says (`gollama lock` writes one); GOLLAMA_LOCK says the same.")] = None,
) -> None:
    """What every command has."""
    if lock is not None:
        os.environ["GOLLAMA_LOCK"] = lock


def loading(name: str, *names: str) -> Any:
    return typer.Option(*names, help=help_text(LoadOptions, name), show_default=False, rich_help_panel="Loading")


def read_given(values: dict[str, Any], record: type) -> dict[str, Any]:
    """The options of a record that were given on the command line."""
    names = [field.name for field in dataclasses.fields(record)]
    return {name: values[name] for name in names if values.get(name) not in (None, [])}
