"""Tools for the templates in llama.cpp's tree that know none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gollama import Model
from gollama.chat import ChatFormatter, ChatOptions, Message
from tests.support import tiny, upstream_chat
from tests.support.conversations import TOOLS

NAME = TOOLS[0]["function"]["name"]
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": NAME, "arguments": '{"x": 1}'}}


def without_tools() -> list[str]:
    return [name for name in upstream_chat.templates() if not upstream_chat.renderings()[name, "tools, required"]
            .get("rendering", {"grammar": ""})["grammar"]]


def test_there_are_such_templates() -> None:
    assert len(without_tools()) >= 6


@pytest.mark.parametrize("template", without_tools())
def test_tools_are_told_of_called_and_answered(template: str, tmp_path: Path) -> None:
    with Model(tiny.write(tmp_path / "model.gguf")) as model:
        formatter = ChatFormatter(model, upstream_chat.source(template))
        asked: list[Message] = [{"role": "user", "content": "What now?"}]
        prompt = formatter.format(asked, ChatOptions(tools=TOOLS, tool_choice="required"))
        assert NAME in prompt.text and "What now?" in prompt.text and NAME in prompt.grammar and not prompt.grammar_lazy
        thought = "I think.</think>\n\n" if prompt.generation_prompt.strip().endswith("<think>") else ""
        found = re.search(r'^tool-call ::= "([^"]*)" .* "([^"]*)"$', prompt.grammar, re.MULTILINE)
        assert found  # for one of them llama.cpp knows what its model was trained on
        opening, closing = (sign.replace("\\n", "\n") for sign in found.groups())
        read = prompt.parser.parse(f'{thought}{opening}{{"name": "{NAME}", "arguments": {{"x": 1}}}}{closing}', partial=False)
        assert [(call["name"], call["arguments"].replace(" ", "")) for call in read["tool_calls"]] == [(NAME, '{"x":1}')]
        said: list[Message] = [*asked, {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "abcdefghi", "content": "It is done."}]
        later = formatter.format(said, ChatOptions(tools=TOOLS))
        assert later.grammar_lazy and "It is done." in later.text and '"x": 1' in later.text
        formatter.close()
