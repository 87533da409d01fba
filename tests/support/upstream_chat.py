"""What llama.cpp's own chat code answers: the cases of its tests/test-chat.cpp, and prompts of its templates."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.conversations import REQUESTS
from tests.support.programs import Program
from tools import natives

FOLDER = "models/templates"

# a word in the name of every template that has cases; templates of one family have one maker
FAMILIES = ("Apertus", "Apriel", "Seed-OSS", "Cohere", "DeepSeek", "firefunction", "functionary", "gemma-2", "gemma-4", "GigaChat", "GLM-4",
            "gpt-oss", "granite", "Hermes", "Kimi", "LFM2", "Llama-3", "MiMo", "MiniCPM", "MiniMax", "mistral", "muse", "Nemotron", "Qw",
            "Reka", "StepFun")


@dataclass(frozen=True)
class Case:
    """A model's answer and what it means: `expected` as written in the test, `parsed` as llama.cpp parses it."""

    template: str
    request: dict[str, Any]
    input: str
    partial: bool
    expected: dict[str, Any]
    parsed: dict[str, Any]
    prompt: str
    generation_prompt: str


def templates() -> list[str]:
    """Every template's file name."""
    return sorted(file.name for file in (natives.source_tree() / FOLDER).glob("*.jinja"))


def source(template: str) -> str:
    return (natives.source_tree() / FOLDER / template).read_bytes().decode()  # with the line ends that it has


def family(template: str) -> str:
    return next(word for word in FAMILIES if word.lower() in template.lower())


@functools.cache
def cases() -> dict[str, list[Case]]:
    """By template."""
    found: dict[str, list[Case]] = {}
    for line in Program("record_chat_cases", _cut_test_chat()).lines():
        case = Case(**{**line, "template": Path(line["template"]).name})
        found.setdefault(case.template, []).append(case)
    return found


@functools.cache
def renderings() -> dict[tuple[str, str], dict[str, Any]]:
    """By template and conversation: {"rendering": ...} or {"error": ...}."""
    given = {"templates": [f"{FOLDER}/{name}" for name in templates()], "conversations": REQUESTS}
    lines = Program("render_templates").lines(json.dumps(given))
    return {(Path(line["template"]).name, line["conversation"]): line for line in lines}


def templates_of_cases() -> list[str]:
    """The templates that test-chat.cpp names, read without compiling it."""
    return sorted(set(re.findall(rf'"{FOLDER}/([^"]+\.jinja)"', _cut_test_chat()["test_chat_cases.inc"])))


@functools.cache
def _cut_test_chat() -> dict[str, str]:
    """The parts of test-chat.cpp that record_chat_cases.cpp includes.

    Left out: test_peg_parser, whose place record_case takes; tests of other things than parsing; main.
    """
    text = (natives.source_tree() / "tests" / "test-chat.cpp").read_text(encoding="utf-8")
    definitions = _between(text, "//  Tests chat handling", "static void test_peg_parser(common_chat_templates *")
    builder = _between(text, "// Fluent builder for PEG parser tests", "static void test_msgs_oaicompat_json_conversion() {")
    listed = _between(text, "static void test_lfm2_parser(", "static void test_template_generation_prompt() {")
    return {
        "test_chat_definitions.inc": _replaced(definitions, '#include "../tools/server/server-chat.h"', ""),
        "test_chat_cases.inc": _replaced(
            builder, "test_peg_parser(tester_.tmpls_.get(), [this](peg_test_case & t) { t = tc_; }, tester_.detailed_debug_);",
            "record_case(tester_.template_path(), tester_.tmpls_.get(), tc_);") + listed,
    }


def _between(text: str, start: str, end: str) -> str:
    assert text.count(start) == 1 and text.count(end) == 1, f"test-chat.cpp has changed: {start!r}, {end!r}"
    return text[text.index(start):text.index(end)]


def _replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"test-chat.cpp has changed: {old!r}"
    return text.replace(old, new)
