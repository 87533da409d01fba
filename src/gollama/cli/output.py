"""What the commands print on stdout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


def print_models(rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table("name", "model", "quantization", "size", "licence", "here", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row["name"], row["title"], row["quantization"], megabytes(row["size"]), row["license"],
                      "yes" if row["path"] else "no: gollama pull " + row["name"])
    Console().print(table)


def print_model(facts: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    table = Table("key", "value", box=None, pad_edge=False)
    for key, value in facts.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{name} {token}" for name, token in value.items())
        table.add_row(key, Text(str(value)))
    table.add_section()
    for key, value in metadata.items():
        shown = value if len(value) <= 200 else value[:200] + "…"
        # text from a file may hold terminal control characters
        table.add_row(Text(key), Text("".join(c if c.isprintable() else " " for c in shown)))
    Console().print(table)
