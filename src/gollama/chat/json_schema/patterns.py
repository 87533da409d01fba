"""Regular expressions of JSON Schema: read into a tree, to be measured and written anew for llama.cpp's converter.

What is read is the part that ECMA 262, Python and Rust (pydantic) share. Where they differ in what a part matches (`\\d`, `.`), it
stands here for what all of them match. The tree is written by `spelling`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

Ranges = tuple[tuple[int, int], ...]  # of code points, both ends included, in order, apart
DEEPEST = 40  # groups in groups
SURROGATES = (0xD800, 0xDFFF)


class PatternError(ValueError):
    """What is wrong with a pattern, or not supported in it."""


@dataclass(frozen=True)
class Characters:
    """One character out of some."""

    ranges: Ranges


@dataclass(frozen=True)
class Sequence:
    items: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Choice:
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Repeat:
    item: Node
    least: int
    most: int | None


@dataclass(frozen=True)
class Anchor:
    start: bool


Node = Characters | Sequence | Choice | Repeat | Anchor


def union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def complement(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """All other characters, the halves of surrogate pairs excepted."""
    found, start = [], 0
    for low, high in union((*ranges, SURROGATES)):
        if start < low:
            found.append((start, low - 1))
        start = high + 1
    return tuple(found if start > 0x10FFFF else [*found, (start, 0x10FFFF)])


DIGITS = ((0x30, 0x39),)
WORD = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
SPACE = ((0x09, 0x0D), (0x20, 0x20))
ANY_SPACE = ((0x09, 0x0D), (0x1C, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x180E, 0x180E), (0x2000, 0x200D), (0x2028, 0x2029),
             (0x202F, 0x202F), (0x205F, 0x2060), (0x3000, 0x3000), (0xFEFF, 0xFEFF))
NOT_ASCII = ((0x80, 0x10FFFF),)  # what is no digit and no letter there, the dialects do not agree on
# what each class matches for sure, and what it may match, which is what a negation has to leave out
SURE = {"d": DIGITS, "w": WORD, "s": SPACE, "D": complement(DIGITS + NOT_ASCII), "W": complement(WORD + NOT_ASCII),
        "S": complement(ANY_SPACE)}
POSSIBLE = {"d": DIGITS + NOT_ASCII, "w": WORD + NOT_ASCII, "s": ANY_SPACE,
            "D": complement(DIGITS), "W": complement(WORD), "S": complement(SPACE)}
CONTROLS = {"t": 0x09, "n": 0x0A, "v": 0x0B, "f": 0x0C, "r": 0x0D, "0": 0}
ANY = Characters(complement(()))
DOT = Characters(complement(((0x0A, 0x0A), (0x0D, 0x0D), (0x85, 0x85), (0x2028, 0x2029))))


class _Reader:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.depth = 0

    def take(self, expression: str) -> re.Match[str] | None:
        match = re.compile(expression).match(self.pattern, self.at)
        if match:
            self.at = match.end()
        return match

    def choice(self) -> Node:
        items = [self.sequence()]
        while self.take(r"\|"):
            items.append(self.sequence())
        return items[0] if len(items) == 1 else Choice(tuple(items))

    def sequence(self) -> Node:
        items: list[Node] = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            items.append(self.quantified(self.atom()))
        return items[0] if len(items) == 1 else Sequence(tuple(items))

    def quantified(self, atom: Node) -> Node:
        match = self.take(r"[*+?]|\{([0-9]{1,6})(?:(,)([0-9]{0,6}))?\}")
        if not match:
            return atom
        if match[1]:
            least = int(match[1])
            most = int(match[3]) if match[3] else None if match[2] else least
        else:
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[match[0]]
        if isinstance(atom, Anchor) or (most is not None and most < least):
            raise PatternError(f"{match[0]!r} cannot stand here")
        # how eager it is matters for what is found first, not for whether there is a match
        if not self.take(r"\?") and self.take(r"(?=[*+{])"):
            raise PatternError("one quantifier behind another is not supported")
        return Repeat(atom, least, most)

    def atom(self) -> Node:
        sign = self.pattern[self.at]
        self.at += 1
        if sign == "(":
            return self.group()
        if sign == "[":
            return self.character_class()
        if sign == "\\":
            return Characters(self.escape(SURE))
        if sign == ".":
            return DOT
        if sign in "^$":
            return Anchor(sign == "^")
        if sign in "*+?{":
            raise PatternError(f"{sign!r} with nothing to repeat")
        return Characters(((ord(sign), ord(sign)),))

    def group(self) -> Node:
        if self.take(r"\?") and not self.take(r":|P?<[A-Za-z_]\w*>"):
            raise PatternError("lookaround and flags are not supported")
        self.depth += 1
        if self.depth > DEEPEST:
            raise PatternError(f"has groups nested deeper than {DEEPEST}")
        inner = self.choice()
        if not self.take(r"\)"):
            raise PatternError("a group is not closed")
        self.depth -= 1
        return inner

    def escape(self, classes: dict[str, Ranges]) -> Ranges:
        if match := self.take(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})"):
            code = int(match[1] or match[2], 16)
            if SURROGATES[0] <= code <= SURROGATES[1]:
                raise PatternError("halves of surrogate pairs are not supported")
            return ((code, code),)
        match = self.take("(?s).")
        if not match:
            raise PatternError("ends with a backslash")
        sign = match[0]
        if sign in classes:
            return classes[sign]
        code_point = CONTROLS.get(sign, ord(sign))
        if (sign.isalnum() and sign not in CONTROLS) or (sign == "0" and self.take("[0-9]")):
            raise PatternError(f"the escape \\{sign} is not supported")
        return ((code_point, code_point),)

    def character_class(self) -> Node:
        negated = bool(self.take(r"\^"))
        found: list[tuple[int, int]] = []
        if self.take("]"):
            raise PatternError("']' first in a character class is not supported")
        while not self.take("]"):
            low = self.class_member(negated)
            if self.take("-(?!])"):
                high = self.class_member(negated)
                if len(low) != 1 or len(high) != 1 or low[0][0] != low[0][1] or high[0][0] != high[0][1] or high[0][0] < low[0][0]:
                    raise PatternError("a range in a character class is wrong")
                low = ((low[0][0], high[0][0]),)
            found += low
        return Characters(complement(found) if negated else complement(complement(found)))

    def class_member(self, negated: bool) -> Ranges:
        match = self.take(r"(?s).")
        if not match:
            raise PatternError("a character class is not closed")
        if match[0] == "\\":
            return self.escape(POSSIBLE if negated else SURE)
        if match[0] == "[" and self.take(":"):
            raise PatternError("POSIX classes are not supported")
        return ((ord(match[0]), ord(match[0])),)


def read(pattern: str) -> Node:
    """The texts that a pattern is found in, as a tree without anchors."""
    reader = _Reader(pattern)
    tree = reader.choice()
    if reader.at < len(pattern):
        raise PatternError("a ')' closes no group")
    return _whole(tree)


def _whole(node: Node) -> Node:
    """A pattern is searched for: where no anchor holds an end, anything may stand in front or behind."""
    if isinstance(node, Choice):
        return Choice(tuple(map(_whole, node.items)))
    items = list(node.items) if isinstance(node, Sequence) else [node]
    starts = next((index for index, item in enumerate(items) if item != Anchor(True)), len(items))
    ends = next((index for index, item in enumerate(reversed(items)) if item != Anchor(False)), len(items))
    inner = items[starts : len(items) - ends]
    if starts == ends == 0 and len(inner) == 1 and isinstance(inner[0], Choice):
        return _whole(inner[0])  # anchors may be in the alternatives
    _no_anchors(inner)
    anything = Repeat(ANY, 0, None)
    return Sequence((*([] if starts else [anything]), *inner, *([] if ends else [anything])))


def _no_anchors(items: Iterable[Node]) -> None:
    for item in items:
        if isinstance(item, Anchor):
            raise PatternError("an anchor inside the pattern is not supported")
        _no_anchors([item.item] if isinstance(item, Repeat) else item.items if isinstance(item, (Sequence, Choice)) else [])


def lengths(node: Node) -> tuple[int, int | None]:
    """The least and the most characters that a text of the tree has."""
    if isinstance(node, Characters):
        return 1, 1
    if isinstance(node, Repeat):
        least, most = lengths(node.item)
        bounded = most == 0 or node.most == 0 or (most is not None and node.most is not None)
        return least * node.least, (most or 0) * (node.most or 0) if bounded else None
    parts = [lengths(item) for item in node.items] if isinstance(node, (Sequence, Choice)) else []
    combined = (min, max) if isinstance(node, Choice) else (sum, sum)
    mosts = [most for _, most in parts if most is not None]
    return combined[0](least for least, _ in parts), combined[1](mosts) if len(mosts) == len(parts) else None


def within(node: Node, least: int, most: int | None) -> Node | None:
    """The tree's texts of some lengths; None where no tree is known to have just those."""
    shortest, longest = lengths(node)
    if shortest >= least and (most is None or (longest is not None and longest <= most)):
        return node
    if isinstance(node, Sequence) and len(node.items) == 1:
        return within(node.items[0], least, most)
    if isinstance(node, Repeat) and isinstance(node.item, Characters):
        highest = node.most if most is None else most if node.most is None else min(node.most, most)
        lowest = max(node.least, least)
        return Repeat(node.item, lowest, highest) if highest is None or lowest <= highest else None
    return None
