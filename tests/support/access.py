"""Servers that ask for keys, and what clients of theirs send."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gollama.server.access import usage
from gollama.server.access.database import opened
from gollama.server.access.keys import create
from gollama.server.access.principals import Limits
from tests.support.answers import wait_until
from tests.support.server import Running, running

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"
LOADING = {"context_size": 2048, "max_sequences": 4, "threads": 1}
SECRET = "abracadabra"
OWN = "key-of-the-settings"


def use(at: float, key: str = "-", model: str = "m", **fields: Any) -> usage.Use:
    """A row of usage."""
    return usage.Use(**{"time": at, "key": key, "model": model, "route": "/v1/chat/completions", "status": 200, "seconds": 1.0,
                        "first_token_seconds": 0.5, "prompt_tokens": 3, "completion_tokens": 4, "cached_tokens": 1, **fields})


def ask(**fields: Any) -> dict[str, Any]:
    return {"prompt": SECRET, "ignore_eos": True, "max_tokens": 4, **fields}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


class Site:
    """A server with an access file."""

    def __init__(self, server: Running, file: str) -> None:
        self.server, self.file = server, file
        self.http = httpx2.Client(base_url=server.url, timeout=60)

    def key(self, name: str, *scopes: str, models: list[str] | None = None, expires: int | None = None, **limits: int) -> str:
        with opened(self.file) as connection:
            return create(connection, name, actor="test", scopes=scopes or ("inference",), models=models, limits=Limits(**limits),
                          expires=expires)

    def post(self, key: str, path: str = TEXT, **fields: Any) -> httpx2.Response:
        return self.http.post(path, headers=bearer(key), json=ask(**fields))

    def used(self, name: str) -> dict[str, Any]:
        """What is written of a key, once it is."""
        def row() -> dict[str, Any]:
            with opened(self.file) as connection:
                return next((one for one in usage.summed(connection, ["key"]) if one["key"] == name), {})
        wait_until(lambda: bool(row()))
        return row()


@contextlib.contextmanager
def site(model: str, folder: Path, **settings: Any) -> Iterator[Site]:
    file = str(folder / "access.db")
    with running(f"tiny={model}", f"other={model}", loading=LOADING, access_file=file, **settings) as server:
        made = Site(server, file)
        with made.http:
            yield made


def said(caplog: pytest.LogCaptureFixture) -> str:
    """What the server logged; the client's own log is not ours."""
    return "\n".join(record.getMessage() for record in caplog.records if record.name.partition(".")[0] in ("gollama", "uvicorn", "asyncio"))


def refused(reply: httpx2.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]
