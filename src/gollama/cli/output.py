"""What the commands print on stdout."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

# what JSON leaves as it is and a terminal may obey, or show as something else than it is
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def print_json(value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    print(_UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def visible(text: str, also: str = "") -> str:
    """Text of a file or a server with what a terminal may obey written out, such as \\x1b; characters of `also` stay."""
    return "".join(character if character.isprintable() or character in also else character.encode("unicode_escape").decode()
                   for character in text)


def megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


def print_models(rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table("name", "model", "quantization", "size", "licence", "here", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row["name"], row["title"], row["quantization"], megabytes(row["size"]), row["license"],
                      "yes" if row["path"] else "no: gollama pull " + row["name"])
    Console().print(table)
