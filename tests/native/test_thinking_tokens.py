"""How many tokens are thinking, of the answers of llama.cpp's own tests."""

from __future__ import annotations

import pytest

from gollama import Model
from gollama.chat.answers import ChunkReader, answered
from gollama.chat.formatter import ChatFormatter
from gollama.chat.options import ChatOptions
from gollama.results import Chunk, Completion, Timings, Usage
from tests.support import upstream_chat
from tests.support.upstream_chat import Case

FIRST_BYTE = 3  # of the miniature's vocabulary
# in some of their answers
UNTOLD = {"Apriel-1.6-15b-Thinker-fixed", "Kimi-K2-Thinking", "Qwen3.5-4B", "muse-glimmer", "openai-gpt-oss-120b"}


def thinkers() -> list[str]:
    return [name for name, cases in upstream_chat.cases().items() if any(case.parsed["reasoning_content"] for case in cases)]


def completion_of(case: Case) -> Completion:
    """With a token for each byte."""
    tokens = [FIRST_BYTE + byte for byte in case.input.encode()]
    usage = Usage(1, len(tokens))
    return Completion(case.input, tokens, "length" if case.partial else "stop", usage, Timings(0, 0, 0, 1, len(tokens)))


@pytest.mark.parametrize("template", thinkers())
def test_the_thinking_s_tokens_are_those_up_to_its_end(tiny_model: Model, template: str) -> None:
    formatter = ChatFormatter(tiny_model, upstream_chat.source(template))
    for case in upstream_chat.cases()[template]:
        prompt = formatter.format(case.request["messages"], ChatOptions(tools=case.request.get("tools") or ()))
        completion = completion_of(case)
        reply = answered(prompt, completion)
        count = reply.reasoning_tokens
        if count is None:
            assert template.removesuffix(".jinja") in UNTOLD
        elif not reply.reasoning:
            assert count == 0
        else:
            thought, rest = (part.decode() for part in (case.input.encode()[:count], case.input.encode()[count:]))
            end, *others = prompt.format.thinking_ends
            assert reply.reasoning.strip() in thought and (thought.endswith(end) or rest.startswith(tuple(others)) or not rest)
            assert not any(mark in thought[:-1] for mark in (end, *others))
        chunk = Chunk(case.input, completion.tokens, completion.finish_reason, completion.usage, completion.timings)
        read = ChunkReader(prompt).read(chunk)
        assert read is not None and read.completion is not None and read.completion.reasoning_tokens == count
    formatter.close()
