"""A lock that a forked child finds free."""

from __future__ import annotations

import os
import threading
import weakref


class ForkLock:
    """A `with` block that one thread at a time may be in. In a child of a fork nobody is: the parent's threads are not there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *details: object) -> None:
        if self._lock.locked():  # not so where this very block forked
            self._lock.release()

    def renew(self) -> None:
        self._lock = threading.Lock()


_locks: weakref.WeakSet[ForkLock] = weakref.WeakSet()


def _forked() -> None:
    for lock in list(_locks):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
