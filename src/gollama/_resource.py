"""What every noun that owns something native has in common."""

from __future__ import annotations

from typing import TypeVar

from gollama import _native

Self = TypeVar("Self", bound="Resource")


class Resource:
    """A `with` block around a native handle."""

    _handle: _native.Handle

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """Free it and everything made from it. Waits for running calls; may be called again."""
        self._handle.close()

    @property
    def closed(self) -> bool:
        return self._handle.closed
