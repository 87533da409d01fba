"""A pattern's tree as a pattern that llama.cpp's converter turns into a grammar of JSON strings.

The converter's grammar matches a string as it stands between its quotes, so what JSON escapes is written here as its escape. Its
patterns know groups, alternatives, character classes without shorthands and quantifiers; a quantifier that stands behind several
literal characters takes them all, so it stands behind a class or a group only.
"""

from __future__ import annotations

from gollama.chat.json_schema.patterns import (
    SURROGATES,
    Characters,
    Choice,
    Node,
    PatternError,
    Repeat,
    Sequence,
    complement,
    lengths,
    union,
)

ESCAPED = {0x22: '"', 0x5C: r"\\", 0x08: "b", 0x0C: "f", 0x0A: "n", 0x0D: "r", 0x09: "t"}  # in the spelling of a character class
UNPRINTED = (*range(0x20), 0x7F)  # never written as they are; llama.cpp's own rule for strings has it so too
PLAIN = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
LITERAL = PLAIN | set("-/:@,#'=&%!~<>; ")
LONGEST_COUNT = 200  # llama.cpp's grammars make a rule of each, and take counts from 2000 on for no limit at all
PART = 50
LONGEST = 50_000


def spelled(tree: Node) -> str:
    """PatternError where the tree is too large to be written out."""
    return f"^{_text(tree)}$"


def _text(node: Node) -> str:
    text = _parts(node)
    if len(text) > LONGEST:
        raise PatternError("is too long when written out")
    return text


def _parts(node: Node) -> str:
    if isinstance(node, Characters):
        return _characters(node)
    if isinstance(node, Repeat):
        return _repeat(node)
    if isinstance(node, Choice):
        return _choice([_text(item) for item in node.items])
    assert isinstance(node, Sequence)  # anchors are gone
    return "".join(map(_text, node.items))


def _choice(options: list[str]) -> str:
    options = list(dict.fromkeys(options))
    text = "(" + "|".join(filter(None, options)) + ")"
    return text if all(options) else text + "?" if any(options) else ""


def _repeat(node: Repeat) -> str:
    item, least, most = node.item, node.least, node.most
    shortest, longest = lengths(item)
    if longest == 0 or most == 0:
        return ""
    if shortest == 0:  # a grammar must not repeat what may be empty
        item, least = _not_empty(item), 0
    text = _text(item)
    unit = text if isinstance(item, Characters) and text[0] in "[(" else f"({text})"
    if most is None:
        return unit + "+" if least == 1 else _exactly(unit, least) + unit + "*"
    if 0 < least < most <= LONGEST_COUNT:
        return f"{unit}{{{least},{most}}}"
    return _exactly(unit, least) + _up_to(unit, most - least)


def _exactly(unit: str, count: int) -> str:
    if count > LONGEST_COUNT:
        return _exactly(f"({unit}{{{PART}}})", count // PART) + _exactly(unit, count % PART)
    return "" if count == 0 else unit if count == 1 else f"{unit}{{{count}}}"


def _up_to(unit: str, count: int) -> str:
    if count > LONGEST_COUNT:
        part, (parts, rest) = f"({unit}{{{PART}}})", divmod(count, PART)
        return f"({_up_to(part, parts - 1)}{_up_to(unit, PART - 1)}|{_exactly(part, parts)}{_up_to(unit, rest)})"
    return "" if count == 0 else f"{unit}?" if count == 1 else f"{unit}{{0,{count}}}"


def _not_empty(node: Node) -> Node:
    """The tree's texts but the empty one."""
    if isinstance(node, Repeat):
        inner = _not_empty(node.item) if lengths(node.item)[0] == 0 else node.item
        return Repeat(inner, 1, node.most)
    if isinstance(node, Choice):
        return Choice(tuple(_not_empty(item) for item in node.items if lengths(item)[1] != 0))
    if isinstance(node, Sequence) and lengths(node)[0] == 0:
        starts = [index for index, item in enumerate(node.items) if lengths(item)[1] != 0]
        return Choice(tuple(Sequence((_not_empty(node.items[start]), *node.items[start + 1 :])) for start in starts))
    return node


def _characters(node: Characters) -> str:
    special = union((code, code) for code in (*ESCAPED, *UNPRINTED))
    written = _intersection(node.ranges, complement(special))
    escaped = [sign for code, sign in ESCAPED.items() if _has(node.ranges, code)]
    options = [_class(written)] if written else []
    if escaped:
        options.append(r"\\[" + "".join(escaped) + "]")
    if not options:  # characters that only \\u can tell are used only where no others would do
        options = [rf"\\u{code:04x}" for code in UNPRINTED if _has(node.ranges, code)]
    if not options:
        raise PatternError("has a character class that nothing matches")
    return options[0] if len(options) == 1 and written else "(" + "|".join(options) + ")"


def _class(ranges: tuple[tuple[int, int], ...]) -> str:
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return _code(ranges[0][0], LITERAL)
    return "[" + "".join(_code(low, PLAIN) + ("-" + _code(high, PLAIN) if high > low else "") for low, high in ranges) + "]"


def _code(code: int, plain: set[str]) -> str:
    if chr(code) in plain:
        return chr(code)
    return rf"\x{code:02X}" if code <= 0xFF else rf"\u{code:04X}" if code <= 0xFFFF else rf"\U{code:08X}"


def _has(ranges: tuple[tuple[int, int], ...], code: int) -> bool:
    return any(low <= code <= high for low, high in ranges)


def _intersection(first: tuple[tuple[int, int], ...], second: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    return complement((*complement(first), *complement(second), SURROGATES))
