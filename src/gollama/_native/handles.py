"""The base of everything that owns a native object."""

from __future__ import annotations

import atexit
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

from gollama.errors import BusyError, ClosedError

Self = TypeVar("Self", bound="Handle")

_exiting = False


def _note_exit() -> None:
    global _exiting
    _exiting = True


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
    if owned.pointer is not None and not _exiting:
        warnings.warn(f"{owned.name} was never closed: use `with`, or call close()", ResourceWarning, stacklevel=2)
    owned.release()


class Handle:
    """Owns one native object. A `with` block; closing is idempotent, waits for running calls, closes children first.

    `exclusive` objects take one thread at a time: a second one gets BusyError. Others may be used by many.
    """

    exclusive = False

    def __init__(self, name: str, pointer: Any, free: Callable[[Any], None], parent: Handle | None = None) -> None:
        self._owned = _Owned(name, pointer, free, parent)
        self._children: weakref.WeakSet[Handle] = weakref.WeakSet()
        self._condition = threading.Condition()
        self._running: list[int] = []  # the threads inside a native call
        self._closing = False
        self._finalizer = weakref.finalize(self, _forgotten, self._owned)
        if parent is not None:
            parent._adopt(self)

    def _adopt(self, child: Handle) -> None:
        with self._condition:
            self._children.add(child)

    @contextmanager
    def use(self) -> Iterator[Any]:
        """The native pointer, guaranteed to stay valid inside the block."""
        with self._condition:
            if self._closing:
                raise ClosedError(f"{self._owned.name} is closed")
            if self.exclusive and self._running:
                raise BusyError(f"{self._owned.name} is in use by another thread; it takes one at a time")
            self._running.append(threading.get_ident())
        try:
            yield self._owned.pointer
        finally:
            with self._condition:
                self._running.remove(threading.get_ident())
                self._condition.notify_all()

    @property
    def closed(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Free the native object, its children first. Waits for calls that run in other threads."""
        with self._condition:
            if threading.get_ident() in self._running:
                raise BusyError(f"{self._owned.name} cannot be closed from inside one of its own calls")
            first = not self._closing
            self._closing = True
            children = list(self._children) if first else []
        for child in children:
            child.close()
        with self._condition:
            self._condition.wait_for(lambda: not self._running)
            if first:
                self._finalizer.detach()
                self._owned.release()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


# weakref registers its own exit function when the first finalizer is made; functions registered later run earlier
weakref.finalize(Handle, int)
atexit.register(_note_exit)
