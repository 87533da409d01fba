"""GBNF grammars without a model: random texts of a grammar, and whether a text is one. Reads what llama.cpp's parser reads."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from random import Random

NO_LIMIT = 10**9
CONVERTED_TO_NO_LIMIT = 2000  # MAX_REPETITION_THRESHOLD of llama-grammar.cpp
ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
# characters that break careless rules, next to plain ones
POOL = [*map(chr, range(0x20, 0x7F)), "\0", "\n", "\r", "\t", "\x1f", "\x7f",
        "\x85", "é", "ß", "٣", "\u2028", "\ufeff", "中", "😀", "\U0010ffff"]


@dataclass(frozen=True)
class Literal:
    text: str


@dataclass(frozen=True)
class Class:
    ranges: tuple[tuple[str, str], ...]
    negated: bool

    def has(self, character: str) -> bool:
        return any(low <= character <= high for low, high in self.ranges) != self.negated


@dataclass(frozen=True)
class Reference:
    name: str


@dataclass(frozen=True)
class Sequence:
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Choice:
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Repeat:
    item: Node
    least: int
    most: int


Node = Literal | Class | Reference | Sequence | Choice | Repeat


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def take(self, pattern: str) -> re.Match[str] | None:
        match = re.compile(pattern).match(self.text, self.at)
        self.at = match.end() if match else self.at
        return match

    def character(self) -> str:
        match = self.take(r"(?s)\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))|(.)")
        assert match
        digits = match[1] or match[2] or match[3]
        return chr(int(digits, 16)) if digits else ESCAPES[match[4]] if match[4] else match[5]

    def rules(self) -> dict[str, Node]:
        found: dict[str, Node] = {}
        while self.take(r"\s*") and self.at < len(self.text):
            name = self.take(r"([a-zA-Z0-9-]+) ::= ?")
            assert name, self.text[self.at : self.at + 60]
            found[name[1]] = self.choice()
            assert self.take(r"[ ]*(\n|$)"), self.text[self.at : self.at + 60]
        return found

    def choice(self) -> Node:
        items = [self.sequence()]
        while self.take(r"[ ]*\|[ ]*"):
            items.append(self.sequence())
        return items[0] if len(items) == 1 else Choice(tuple(items))

    def sequence(self) -> Node:
        items: list[Node] = []
        while self.take("[ ]*") and (item := self.item()) is not None:
            while match := self.take(r"[ ]*([*+?]|\{([0-9]+)(,?)([0-9]*)\})"):
                least, most = {"*": (0, NO_LIMIT), "+": (1, NO_LIMIT), "?": (0, 1)}.get(match[1], (0, 0))
                if match[2]:
                    least = int(match[2])
                    most = int(match[4]) if match[4] else NO_LIMIT if match[3] else least
                assert least <= CONVERTED_TO_NO_LIMIT
                item = Repeat(item, least, most if most <= CONVERTED_TO_NO_LIMIT else NO_LIMIT)
            items.append(item)
        return items[0] if len(items) == 1 else Sequence(tuple(items))

    def item(self) -> Node | None:
        if self.take('"'):
            text = ""
            while not self.take('"'):
                text += self.character()
            return Literal(text)
        if self.take(r"\["):
            return self.character_class()
        if self.take(r"\([ \n]*"):
            inner = self.choice()
            assert self.take(r"[ ]*\)"), self.text[self.at : self.at + 60]
            return inner
        name = self.take("[a-zA-Z0-9-]+")
        return Reference(name[0]) if name else None

    def character_class(self) -> Node:
        negated = bool(self.take(r"\^"))
        ranges = []
        while not self.take(r"\]"):
            low = self.character()
            ranges.append((low, self.character() if self.take(r"-(?!\])") else low))
        return Class(tuple(ranges), negated)


class Grammar:
    def __init__(self, text: str) -> None:
        self.rules = _Parser(text).rules()
        self._height: dict[str, int] = {}
        while lower := {name: height for name, rule in self.rules.items()
                        if (height := self._least(rule)) < self._height.get(name, NO_LIMIT)}:
            self._height.update(lower)

    def _least(self, node: Node) -> int:
        """How many references stand inside each other at least."""
        if isinstance(node, Reference):
            return min(NO_LIMIT, 1 + self._height.get(node.name, NO_LIMIT))
        if isinstance(node, Repeat):
            return self._least(node.item) if node.least else 0
        if isinstance(node, (Sequence, Choice)):
            heights = [self._least(item) for item in node.items]
            return (min if isinstance(node, Choice) else max)(heights, default=0)
        return 0

    def generate(self, random: Random, deepest: int = 12, longest: int = 300) -> str:
        """A text of the grammar. It comes to an end as soon as it can behind `longest` pieces, and where references stand deeper
        than `deepest` in each other."""
        out: list[str] = []
        self._generate(self.rules["root"], random, deepest, longest, out)
        return "".join(out)

    def _generate(self, node: Node, random: Random, room: int, longest: int, out: list[str]) -> None:
        room = room if len(out) < longest else 0
        if isinstance(node, Literal):
            out.append(node.text)
        elif isinstance(node, Class):
            out.append(random.choice(_members(node)))
        elif isinstance(node, Reference):
            self._generate(self.rules[node.name], random, room - 1, longest, out)
        elif isinstance(node, Sequence):
            for item in node.items:
                self._generate(item, random, room, longest, out)
        elif isinstance(node, Choice):
            heights = [self._least(item) for item in node.items]
            options = [item for item, height in zip(node.items, heights) if height <= max(room, min(heights))]
            self._generate(random.choice(options), random, room, longest, out)
        else:
            extra = 0 if room <= self._least(node.item) else random.choice((0, 0, 1, 1, 2, 3, node.most - node.least))
            for _ in range(node.least + min(extra, node.most - node.least, 40)):
                self._generate(node.item, random, room, longest, out)

    def accepts(self, text: str) -> bool:
        memory: dict[tuple[int, int], frozenset[int]] = {}
        return len(text) in self._ends(self.rules["root"], text, 0, memory)

    def _ends(self, node: Node, text: str, start: int, memory: dict[tuple[int, int], frozenset[int]]) -> frozenset[int]:
        """Where a match of the node that begins at `start` can end."""
        if isinstance(node, Literal):
            return frozenset((start + len(node.text),)) if text.startswith(node.text, start) else frozenset()
        if isinstance(node, Class):
            return frozenset((start + 1,)) if start < len(text) and node.has(text[start]) else frozenset()
        key = (id(node), start)
        if key not in memory:
            memory[key] = self._compound_ends(node, text, start, memory)
        return memory[key]

    def _compound_ends(self, node: Node, text: str, start: int, memory: dict[tuple[int, int], frozenset[int]]) -> frozenset[int]:
        if isinstance(node, Reference):
            return self._ends(self.rules[node.name], text, start, memory)
        if isinstance(node, Choice):
            return frozenset().union(*(self._ends(item, text, start, memory) for item in node.items))
        if isinstance(node, Sequence):
            ends = frozenset((start,))
            for item in node.items:
                ends = frozenset().union(*(self._ends(item, text, end, memory) for end in ends))
            return ends
        assert isinstance(node, Repeat)
        reached, found, count = frozenset((start,)), frozenset((start,)) if node.least == 0 else frozenset(), 0
        while reached and count < min(node.most, len(text) + node.least + 1):
            reached = frozenset().union(*(self._ends(node.item, text, end, memory) for end in reached))
            count += 1
            if count >= node.least:
                if reached <= found:
                    break
                found |= reached
        return found


@functools.cache
def _members(node: Class) -> list[str]:
    """Some characters of a class: those of the pool, and the ends of its ranges."""
    ends = () if node.negated else [end for ends in node.ranges for end in ends]
    return [*filter(node.has, POOL), *ends]
