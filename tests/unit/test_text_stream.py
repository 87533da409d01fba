"""Bytes to text: whole characters, stop strings that span tokens."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gollama._text import TextStream


def feed(stream: TextStream, pieces: list[bytes]) -> list[str]:
    shown = []
    for piece in pieces:
        shown.append(stream.push(piece))
        if stream.stopped:
            return shown
    return [*shown, stream.finish()]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(st.text(), st.lists(st.integers(0, 200)))
def test_joined_text_is_the_text_however_it_is_cut(text: str, places: list[int]) -> None:
    assert "".join(feed(TextStream(), cut(text.encode(), places))) == text


@given(st.binary(), st.lists(st.integers(0, 200)))
def test_bytes_that_are_no_text_come_out_as_python_replaces_them(data: bytes, places: list[int]) -> None:
    assert "".join(feed(TextStream(), cut(data, places))) == data.decode("utf-8", "replace")


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3), st.lists(st.integers(0, 200)))
def test_text_ends_before_the_first_stop_string(text: str, stop: list[str], places: list[int]) -> None:
    stream = TextStream(tuple(stop))
    shown = "".join(feed(stream, cut(text.encode(), places)))
    found = [index for index in (text.find(one) for one in stop) if index >= 0]
    assert stream.stopped == bool(found)
    if not found:
        assert shown == text
    else:
        # a stop string that ends earlier wins over one that begins earlier and ends later
        ends = min(text.find(one) + len(one) for one in stop if one in text)
        assert text.startswith(shown) and min(found) <= len(shown) < ends


@given(st.text("ab\u00e9\U0001f600", max_size=30), st.lists(st.integers(0, 200)))
def test_what_was_shown_is_never_taken_back(text: str, places: list[int]) -> None:
    stream = TextStream(("abab",))
    shown = ""
    for piece in cut(text.encode(), places):
        shown += stream.push(piece)
        assert text.startswith(shown)


def test_a_character_is_held_until_it_is_whole() -> None:
    stream = TextStream()
    data = "😀".encode()
    assert [stream.push(data[:1]), stream.push(data[1:3]), stream.push(data[3:])] == ["", "", "😀"]


def test_the_beginning_of_a_stop_string_is_held_back_and_given_if_it_comes_to_nothing() -> None:
    stream = TextStream(("STOP",))
    assert stream.push(b"abST") == "ab"
    assert stream.push(b"x") == "STx"
    assert not stream.stopped
