"""The server: OpenAI's API and others' on models of this process. Needs the extra `server`.

>>> from gollama.server import ServerConfig
>>> ServerConfig(models=["smollm2"]).served
{'smollm2': 'smollm2'}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gollama.server.config import ServerConfig, read_config

if TYPE_CHECKING:
    from gollama.server.app import create_app
    from gollama.server.pool import Pool
    from gollama.server.serving import Background

__all__ = ["Background", "Pool", "ServerConfig", "create_app", "read_config"]


def __getattr__(name: str) -> Any:
    """FastAPI and the rest of the extra wait until they are needed."""
    if name == "create_app":
        from gollama.server.app import create_app

        return create_app
    if name == "Background":
        from gollama.server.serving import Background

        return Background
    if name == "Pool":
        from gollama.server.pool import Pool

        return Pool
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
