"""What was used, by key, model and day."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gollama.errors import OptionError

COLUMNS = {"key": "coalesce(keys.name, usage.key)", "model": "usage.model", "day": "date(usage.time, 'unixepoch')",
           "route": "usage.route", "status": "usage.status"}

NUMBERS = ("requests", "errors", "prompt_tokens", "completion_tokens", "cached_tokens", "mean_seconds", "mean_first_token_seconds")


@dataclass(frozen=True)
class Use:
    """One request: no text of it, only what it cost. `time` in seconds of Unix, `key` an id, or - where nobody was asked."""

    time: float
    key: str
    model: str
    route: str
    status: int
    seconds: float
    first_token_seconds: float | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


INSERT = f"INSERT INTO usage VALUES ({', '.join('?' * 10)})"  # noqa: S608


def summed(connection: sqlite3.Connection, by: Sequence[str] = ("key", "model"), since: float = 0.0) -> list[dict[str, Any]]:
    """A row for each combination, with counts, tokens and mean seconds. OptionError for what nothing can be grouped by."""
    if not by or len(set(by)) != len(by) or not set(by) <= set(COLUMNS):
        raise OptionError(f"by must be some of {', '.join(COLUMNS)}, not {','.join(by)!r}")
    groups = ", ".join(COLUMNS[one] for one in by)
    cursor = connection.execute(
        f"SELECT {groups}, count(*), sum(status >= 400), sum(prompt_tokens), sum(completion_tokens), sum(cached_tokens), "  # noqa: S608
        f"avg(seconds), avg(first_token_seconds) FROM usage LEFT JOIN keys ON keys.id = usage.key WHERE time >= ? "
        f"GROUP BY {groups} ORDER BY {groups}", (since,))
    return [dict(zip((*by, *NUMBERS), row)) for row in cursor]


def forget(connection: sqlite3.Connection, before: float) -> int:
    """Remove what is older; how many rows that were."""
    return connection.execute("DELETE FROM usage WHERE time < ?", (before,)).rowcount
