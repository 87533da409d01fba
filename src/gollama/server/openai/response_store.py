"""Responses that were asked to be kept: in memory, so many and so large, each for who asked."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from gollama.server.errors import ApiError
from gollama.server.replies import dumps

MOST_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Stored:
    """A response, the messages that led to it and are its answer, and the key that it belongs to."""

    response: dict[str, Any]
    items: list[dict[str, Any]]
    messages: list[dict[str, Any]]
    owner: str | None
    size: int


class ResponseStore:
    """The latest ones. Event loop only."""

    def __init__(self, most: int, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._kept: OrderedDict[str, Stored] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, response: dict[str, Any], items: list[dict[str, Any]], messages: list[dict[str, Any]], owner: str | None) -> None:
        """Keep it; the oldest go where there are too many, or they are too large."""
        size = len(dumps([response, items, messages]))
        self._kept[response["id"]] = Stored(response, items, messages, owner, size)
        self._bytes += size
        while self._kept and (len(self._kept) > self._most or self._bytes > self._most_bytes):
            self._bytes -= self._kept.popitem(last=False)[1].size

    def get(self, response_id: str, owner: str | None, param: str | None = None) -> Stored:
        """ApiError 404 also for one of somebody else."""
        found = self._kept.get(response_id)
        if found is None or found.owner != owner:
            raise ApiError(404, f"there is no response {response_id[:100]!r} (any more)", param=param, code="not_found")
        return found

    def delete(self, response_id: str, owner: str | None) -> None:
        self._bytes -= self.get(response_id, owner).size
        del self._kept[response_id]
