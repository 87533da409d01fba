"""The commands `keys`, `usage` and `audit`: who may use a server, what was used, and what was done to it."""

from __future__ import annotations

import csv
import dataclasses
import getpass
import re
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from gollama.cli import output
from gollama.cli.application import JsonOption, app
from gollama.errors import GollamaError, OptionError

if TYPE_CHECKING:
    from gollama.server.config import ServerConfig

UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
SPAN = re.compile(r"([0-9]{1,6})([mhdw])")

keys = typer.Typer(name="keys", no_args_is_help=True, help="API keys of the server.")
audit = typer.Typer(name="audit", no_args_is_help=True, help="What was done to the server: keys, models, starts.")
app.add_typer(keys)
app.add_typer(audit)

FileOption = Annotated[Optional[str], typer.Option(  # noqa: UP045
    "--access-file", metavar="FILE", help="Where keys, usage and the audit log are. Default: GOLLAMA_ACCESS_FILE, the configuration's, or "
    "one in the user's folder for data.")]
ConfigOption = Annotated[str | None, typer.Option(
    "--config", metavar="FILE", help="The server's configuration, which may name that file.")]


def with_access_file(config: ServerConfig) -> ServerConfig:
    """Where none is named, the one that `gollama keys` made in the user's folder."""
    from gollama.server.access.database import default_file

    if config.access_file is None and default_file().exists():
        return dataclasses.replace(config, access_file=str(default_file()))
    return config


def _file(file: str | None, config: str | None) -> str:
    from gollama.server.access.database import default_file
    from gollama.server.config import read_config

    found = read_config({} if file is None else {"access_file": file}, file=config).access_file
    return found or str(default_file())


def _actor() -> str:
    try:
        return f"local:{getpass.getuser()}"
    except (KeyError, OSError, ImportError):
        return "local:unknown"


def _moment(text: str, name: str, *, ahead: bool) -> float:
    """30d, 12h or a date, 2030-01-31 or with a time, as seconds of Unix; UTC where nothing else is said."""
    found = SPAN.fullmatch(text)
    if found:
        seconds = int(found[1]) * UNITS[found[2]]
        return time.time() + seconds if ahead else time.time() - seconds
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        raise OptionError(f"{name} must be like 30d, 12h or 2030-01-31, not {text!r}") from None


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word for part in text.split(",") if (word := part.strip())]


# ---- keys ----


@keys.command()
def create(
    name: Annotated[str, typer.Option("--name", help="What it is called in usage and logs.")],
    scopes: Annotated[str, typer.Option("--scopes", help="Of inference, admin, metrics; with commas.")] = "inference",
    models: Annotated[Optional[str], typer.Option("--models", help="Names that it may use; with commas. Default: all.")] = None,  # noqa: UP045
    requests_per_minute: Annotated[Optional[int], typer.Option(help="Requests that it may make.")] = None,  # noqa: UP045
    tokens_per_minute: Annotated[Optional[int], typer.Option(help="Tokens of prompts and answers.")] = None,  # noqa: UP045
    tokens_per_day: Annotated[Optional[int], typer.Option(help="Tokens of prompts and answers, by days of UTC.")] = None,  # noqa: UP045
    expires: Annotated[Optional[str], typer.Option("--expires", help="After 30d, 12h; or on a date.")] = None,  # noqa: UP045
    file: FileOption = None, config: ConfigOption = None, as_json: JsonOption = False,
) -> None:
    """Make a key. It is shown this once."""
    from gollama.server.access import database
    from gollama.server.access import keys as store
    from gollama.server.access.principals import Limits

    limits = Limits(requests_per_minute, tokens_per_minute, tokens_per_day)
    until = None if expires is None else int(_moment(expires, "expires", ahead=True))
    path = _file(file, config)
    with database.opened(path) as connection:
        key = store.create(connection, name, actor=_actor(), scopes=_words(scopes) or [], models=_words(models), limits=limits,
                           expires=until)
    if as_json:
        output.print_json({"name": name, "key": key, "access_file": path})
        return
    print(key)
    print(f"It is shown this once; its hash is in {path}.", file=sys.stderr)


@keys.command("list")
def list_keys(file: FileOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the keys, by their beginnings."""
    from gollama.server.access import database
    from gollama.server.access import keys as store

    with database.opened(_file(file, config), create=False) as connection:
        rows = [key.as_dict(time.time()) for key in store.all_keys(connection)]
    if as_json:
        output.print_json(rows)
        return
    _print(["name", "prefix", "state", "scopes", "models", "requests/min", "tokens/min", "tokens/day", "created", "expires"],
           [_key_row(row) for row in rows])


def _key_row(row: dict[str, Any]) -> list[Any]:
    return [row["name"], row["prefix"] + "-…", row["state"], ",".join(row["scopes"]), ",".join(row["models"] or ["all"]),
            row["requests_per_minute"], row["tokens_per_minute"], row["tokens_per_day"], _date(row["created"]), _date(row["expires"])]


@keys.command()
def revoke(which: Annotated[str, typer.Argument(metavar="KEY", help="Its name, or its beginning.")], file: FileOption = None,
           config: ConfigOption = None) -> None:
    """Have a key work no more, from the next request on."""
    from gollama.server.access import database
    from gollama.server.access import keys as store

    with database.opened(_file(file, config), create=False) as connection:
        key = store.revoke(connection, which, actor=_actor())
    print(f"revoked {key.principal.name} ({key.prefix}-…)")


# ---- usage ----


@app.command()
def usage(
    by: Annotated[str, typer.Option("--by", help="Of key, model, day, route, status; with commas.")] = "key,model",
    since: Annotated[Optional[str], typer.Option("--since", help="7d, 12h ago; or a date. Default: all that is kept.")] = None,  # noqa: UP045
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    file: FileOption = None, config: ConfigOption = None, as_json: JsonOption = False,
) -> None:
    """Show what was used: requests, tokens, times."""
    from gollama.server.access import database
    from gollama.server.access import usage as store

    if as_csv and as_json:
        raise OptionError("--csv and --json exclude each other")
    groups = _words(by) or []
    with database.opened(_file(file, config), create=False) as connection:
        rows = store.summed(connection, groups, 0.0 if since is None else _moment(since, "since", ahead=False))
    if as_json:
        output.print_json(rows)
    elif as_csv:
        names = [*groups, *store.NUMBERS]
        written = csv.DictWriter(sys.stdout, names, lineterminator="\n")
        written.writeheader()
        written.writerows(rows)
    else:
        _print([*groups, "requests", "errors", "prompt", "answers", "cached", "seconds", "first token"],
               [[_rounded(value) for value in row.values()] for row in rows], numbers=len(groups))


def _rounded(value: Any) -> Any:
    return f"{value:.3f}" if isinstance(value, float) else value


# ---- audit ----


@audit.command("list")
def list_audit(last: Annotated[int, typer.Option("--last", min=1, help="Only the latest so many.")] = 50, file: FileOption = None,
               config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show what was done, by whom and when."""
    from gollama.server.access import audit as store
    from gollama.server.access import database

    with database.opened(_file(file, config), create=False) as connection:
        rows = store.entries(connection, last)
    if as_json:
        output.print_json([row.as_dict() for row in rows])
        return
    _print(["entry", "time", "who", "what", "details"], [[row.seq, row.time, row.actor, row.action, row.details] for row in rows])


@audit.command()
def head(file: FileOption = None, config: ConfigOption = None) -> None:
    """Print the log's head, NUMBER:HASH. Keep it where nobody who may write the file can: `verify --anchor` takes it."""
    from gollama.server.access import audit as store
    from gollama.server.access import database

    with database.opened(_file(file, config), create=False) as connection:
        print("{}:{}".format(*store.head(connection)))


@audit.command()
def verify(anchor: Annotated[Optional[str], typer.Option("--anchor", help="A head that was noted before.")] = None,  # noqa: UP045
           file: FileOption = None, config: ConfigOption = None) -> None:
    """Look whether any entry was changed, removed or moved. Exit code 1 if so."""
    from gollama.server.access import audit as store
    from gollama.server.access import database

    noted = None if anchor is None else store.read_anchor(anchor)
    with database.opened(_file(file, config), create=False) as connection:
        verdict = store.verify(connection, noted)
    if verdict.problem is not None:
        raise GollamaError(f"the audit log was tampered with: {verdict.problem}; {verdict.entries} entries before that are whole")
    print(f"{verdict.entries} entries, none changed, removed or moved")


# ---- tables ----


def _date(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M")


def _print(names: Sequence[str], rows: Sequence[Sequence[Any]], numbers: int | None = None) -> None:
    """A table; columns from `numbers` on are numbers. Control characters do not reach the terminal."""
    table = output.table(*names, numbers=() if numbers is None else names[numbers:])
    for row in rows:
        output.add_row(table, *("" if value is None else str(value) for value in row))
    output.print_table(table)
