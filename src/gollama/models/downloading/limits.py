"""How fast, and how often again."""

from __future__ import annotations

import random
import threading
import time

LONGEST_PAUSE = 60.0
LONGEST_ASKED = 300.0  # what a server may ask for with Retry-After
WORTH = 1 << 18  # bytes that must come before a failure counts as the first again


class RateLimit:
    """Bytes a second, over all connections. Each thread waits after its own block."""

    def __init__(self, rate: int | None) -> None:
        self.rate = rate
        self._lock = threading.Lock()
        self._free_at = 0.0

    def block(self, most: int) -> int:
        """Bytes to read at once, so that the pauses stay short."""
        return most if self.rate is None else max(1024, min(most, self.rate // 10))

    def pause(self, count: int) -> float:
        """Seconds that whoever had `count` bytes has to wait."""
        if self.rate is None:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + count / self.rate
            return self._free_at - now


class Retries:
    """Failures in a row, and the pause after each: doubled, with a random part, or what the server asked for."""

    def __init__(self, most: int, first_pause: float = 0.5) -> None:
        self.most = most
        self.first_pause = first_pause
        self._lock = threading.Lock()
        self._failed = 0
        self._since = 0

    def came(self, count: int) -> None:
        with self._lock:
            self._since += count
            if self._since >= WORTH:
                self._failed = 0

    def failed(self, asked: float | None = None) -> float | None:
        """Seconds to wait before the next try; None if that was the last one."""
        with self._lock:
            self._failed += 1
            self._since = 0
            if self._failed > self.most or (asked or 0) > LONGEST_ASKED:
                return None
            if asked is not None:
                return asked
            doubled: float = self.first_pause * 2 ** min(self._failed - 1, 10)
            return min(LONGEST_PAUSE, doubled) * random.uniform(0.5, 1)  # noqa: S311
