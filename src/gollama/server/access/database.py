"""The SQLite file with keys, quotas, usage and the audit log. Only its owner may read it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from gollama.errors import AccessFileError

VERSION = 1
BUSY_SECONDS = 10.0
SCHEMA = """
CREATE TABLE keys (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, hash BLOB NOT NULL, scopes TEXT NOT NULL, models TEXT,
    requests_per_minute INTEGER, tokens_per_minute INTEGER, tokens_per_day INTEGER,
    created INTEGER NOT NULL, expires INTEGER, revoked INTEGER) STRICT;
CREATE TABLE quotas (key TEXT NOT NULL, day TEXT NOT NULL, tokens INTEGER NOT NULL, PRIMARY KEY (key, day)) STRICT;
CREATE TABLE usage (
    time REAL NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL, route TEXT NOT NULL, status INTEGER NOT NULL, seconds REAL NOT NULL,
    first_token_seconds REAL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL) STRICT;
CREATE INDEX usage_time ON usage (time);
CREATE TABLE audit (
    seq INTEGER PRIMARY KEY, time TEXT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, details TEXT NOT NULL,
    previous TEXT NOT NULL, hash TEXT NOT NULL) STRICT;
CREATE TABLE audit_head (id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL) STRICT;
"""


def default_file() -> Path:
    """Where `gollama keys` keeps them if nothing else is said: in the user's folder for data."""
    import platformdirs

    return Path(platformdirs.user_data_dir("gollama", appauthor=False)) / "access.db"


def connect(file: str | os.PathLike[str], *, create: bool = True) -> sqlite3.Connection:
    """A connection that commits each statement by itself. AccessFileError says what is the matter with the file."""
    path = Path(file)
    with told(path):
        try:
            _look(path, create=create)
        except (OSError, ValueError) as error:
            if isinstance(error, AccessFileError):
                raise
            raise AccessFileError(f"the access file {path} cannot be used: {error}") from None
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


@contextlib.contextmanager
def opened(file: str | os.PathLike[str], *, create: bool = True) -> Iterator[sqlite3.Connection]:
    """A block with a connection."""
    connection = connect(file, create=create)
    try:
        with told(file):
            yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def told(file: str | os.PathLike[str]) -> Iterator[None]:
    """SQLite's failures as AccessFileError."""
    try:
        yield
    except sqlite3.Error as error:
        raise AccessFileError(f"the access file {os.fspath(file)} cannot be used: {error}") from None


def _look(path: Path, *, create: bool) -> None:
    if create:
        _make(path)
    elif not path.is_file():
        raise AccessFileError(f"there is no access file {path}: `gollama keys create` makes one")
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise AccessFileError(f"others may read {path}: chmod 600 {path}")


def _make(path: Path) -> None:
    """An empty file that nobody else may read, before SQLite puts anything there; what SQLite keeps beside it gets the same mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    with transaction(connection):
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise AccessFileError(f"{path} is a database of something else")
            strict = "" if sqlite3.sqlite_version_info < (3, 37) else " STRICT"
            for statement in SCHEMA.replace(" STRICT", strict).split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
        elif version != VERSION:
            raise AccessFileError(f"{path} has version {version}, and this gollama knows {VERSION}")
    connection.execute("PRAGMA journal_mode = WAL")  # readers do not wait for who writes
    connection.execute("PRAGMA synchronous = FULL")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, and nobody else writes meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
