"""The command `serve`. Its options are the fields of ServerConfig and of LoadOptions, so that there is one list of them."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Annotated, Any, Optional

import typer

from gollama.cli import output
from gollama.cli.access import with_access_file
from gollama.cli.application import app
from gollama.errors import OptionError
from gollama.options import LoadOptions
from gollama.server.config import LISTS, ServerConfig, read_config, shown, simple_fields

SHORT = {"context_size": "-c"}


def _option(field: dataclasses.Field[Any], panel: str) -> inspect.Parameter:
    """A flag for a field."""
    rule = field.metadata
    name = "--" + field.name.replace("_", "-")
    kind: Any = str if rule["words"] else rule["kind"]
    names = (f"{name}/--no-{name[2:]}",) if kind is bool else (name, *([SHORT[field.name]] if field.name in SHORT else []))
    made = typer.Option(*names, help=rule["help"], show_default=False, rich_help_panel=panel)
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[Optional[kind], made])  # noqa: UP045


def _list(name: str) -> inspect.Parameter:
    help_text = str(next(field for field in dataclasses.fields(ServerConfig) if field.name == name).metadata["help"])
    made = typer.Option("--" + name.replace("_", "-").removesuffix("s"), help=f"{help_text.partition(';')[0]}; may be given several times",
                        rich_help_panel="Server")
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[Optional[list[str]], made])  # noqa: UP045


def serve(**given: Any) -> None:
    """Serve models by OpenAI's API, at http://127.0.0.1:8080/v1.

    Every option may also stand in the environment, as GOLLAMA_PORT=9000, or in a TOML file (--config, or GOLLAMA_CONFIG); flags go first,
    then the environment. Ctrl-C or SIGTERM ends it once running requests are answered; a second one at once.
    """
    file, check = given.pop("config"), given.pop("check")
    flags = {name: _value(name, value) for name, value in given.items() if value not in (None, [])}
    config = read_config(flags, file=file)
    config = with_access_file(config)
    if not config.models:
        raise OptionError("no model is named: gollama serve MODEL, or `models` in the configuration")
    try:
        from gollama.server.access.start import check_access
        from gollama.server.serving import run
    except ImportError as error:
        raise OptionError(f"the server needs {error.name}: pip install 'gollama-cpu[server]'") from None
    if check:
        check_access(config)
        output.print_json(shown(config))
        return
    run(config)


def _value(name: str, value: Any) -> Any:
    """Of a number that may be a word, the number."""
    return int(value) if isinstance(value, str) and value.isdecimal() and name in WORDED else value


WORDED = {field.name for field in simple_fields(LoadOptions) if field.metadata["words"]}
_PARAMETERS = [
    inspect.Parameter("models", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[Optional[list[str]], typer.Argument(  # noqa: UP045
        metavar="[MODEL...]", help="Names or paths of models, or NAME=MODEL to call one otherwise. The first answers requests that name "
        "none.")]),
    inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[Optional[str], typer.Option(  # noqa: UP045
        "--config", metavar="FILE", help="A TOML file with the same settings; those of loading in its table `loading`.")]),
    inspect.Parameter("check", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, typer.Option(
        "--check", help="Only check the settings, and print them.")]),
    *(_list(name) for name in LISTS if name != "models"),
    *(_option(field, "Server") for field in simple_fields(ServerConfig)),
    *(_option(field, "Loading") for field in simple_fields(LoadOptions)),
]
serve.__signature__ = inspect.Signature(_PARAMETERS)  # type: ignore[attr-defined]
serve.__annotations__ = {one.name: one.annotation for one in _PARAMETERS}
app.command()(serve)
