"""The log of what was done to the server, as a chain: each row has the hash of the one before.

Any row that is changed, removed or moved breaks it. Who may write the file can write a whole new chain; so note its head elsewhere
(`gollama audit head`) and give it to `gollama audit verify --anchor`.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from gollama.errors import OptionError

BEGINNING = "0" * 64
ANCHOR = re.compile(r"(\d{1,18}):([0-9a-f]{64})")
FIELDS = "seq, time, actor, action, details, previous, hash"


@dataclass(frozen=True)
class Entry:
    """A row. `details` is JSON."""

    seq: int
    time: str
    actor: str
    action: str
    details: str
    previous: str
    hash: str

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "details": json.loads(self.details)}


@dataclass(frozen=True)
class Verdict:
    """Whether the chain is whole. `problem` says what is not; None: it is. `entries` counts those that are, from the first on."""

    entries: int
    problem: str | None = None


def _hash(seq: int, time: str, actor: str, action: str, details: str, previous: str) -> str:
    # a JSON array, so that no text can pass for two fields
    return hashlib.sha256(json.dumps([seq, time, actor, action, details, previous]).encode()).hexdigest()


def _intact(entry: Entry) -> bool:
    try:
        return entry.hash == _hash(entry.seq, entry.time, entry.actor, entry.action, entry.details, entry.previous)
    except TypeError:  # bytes, which SQLite puts anywhere
        return False


def append(connection: sqlite3.Connection, actor: str, action: str, details: Mapping[str, Any]) -> None:
    """Add a row. In a transaction, which keeps others from adding one meanwhile. What JSON has no word for, a path say, becomes a text."""
    seq, previous = head(connection)
    row = (seq + 1, datetime.now(timezone.utc).isoformat(timespec="milliseconds"), actor, action,
           json.dumps(details, sort_keys=True, ensure_ascii=True, default=str), previous)
    made = _hash(*row)
    connection.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)", (*row, made))
    connection.execute("INSERT OR REPLACE INTO audit_head VALUES (1, ?, ?)", (seq + 1, made))


def head(connection: sqlite3.Connection) -> tuple[int, str]:
    """The last row's number and hash."""
    found: tuple[int, str] | None = connection.execute("SELECT seq, hash FROM audit_head").fetchone()
    return found or (0, BEGINNING)


def entries(connection: sqlite3.Connection, last: int | None = None) -> list[Entry]:
    """Oldest first; `last`: only the latest so many."""
    rows = connection.execute(f"SELECT {FIELDS} FROM audit ORDER BY seq DESC LIMIT ?", (-1 if last is None else last,)).fetchall()  # noqa: S608
    return [Entry(*row) for row in reversed(rows)]


def read_anchor(text: str) -> tuple[int, str]:
    """SEQ:HASH, as `gollama audit head` prints it. OptionError."""
    found = ANCHOR.fullmatch(text.strip())
    if not found:
        raise OptionError("anchor must be NUMBER:HASH, as `gollama audit head` prints it")
    return int(found[1]), found[2]


def verify(connection: sqlite3.Connection, anchor: tuple[int, str] | None = None) -> Verdict:
    """Look at every row. An anchor tells also of rows that were cut off at the end, and of a chain that was written anew."""
    previous, count = BEGINNING, 0
    at, noted = anchor or (0, BEGINNING)
    found = BEGINNING if at == 0 else None  # the hash of the row that was noted
    connection.execute("BEGIN")  # one state of it, whoever writes meanwhile
    try:
        for row in connection.execute(f"SELECT {FIELDS} FROM audit ORDER BY seq"):  # noqa: S608
            entry = Entry(*row)
            if entry.seq != count + 1:
                return Verdict(count, f"entry {count + 1} is missing")
            if entry.previous != previous:
                return Verdict(count, f"entry {entry.seq} does not follow the one before it")
            if not _intact(entry):
                return Verdict(count, f"entry {entry.seq} was changed")
            previous, count = entry.hash, entry.seq
            if count == at:
                found = previous
        if head(connection) != (count, previous):
            return Verdict(count, f"the log ends at entry {count}, and its head is {head(connection)[0]}")
    finally:
        connection.execute("COMMIT")
    if found != noted:
        return Verdict(count, f"entry {at} is not the one that was noted" if at <= count else
                       f"the log ends at entry {count}, and entry {at} was noted")
    return Verdict(count)
