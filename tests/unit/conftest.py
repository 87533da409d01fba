"""An access file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gollama.server.access.database import opened


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "access.db")


@pytest.fixture
def connection(file: str) -> Iterator[sqlite3.Connection]:
    with opened(file) as connection:
        yield connection
