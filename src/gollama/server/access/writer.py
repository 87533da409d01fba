"""Writes down what was used and done, in a thread of its own, many rows at once."""

from __future__ import annotations

import dataclasses
import logging
import queue
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gollama.errors import AccessFileError
from gollama.server.access import audit, usage
from gollama.server.access.database import opened, transaction
from gollama.server.access.usage import Use

logger = logging.getLogger("gollama.server")

GATHERING_SECONDS = 0.2
RETENTION_SECONDS = 3600.0
MOST_WAITING = 100_000  # rows, where the file cannot be written
QUOTA_DAYS = 2
UNWRITABLE = (ValueError, TypeError, OverflowError)  # texts that are none, say; AccessFileError is no such


@dataclass(frozen=True)
class Spent:
    """Tokens of a key's quota."""

    key: str
    day: str
    tokens: int


@dataclass(frozen=True)
class Done:
    """Something for the audit log."""

    actor: str
    action: str
    details: Mapping[str, Any]


Row = Use | Spent | Done


class Writer:
    """Takes rows from any thread. What was given before `close` is written when that returns."""

    def __init__(self, file: str, usage_days: int) -> None:
        self._file, self._usage_days = file, usage_days
        self._rows: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._cleaned = 0.0

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="gollama-usage", daemon=True)
        self._thread.start()

    def put(self, row: Row) -> None:
        self._rows.put(row)

    def close(self) -> None:
        """May be called again."""
        if self._thread is not None:
            self._rows.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        waiting: list[Row] = []
        ending = False
        while not ending:
            ending = self._gather(waiting)
            try:
                with opened(self._file) as connection:
                    self._write_all(connection, waiting)
                    waiting.clear()
            except AccessFileError as error:  # a full disk, say: it may pass
                logger.error("usage is not written: %s", error)
                del waiting[:max(len(waiting) - MOST_WAITING, 0)]

    def _gather(self, waiting: list[Row]) -> bool:
        """Wait for rows, and a moment for more; whether this is the end."""
        first = self._rows.get()
        if first is not None:
            waiting.append(first)
            time.sleep(GATHERING_SECONDS)
        ending = first is None
        while not self._rows.empty():
            row = self._rows.get()
            if row is None:
                ending = True
            else:
                waiting.append(row)
        return ending

    def _write_all(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
        """At once; where one of them cannot be written, the others by themselves."""
        try:
            self._write(connection, rows)
        except UNWRITABLE:
            for row in rows:
                try:
                    self._write(connection, [row])
                except UNWRITABLE:
                    logger.exception("a row of the usage or the audit log cannot be written")

    def _write(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
        spent: Counter[tuple[str, str]] = Counter()
        with transaction(connection):
            connection.executemany(usage.INSERT, [dataclasses.astuple(row) for row in rows if isinstance(row, Use)])
            for row in rows:
                if isinstance(row, Done):
                    audit.append(connection, row.actor, row.action, row.details)
                elif isinstance(row, Spent):
                    spent[row.key, row.day] += row.tokens
            connection.executemany("INSERT INTO quotas VALUES (?, ?, ?) ON CONFLICT (key, day) DO UPDATE SET tokens = tokens + "
                                   "excluded.tokens", [(*who, tokens) for who, tokens in spent.items()])
            if time.time() - self._cleaned > RETENTION_SECONDS:
                self._cleaned = time.time()
                usage.forget(connection, self._cleaned - self._usage_days * 86400)
                connection.execute("DELETE FROM quotas WHERE day < date('now', ?)", (f"-{QUOTA_DAYS} days",))
