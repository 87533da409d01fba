"""A lock that a forked child finds free."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref

from gollama._weak import members


class ForkLock:
    """A `with` block that one thread at a time may be in. In a child of a fork nobody is: the parent's threads are not there.

    `fork_waits`: a fork by another thread waits for the block's end. For short work only; it is needed where the C library takes locks
    that it does not free in a child, as it does to tell the local time.
    """

    def __init__(self, *, fork_waits: bool = False) -> None:
        self.fork_waits = fork_waits
        self.renew()
        _locks.add(self)

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *details: object) -> None:
        with contextlib.suppress(RuntimeError):  # in a child, where this very block forked
            self.lock.release()

    def renew(self) -> None:
        self.lock = threading.RLock()


_locks: weakref.WeakSet[ForkLock] = weakref.WeakSet()
_waited: list[ForkLock] = []


def _forking() -> None:
    for lock in members(_locks):
        if lock.fork_waits:
            lock.lock.acquire()
            _waited.append(lock)


def _forked_here() -> None:
    while _waited:
        _waited.pop().lock.release()


def _forked() -> None:
    _waited.clear()
    for lock in members(_locks):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forking, after_in_parent=_forked_here, after_in_child=_forked)
