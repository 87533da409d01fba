"""Prompts and formats of every template in llama.cpp's tree, beside those that its own functions give (support/render_templates.cpp)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from gollama import ChatError, _native
from tests.support import chat_formats, upstream_chat
from tests.support.conversations import REQUESTS, rendered
from tools import natives

FORMAT_FIELDS = ("name", "grammar", "grammar_lazy", "preserved_tokens", "stops", "thinking_start", "thinking_ends", "supports_thinking")


def rendering(found: _native.Rendered) -> dict[str, Any]:
    """In the form of render_templates.cpp."""
    fields = {name: getattr(found.format, name) for name in FORMAT_FIELDS}
    fields = {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
    triggers = [{"type": trigger["type"], "value": trigger["value"]} for trigger in found.format.grammar_triggers]
    return {"prompt": found.prompt, "generation_prompt": found.generation_prompt, **fields, "grammar_triggers": triggers}


def assert_rendered(handle: _native.ChatTemplatesHandle, template: str, conversation: str) -> None:
    recorded = upstream_chat.renderings()[template, conversation]
    if "error" in recorded:
        with pytest.raises(ChatError):
            rendered(handle, REQUESTS[conversation])
    else:
        found, expected = rendering(rendered(handle, REQUESTS[conversation])), recorded["rendering"]
        assert rules(found.pop("grammar")) == rules(expected["grammar"]), conversation
        assert found == {name: value for name, value in expected.items() if name != "grammar"}, conversation


def test_requests_that_fail_are_not_kept() -> None:
    template = natives.source_tree() / upstream_chat.FOLDER / "Qwen-Qwen3-0.6B.jinja"
    with _native.ChatTemplatesHandle(None, template.read_text(encoding="utf-8")) as handle:
        def fail(number: int) -> None:
            function = {"name": f"f{number}", "description": "x" * 500_000, "parameters": {"properties": {"a": {"$ref": "#/nowhere"}}}}
            with pytest.raises(ChatError, match="ref"):
                handle.render([{"role": "user", "content": "hi"}], {"tools": [{"type": "function", "function": function}]})

        fail(0)
        before = resident()
        for number in range(1, 100):
            fail(number)
        assert resident() - before < 25 * 2**20


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def rules(grammar: str) -> str | list[str]:
    """A grammar to compare. llama.cpp numbers and orders some of its rules as a hash table of the C++ library has them, and the
    expected ones come from a program with another such library than a core that was built from source."""
    if _native.build()["provider"] == "prebuilt":
        return grammar
    return sorted(re.sub(r"-\d+", "-N", grammar).split())


def test_what_is_recorded() -> None:
    templates, renderings = upstream_chat.templates(), upstream_chat.renderings()
    assert len(templates) >= 68 and set(renderings) == {(template, name) for template in templates for name in REQUESTS}
    whole = [line["rendering"] for line in renderings.values() if "rendering" in line]
    assert len(whole) > 0.9 * len(renderings)
    assert sum(bool(line["grammar"]) for line in whole) > 500 and sum(bool(line["grammar_triggers"]) for line in whole) > 200
    for template in templates:
        assert "What's the weather in Zürich?" in renderings[template, "plain"]["rendering"]["prompt"], template


@pytest.mark.parametrize("template", upstream_chat.templates())
def test_every_conversation_is_rendered_as_llama_cpp_does(template: str) -> None:
    with _native.ChatTemplatesHandle(None, upstream_chat.source(template)) as handle:
        for conversation in REQUESTS:
            assert_rendered(handle, template, conversation)
        # again, the other way round: now everything may be remembered
        for conversation in reversed(REQUESTS):
            assert_rendered(handle, template, conversation)


def test_the_table_of_formats_is_what_was_found() -> None:
    assert chat_formats.PAGE.read_text(encoding="utf-8").endswith(chat_formats.table())
