"""The base of everything that owns a native object."""

from __future__ import annotations

import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from gollama._weak import members
from gollama.errors import BusyError, ClosedError

Self = TypeVar("Self", bound="Handle")

POLL_SECONDS = 0.001


class _Owned:
    """What must outlive the Python object until the native one is freed; never refers back to the handle."""

    def __init__(self, name: str, pointer: Any, free: Callable[[Any], None], parent: Handle | None) -> None:
        self.name = name
        self.pointer = pointer
        self.free = free
        self.parent = parent  # kept alive, since the native object uses the parent's

    def release(self) -> None:
        pointer, self.pointer = self.pointer, None
        if pointer is not None:
            self.free(pointer)
        self.parent = None


def _forgotten(owned: _Owned) -> None:
    if owned.pointer is not None:
        warnings.warn(f"{owned.name} was never closed: use `with`, or call close()", ResourceWarning, stacklevel=2)
    owned.release()


class _Use:
    """A `with` block inside which the native pointer stays valid.

    It is known to its handle by a weak reference: an exception of a signal handler may come between any two
    instructions, also in `__exit__`, and then the reference goes when the block's frame does.
    """

    __slots__ = ("__weakref__", "_handle", "thread")

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self.thread = threading.get_ident()

    def __enter__(self) -> Any:
        handle = self._handle
        with handle._lock:
            if handle._closing:
                raise ClosedError(f"{handle._owned.name} is closed")
            if handle.exclusive and any(use.thread != self.thread for use in members(handle._running)):
                raise BusyError(f"{handle._owned.name} is in use by another thread; it takes one at a time")
            handle._running.add(self)
        return handle._owned.pointer

    def __exit__(self, *details: object) -> None:
        self._handle._running.discard(self)


_handles: weakref.WeakSet[Handle] = weakref.WeakSet()


def _forked() -> None:
    """A child has only the thread that forked it: calls of the others will never end there, nor give locks back.

    What takes one thread at a time and was in another's hands may be half changed: it is neither used nor freed there.
    """
    here = threading.get_ident()
    for handle in members(_handles):
        handle._lock = threading.RLock()
        foreign = [use for use in members(handle._running) if use.thread != here]
        for use in foreign:
            handle._running.discard(use)
        if foreign and handle.exclusive:
            handle._closing = True
            handle._owned.free = _leave


def _leave(pointer: Any) -> None:
    """In place of freeing; the memory is shared with the parent until one of the two writes there."""


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Handle:
    """Owns one native object. A `with` block; closing is idempotent, waits for running calls, closes children first.

    `exclusive` objects take one thread at a time: a second one gets BusyError. Others may be used by many.
    A child is made inside a `use` of its parent, so that the parent cannot be freed before it knows of the child.
    """

    exclusive = False

    def __init__(self, name: str, pointer: Any, free: Callable[[Any], None], parent: Handle | None = None) -> None:
        self._owned = _Owned(name, pointer, free, parent)
        self._children: weakref.WeakSet[Handle] = weakref.WeakSet()
        self._lock = threading.RLock()  # since a signal's handler may cancel in the midst of a call
        self._running: weakref.WeakSet[_Use] = weakref.WeakSet()
        self._closing = False
        self._pin: _Use | None = None
        self.pinned: Any = None  # the native pointer, between pin and unpin
        self._finalizer = weakref.finalize(self, _forgotten, self._owned)
        self._finalizer.atexit = False  # a daemon thread may still compute; the system takes the memory back
        _handles.add(self)
        if parent is not None:
            with parent._lock:
                parent._children.add(self)

    def use(self) -> _Use:
        """A block around the native pointer, which is guaranteed to stay valid inside."""
        return _Use(self)

    def pin(self) -> None:
        """Begin a use that spans many calls of one thread: `pinned` is the pointer until `unpin`. Look at `closed` between them."""
        use = self.use()
        self.pinned = use.__enter__()
        self._pin = use

    def unpin(self) -> None:
        use, self._pin, self.pinned = self._pin, None, None
        if use is not None:
            use.__exit__()

    @property
    def closed(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Free the native object, its children first. Waits for calls that run in other threads."""
        if any(use.thread == threading.get_ident() for use in members(self._running)):
            raise BusyError(f"{self._owned.name} cannot be closed from inside one of its own calls")
        self._refuse()
        while len(self._running):  # by polling: a call that was torn by a signal notifies nobody
            time.sleep(POLL_SECONDS)
        for child in members(self._children):
            child.close()
        with self._lock:
            self._finalizer.detach()
            self._owned.release()

    def _refuse(self) -> None:
        """No new calls, here and in the children: what runs in one of them ends before all are waited for."""
        with self._lock:
            self._closing = True
        for child in members(self._children):
            child._refuse()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
