"""Models by the names that Ollama's clients use."""

from __future__ import annotations

from gollama.server.service import Service

TAG = ":latest"


def plain_name(service: Service, asked: str) -> str:
    """The served model's name; clients of Ollama add `:latest` to one without a tag."""
    bare = asked.removesuffix(TAG)
    return service.model_name(bare if bare in service.names() else asked)


def tagged(name: str) -> str:
    """As Ollama lists it."""
    return name if ":" in name else name + TAG
