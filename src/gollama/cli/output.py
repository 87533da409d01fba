"""What the commands print on stdout."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

# what JSON leaves as it is and a terminal may obey, or show as something else than it is
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def print_json(value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    print(_UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def visible(text: str, also: str = "") -> str:
    """Text of a file or a server with what a terminal may obey written out, such as \\x1b; characters of `also` stay."""
    return "".join(character if character.isprintable() or character in also else character.encode("unicode_escape").decode()
                   for character in text)


def table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    found = Table(box=None, pad_edge=False)
    for column in columns:
        found.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return found


def add_row(rows: Table, *cells: str) -> None:
    rows.add_row(*(Text(visible(cell)) for cell in cells))


def print_table(rows: Table) -> None:
    """On a terminal as wide as that is; in a pipe one line a row."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=400)
    console.print(rows)
