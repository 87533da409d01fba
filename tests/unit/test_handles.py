"""Lifetimes of handles, on pointers that are plain numbers."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gollama import BusyError, ClosedError
from gollama._native.handles import Handle


class Exclusive(Handle):
    exclusive = True


def test_closing_frees_once() -> None:
    freed: list[int] = []
    handle = Handle("one", 1, freed.append)
    handle.close()
    handle.close()
    assert freed == [1] and handle.closed


def test_a_closed_handle_says_so() -> None:
    handle = Handle("the thing", 1, lambda pointer: None)
    handle.close()
    with pytest.raises(ClosedError, match="the thing is closed"), handle.use():
        pass


@given(st.permutations(range(4)))
def test_children_are_freed_before_parents_in_any_order_of_closing(order: list[int]) -> None:
    freed: list[int] = []
    first = Handle("0", 0, freed.append)
    second = Handle("1", 1, freed.append, first)
    handles = [first, second, Handle("2", 2, freed.append, second), Handle("3", 3, freed.append, first)]
    for index in order:
        handles[index].close()
    assert sorted(freed) == [0, 1, 2, 3]
    assert freed.index(2) < freed.index(1) < freed.index(0) and freed.index(3) < freed.index(0)


def test_a_forgotten_handle_warns_and_frees_its_parent_after_itself() -> None:
    freed: list[int] = []
    child = Handle("the child", 2, freed.append, Handle("the parent", 1, freed.append))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del child
        gc.collect()
    assert freed == [2, 1]
    assert [str(warning.message).split(" was")[0] for warning in caught] == ["the child", "the parent"]
    assert all(warning.category is ResourceWarning for warning in caught)


def test_closing_may_come_while_children_are_made() -> None:
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(400):
            close_while_children_are_made()
    finally:
        sys.setswitchinterval(switching)


def close_while_children_are_made() -> None:
    parent = Handle("the parent", 1, lambda pointer: None)
    children: list[Handle] = []
    begun = threading.Event()

    def make() -> None:
        with contextlib.suppress(ClosedError), parent.use():
            for _ in range(40):
                children.append(Handle("a child", 2, lambda pointer: None, parent))
                if len(children) >= 30:
                    begun.set()

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    begun.wait()
    parent.close()
    for thread in threads:
        thread.join()
    assert all(child.closed for child in children)


def test_a_parent_holds_its_children_weakly() -> None:
    parent = Handle("parent", 1, lambda pointer: None)
    freed: list[int] = []
    child = Handle("child", 2, freed.append, parent)
    with pytest.warns(ResourceWarning):
        del child
        gc.collect()
    assert freed == [2]
    parent.close()


def test_close_waits_for_a_running_call() -> None:
    events: list[str] = []
    handle = Handle("slow", 1, lambda pointer: events.append("freed"))
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with handle.use():
            inside.set()
            leave.wait(10)
            events.append("left")

    worker = threading.Thread(target=work)
    worker.start()
    inside.wait(10)
    closer = threading.Thread(target=handle.close)
    closer.start()
    closer.join(0.1)
    assert events == [] and closer.is_alive()
    leave.set()
    worker.join(10)
    closer.join(10)
    assert events == ["left", "freed"]


def test_an_exclusive_handle_refuses_a_second_thread() -> None:
    handle = Exclusive("one seat", 1, lambda pointer: None)
    caught: list[BaseException] = []

    def other() -> None:
        try:
            with handle.use():
                pass
        except BusyError as error:
            caught.append(error)

    with handle.use():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(10)
    assert len(caught) == 1
    handle.close()


def test_closing_inside_a_call_is_refused_and_not_a_deadlock() -> None:
    handle = Handle("self", 1, lambda pointer: None)
    with handle.use(), pytest.raises(BusyError):
        handle.close()
    handle.close()
