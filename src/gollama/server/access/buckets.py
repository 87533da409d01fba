"""How much a key may use, and has used: buckets in memory, and the day's quota, which the access file keeps.

The package `limits` has windows that refuse what would exceed them. Tokens are only known once they were computed: a bucket must be
able to go below zero, and then to refuse until it is filled again.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone

from gollama.server.access.principals import Limits
from gollama.server.errors import ApiError

MINUTE, DAY = 60.0, 86400


class Bucket:
    """Holds so many, and is filled within a minute, evenly."""

    def __init__(self, size: int, clock: Callable[[], float]) -> None:
        self.size, self._clock = size, clock
        self._level, self._then = float(size), clock()

    @property
    def level(self) -> float:
        """What is in it now; may be below zero."""
        now = self._clock()
        self._level = min(self.size, self._level + (now - self._then) * self.size / MINUTE)
        self._then = now
        return self._level

    def take(self, amount: float) -> None:
        self._level = self.level - amount

    def seconds_to(self, level: float) -> float:
        """Until it holds that."""
        return max(level - self.level, 0.0) * MINUTE / self.size


def today(now: float) -> str:
    return datetime.fromtimestamp(now, timezone.utc).date().isoformat()


class Account:
    """What one key has used. Any thread."""

    def __init__(self, limits: Limits, day: str, spent: int, *, clock: Callable[[], float] = time.monotonic,
                 now: Callable[[], float] = time.time) -> None:
        """`spent`: the tokens of that day so far."""
        self.limits, self._now, self._day, self._spent = limits, now, day, spent
        self._lock = threading.Lock()
        self._requests = None if limits.requests_per_minute is None else Bucket(limits.requests_per_minute, clock)
        self._tokens = None if limits.tokens_per_minute is None else Bucket(limits.tokens_per_minute, clock)

    def admit(self) -> None:
        """One more request. ApiError 429 says what is used up and when to come again; then nothing was taken."""
        with self._lock:
            if self._left_today() <= 0:
                raise self.exhausted()
            if self._tokens is not None and self._tokens.level < 1:
                raise _limited("tokens", self._tokens.size, self._tokens.seconds_to(1))
            if self._requests is not None:
                if self._requests.level < 1:
                    raise _limited("requests", self._requests.size, self._requests.seconds_to(1))
                self._requests.take(1)

    def spend(self, tokens: int) -> None:
        with self._lock:
            self._left_today()
            self._spent += tokens
            if self._tokens is not None:
                self._tokens.take(tokens)

    def left(self) -> float:
        """Tokens of the day's quota; infinite without one."""
        with self._lock:
            return self._left_today()

    def _left_today(self) -> float:
        day = today(self._now())
        if day != self._day:
            self._day, self._spent = day, 0
        quota = self.limits.tokens_per_day
        return math.inf if quota is None else quota - self._spent

    def exhausted(self) -> ApiError:
        """The error of a day's quota that is used up."""
        seconds = math.ceil(DAY - self._now() % DAY)
        return ApiError(429, f"this key's {self.limits.tokens_per_day} tokens of today (UTC) are used up (tokens_per_day)",
                        type="insufficient_quota", code="insufficient_quota", headers={"Retry-After": str(seconds)})

    def headers(self) -> list[tuple[bytes, bytes]]:
        """As OpenAI tells of limits."""
        found: list[tuple[bytes, bytes]] = []
        with self._lock:
            for name, bucket in (("requests", self._requests), ("tokens", self._tokens)):
                if bucket is not None:
                    found += _told(name, bucket.size, bucket.level, bucket.seconds_to(bucket.size))
            if self.limits.tokens_per_day is not None:
                found += _told("tokens-day", self.limits.tokens_per_day, self._left_today(), DAY - self._now() % DAY)
        return found


def _told(name: str, size: int, left: float, seconds: float) -> list[tuple[bytes, bytes]]:
    values = {"limit": str(size), "remaining": str(max(int(left), 0)), "reset": _duration(seconds)}
    return [(f"x-ratelimit-{word}-{name}".encode(), value.encode()) for word, value in values.items()]


def _duration(seconds: float) -> str:
    """6m0s, as OpenAI writes it."""
    whole = math.ceil(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"


def _limited(what: str, size: int, seconds: float) -> ApiError:
    return ApiError(429, f"this key may use {size} {what} a minute ({what}_per_minute): try again later", type=what,
                    code="rate_limit_exceeded", headers={"Retry-After": str(max(math.ceil(seconds), 1))})
