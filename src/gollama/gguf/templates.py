"""What looks hostile in a chat template, without running it. A template is a program that a model's file brings."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

# the templates of llama.cpp's models/templates reach 17,000 characters, blocks 10 deep, brackets 4 deep
LONGEST = 65_536
DEEPEST_BLOCKS = 20
DEEPEST_BRACKETS = 20
MOST_DIGITS = 5
MOST_ROUNDS = 1_000_000  # of loops over ranges, inside of each other
MOST_EXAMINED = 2**20  # characters

# each string alternative ends at the text's end where its quote is missing, which keeps this linear
WORD = re.compile(r'''"(?:[^"\\]|\\.)*(?:"|\\?\Z)|'(?:[^'\\]|\\.)*(?:'|\\?\Z)|[^\W\d]\w*|\d[\d_]*|[-+]?[%}]\}|\*\*|.''', re.DOTALL)
OPENING = {"for", "if", "macro", "call", "filter", "block", "generation", "trans", "with", "autoescape"}
OTHER_FILES = {"include", "import", "extends", "from"}
INNER = re.compile(r"__\w+__")
REACHING = {"mro", "subclasses", "func_globals", "builtins", "popen", "getattr", "lipsum", "os", "sys", "eval", "exec"}
# controls, marks that turn the direction of text, marks of no width, tags
INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\U000e0000-\U000e007f]")
MARK = re.compile(r"<\|[A-Za-z0-9_\-]{1,64}\|>")


@dataclass
class _Program:
    """What was met on the way through a template."""

    blocks: list[int] = field(default_factory=list)  # those that are open: how often what is inside runs for each time before
    deepest_blocks: int = 0
    deepest_brackets: int = 0
    found: dict[str, None] = field(default_factory=dict)  # in the order in which they came


def suspicions(template: str, is_token: Callable[[str], bool] | None = None) -> list[str]:
    """What looks hostile, a sentence each. `is_token` tells whether the vocabulary has a token of that text."""
    found = []
    if len(template) > LONGEST:
        found.append(f"is {len(template):,} characters long")
    examined = template[:MOST_EXAMINED]
    program = _Program()
    for words in _tags(examined):
        _tag(words, program)
    if program.deepest_blocks > DEEPEST_BLOCKS:
        found.append(f"has blocks nested {program.deepest_blocks} deep")
    if program.deepest_brackets > DEEPEST_BRACKETS:
        found.append(f"has brackets nested {program.deepest_brackets} deep")
    found.extend(program.found)
    invisible = sorted({f"U+{ord(character):04X}" for character in INVISIBLE.findall(examined)})
    if invisible:
        found.append(f"holds characters that cannot be seen: {', '.join(invisible[:8])}")
    if is_token is not None:
        missing = [mark for mark in dict.fromkeys(MARK.findall(examined)) if not is_token(mark)]
        if missing:
            found.append(f"writes {', '.join(missing[:4])}, of which the vocabulary has no token: it was made for another model")
    return found


def _tags(template: str) -> Iterator[list[str]]:
    """The words of each `{% %}`, behind "%", and of each `{{ }}`."""
    at = 0
    while True:
        begin = template.find("{", at)
        if begin < 0:
            return
        kind = template[begin + 1 : begin + 2]
        at = begin + 2
        if kind == "#":
            end = template.find("#}", at)
            if end < 0:
                return
            at = end + 2
        elif kind in ("%", "{"):
            words = ["%"] if kind == "%" else []
            close = "%}" if kind == "%" else "}}"
            depth = 0
            for match in WORD.finditer(template, at):
                word = match.group()
                at = match.end()
                if word.endswith(close) and len(word) < 4 and not depth:
                    break
                if word == "}}" and depth:  # of two mappings
                    depth = max(depth - 2, 0)
                    words += ["}", "}"]
                    continue
                depth += (word == "{") - (word == "}")
                if not word.isspace():
                    words.append(word)
            yield words
        else:
            at = begin + 1


def _tag(words: list[str], program: _Program) -> None:
    if words[:1] == ["%"]:
        _statement(words, program)
    depth = 0
    for before, word in zip(["", *words], words):
        if word in "([{":
            depth += 1
            program.deepest_brackets = max(program.deepest_brackets, depth)
        elif word in ")]}":
            depth -= 1
        elif word[0].isdigit():
            if _digits(word) > MOST_DIGITS:
                program.found[f"counts with the number {word[:24]}"] = None
        elif word == "**":
            program.found["raises numbers to powers"] = None
        else:
            _name(before, word, program)


def _statement(words: list[str], program: _Program) -> None:
    name = next((word for word in words[1:3] if word not in "-+"), "")
    if name in OPENING or (name == "set" and "=" not in words):
        program.blocks.append(_rounds(words) if name == "for" else 1)
        program.deepest_blocks = max(program.deepest_blocks, len(program.blocks))
        # only the innermost: what is inside of more than these is told by the depth
        if math.prod(program.blocks[-DEEPEST_BLOCKS:]) > MOST_ROUNDS:
            program.found["loops over ranges more than a million times"] = None
    elif name.startswith("end"):
        del program.blocks[-1:]
    elif name in OTHER_FILES:
        program.found[f"takes in other files ({name})"] = None


def _rounds(words: list[str]) -> int:
    """The largest number of a loop over a range."""
    if "range" not in words:
        return 1
    return max((int(word) for word in words if word[0].isdigit() and _digits(word) <= MOST_DIGITS), default=1) or 1


def _digits(word: str) -> int:
    return len(word.replace("_", "").lstrip("0"))


def _name(before: str, word: str, program: _Program) -> None:
    inner = INNER.search(word)
    if inner:
        program.found[f"reaches for {inner.group()[:40]}, which is inside of Python"] = None
    elif before == "|" and word == "attr":
        program.found["picks attributes by name (attr)"] = None
    elif word in REACHING:
        program.found[f"reaches for {word}"] = None
