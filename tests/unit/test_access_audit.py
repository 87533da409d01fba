"""The audit log, and what somebody may do to it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gollama.server.access import audit
from gollama.server.access.database import SCHEMA, opened, transaction

ROWS = 6


def fill(connection: sqlite3.Connection) -> None:
    with transaction(connection):
        for number in range(ROWS):
            audit.append(connection, "me", "key.create", {"name": f"k{number}", "é": None})


COLUMNS = ("time", "actor", "action", "details", "previous", "hash")
Tamper = Callable[[sqlite3.Connection], object]


def changed(row: int, column: str, value: Any) -> Tamper:
    return lambda db: db.execute(f"UPDATE audit SET {column} = ? WHERE seq = ?", (value, row))


def removed(row: int) -> Tamper:
    return lambda db: db.execute("DELETE FROM audit WHERE seq = ?", (row,))


def moved(one: int, other: int) -> Tamper:
    def swap(db: sqlite3.Connection) -> None:
        for old, new in ((one, -1), (other, one), (-1, other)):
            db.execute("UPDATE audit SET seq = ? WHERE seq = ?", (new, old))
    return swap


def closed_up(row: int) -> Tamper:
    """Removed, and the numbers behind it made whole."""
    def tamper(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM audit WHERE seq = ?", (row,))
        for seq in range(row + 1, ROWS + 1):
            db.execute("UPDATE audit SET seq = ? WHERE seq = ?", (seq - 1, seq))
    return tamper


rows = st.integers(1, ROWS)
tampers = st.one_of(
    st.builds(changed, rows, st.sampled_from(COLUMNS), st.text(max_size=70)), st.builds(removed, rows), st.builds(closed_up, rows),
    st.tuples(rows, rows).filter(lambda two: two[0] != two[1]).map(lambda two: moved(*two)))


@given(st.lists(tampers, min_size=1, max_size=3))
def test_any_row_that_is_changed_removed_or_moved_is_found(tampering: list[Tamper]) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA)
    fill(connection)
    before = audit.entries(connection)
    assert audit.verify(connection) == audit.Verdict(ROWS)
    for tamper in tampering:
        tamper(connection)
    assert (audit.verify(connection).problem is None) == (before == audit.entries(connection))
    connection.close()


def test_a_tail_that_is_cut_off_is_found(connection: sqlite3.Connection) -> None:
    fill(connection)
    anchor = audit.read_anchor("{}:{}\n".format(*audit.head(connection)))
    assert audit.verify(connection, anchor).problem is None
    connection.execute("DELETE FROM audit WHERE seq = ?", (ROWS,))
    assert "its head is 6" in str(audit.verify(connection).problem)
    last = audit.entries(connection)[-1]
    connection.execute("UPDATE audit_head SET seq = ?, hash = ?", (last.seq, last.hash))  # by someone who knows of it
    assert audit.verify(connection).problem is None
    assert "entry 6 was noted" in str(audit.verify(connection, anchor).problem)
    connection.execute("DELETE FROM audit")
    connection.execute("DELETE FROM audit_head")
    fill(connection)  # a new one, whole in itself
    assert audit.verify(connection).problem is None and "not the one" in str(audit.verify(connection, anchor).problem)


def test_two_processes_may_add_to_the_log_at_once(file: str) -> None:
    code = ("import sys; from gollama.server.access import audit; from gollama.server.access.database import *\n"
            "with opened(sys.argv[1]) as db:\n"
            "    for _ in range(25):\n"
            "        with transaction(db): audit.append(db, sys.argv[2], 'x', {})")
    running = [subprocess.Popen([sys.executable, "-c", code, file, str(number)]) for number in range(2)]
    assert [one.wait() for one in running] == [0, 0]
    with opened(file) as connection:
        assert audit.verify(connection) == audit.Verdict(50)
