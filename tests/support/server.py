"""A server of this process on loopback, in a thread of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gollama.server import Background, Pool, ServerConfig
from gollama.server.service import Service
from gollama.server.serving import Server


@dataclass(frozen=True)
class Running:
    """`url` is where it listens, `service` what its routes share."""

    url: str
    port: int
    service: Service
    server: Server

    @property
    def pool(self) -> Pool:
        return self.service.pool


@contextlib.contextmanager
def running(*models: str, pool: Pool | None = None, loading: Mapping[str, Any] | None = None, **settings: Any) -> Iterator[Running]:
    """A server with these settings, at a port that is free."""
    background = Background(ServerConfig(models=models, port=0, loading=dict(loading or {}), **{"drain_timeout": 2, **settings}), pool)
    with background as url:
        yield Running(url, background.port, background.app.state.service, background.server)
