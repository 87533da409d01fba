"""Reasoning apart from text, continued answers, templates from elsewhere, choices, infill."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest

from gollama import LLM, ChatError, ContextOverflowError, NativeError, OptionError

ASK = [{"role": "user", "content": "Is the sky blue?"}]
# a template as of models that think, for one that does not know how to
THINKING = """
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.role == 'assistant' and message.reasoning_content -%}
{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' -}}
{%- endif -%}
{{- message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if enable_thinking is defined and enable_thinking is false -%}{{- '<think>\\n\\n</think>\\n\\n' -}}
{%- else -%}{{- '<think>\\n' -}}{%- endif -%}
{%- endif -%}""".strip()


@pytest.fixture(scope="module")
def thinker() -> LLM:  # type: ignore[misc]
    with LLM("smollm2", context_size=1024, threads=1, chat_template=THINKING) as llm:
        yield llm


def test_thinking_is_limited_and_kept_apart(thinker: LLM) -> None:
    reply = thinker.chat(ASK, thinking=6, temperature=0, max_tokens=30, ignore_eos=True)
    assert reply.reasoning and reply.text and "think>" not in reply.text + reply.reasoning
    assert len(thinker.tokenize(reply.reasoning)) <= 7
    assert reply.message["reasoning_content"] == reply.reasoning


def test_the_stream_keeps_it_apart_too(thinker: LLM) -> None:
    whole = thinker.chat(ASK, thinking=6, temperature=0, max_tokens=30, ignore_eos=True)
    chunks = list(thinker.stream_chat(ASK, thinking=6, temperature=0, max_tokens=30, ignore_eos=True))
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert "".join(chunk.reasoning for chunk in chunks) == whole.reasoning
    assert chunks[-1].completion is not None and chunks[-1].completion.text == whole.text


def test_its_tokens_are_counted(thinker: LLM) -> None:
    reply = thinker.chat(ASK, thinking=6, temperature=0, max_tokens=30, ignore_eos=True)
    count = reply.reasoning_tokens
    assert count is not None and 0 < count < reply.usage.completion_tokens
    assert "</think>" in thinker.detokenize(reply.tokens[:count]) and "</think>" not in thinker.detokenize(reply.tokens[: count - 1])
    *_, last = thinker.stream_chat(ASK, thinking=6, temperature=0, max_tokens=30, ignore_eos=True)
    assert last.completion is not None and last.completion.reasoning_tokens == count
    assert thinker.chat(ASK, temperature=0, max_tokens=4).reasoning_tokens == 4  # of which none ends it
    assert thinker.chat(ASK, thinking=False, temperature=0, max_tokens=4).reasoning_tokens == 0


def test_without_thinking_all_is_text(thinker: LLM) -> None:
    assert thinker.render_chat(ASK, thinking=False).text.endswith("<think>\n\n</think>\n\n")
    reply = thinker.chat(ASK, thinking=False, temperature=0, max_tokens=10)
    assert reply.text and not reply.reasoning


def test_a_schema_begins_behind_the_thinking(thinker: LLM) -> None:
    schema = {"type": "object", "properties": {"blue": {"type": "boolean"}}, "required": ["blue"]}
    reply = thinker.chat(ASK, schema=schema, thinking=6, temperature=0, max_tokens=60)
    assert reply.reasoning and isinstance(reply.parsed["blue"], bool)


def test_the_prompt_may_end_with_the_messages(smollm2: LLM) -> None:
    with_it, without = (smollm2.render_chat(ASK, add_generation_prompt=wanted) for wanted in (True, False))
    assert with_it.text == without.text + "<|im_start|>assistant\n"


def test_reasoning_of_earlier_answers_is_rendered(thinker: LLM) -> None:
    said = {"role": "assistant", "content": "Yes.", "reasoning": "It is noon."}
    assert "<think>\nIt is noon.\n</think>" in thinker.render_chat([*ASK, said, *ASK]).text


@pytest.mark.parametrize("part", [True, "content"])
def test_an_answer_goes_on_where_it_was_left(smollm2: LLM, part: bool | str) -> None:
    messages = [*ASK, {"role": "assistant", "content": "The sky is"}]
    prompt = smollm2.render_chat(messages, continue_final_message=part)
    assert prompt.text.endswith("<|im_start|>assistant\nThe sky is")
    reply = smollm2.chat(messages, continue_final_message=part, temperature=0, max_tokens=8)
    assert reply.text and not reply.text.startswith("The sky is")
    chunks = smollm2.stream_chat(messages, continue_final_message=part, temperature=0, max_tokens=8)
    assert "".join(chunk.text for chunk in chunks) == reply.text


def test_only_an_assistants_message_goes_on(smollm2: LLM) -> None:
    with pytest.raises(ChatError, match="the last message must be an assistant's"):
        smollm2.chat(ASK, continue_final_message=True)


def test_a_budget_needs_thinking(smollm2: LLM) -> None:
    with pytest.raises(ChatError, match="no thinking to limit"):
        smollm2.chat(ASK, thinking=5)
    for wrong in (-1, "yes", 1.5):
        with pytest.raises(OptionError, match="thinking must be"):
            smollm2.chat(ASK, thinking=wrong)


def test_templates_come_as_text_file_or_name(tmp_path: Path) -> None:
    file = tmp_path / "chat.jinja"
    file.write_text("{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{{ mood }}", encoding="utf-8")
    for template, wanted in ((file, "[user] Is the sky blue?\n"), (str(file), "[user] Is the sky blue?\n"),
                             ("{{ messages[0].content }}!{{ mood }}", "Is the sky blue?!"),
                             ("vicuna", "USER: Is the sky blue?\nASSISTANT:"),
                             ("chatml", "<|im_start|>user\nIs the sky blue?<|im_end|>\n")):
        with LLM("smollm2", context_size=256, threads=1, chat_template=template) as llm:
            assert llm.render_chat(ASK).text.startswith(wanted)
            if template not in ("vicuna", "chatml"):
                assert llm.render_chat(ASK, template_kwargs={"mood": "happy"}).text.endswith("happy")
            if template == "vicuna":
                assert llm.chat(ASK, max_tokens=3).tokens
                with pytest.raises(ChatError, match="know no tools"):
                    llm.chat(ASK, template_kwargs={"mood": 1})
    with LLM("smollm2", context_size=256, threads=1, chat_template="vikunja") as llm, pytest.raises(ChatError, match="is no template"):
        llm.chat(ASK)


def test_choices_have_probabilities(llm: LLM) -> None:
    reply = llm.chat([{"role": "user", "content": "The capital of France is"}], choices=["Paris", "a banana", "Par"], temperature=0)
    assert reply.text == max(reply.probabilities, key=lambda one: reply.probabilities[one]) and reply.text in reply.probabilities
    assert math.isclose(sum(reply.probabilities.values()), 1) and reply.finish_reason == "stop"
    drawn = [llm.chat(ASK, choices=["yes", "no"], temperature=1, seed=seed).text for seed in range(12)]
    assert drawn == [llm.chat(ASK, choices=["yes", "no"], temperature=1, seed=seed).text for seed in range(12)]


def test_choices_are_weighed_behind_the_thinking(thinker: LLM) -> None:
    assert thinker.render_chat(ASK, choices=["yes", "no"]).text.endswith("assistant\n<think>\n\n</think>\n\n")
    always = THINKING.replace("enable_thinking is false", "1 > 2")
    with LLM("smollm2", context_size=256, threads=1, chat_template=always) as llm:
        prompt = llm.render_chat(ASK, choices=["yes", "no"])
        assert prompt.text.endswith("assistant\n<think>\n</think>") and llm.detokenize(prompt.tokens[-4:]).endswith("</think>")
        assert llm.chat(ASK, choices=["yes", "no"], temperature=0).text in ("yes", "no")


def test_choices_longer_than_the_context_are_told(tiny_llm: LLM) -> None:
    with pytest.raises(ContextOverflowError, match="choices"):
        tiny_llm.chat(ASK, choices=["yes", "no " * 200])


def test_wrong_choices_are_told(smollm2: LLM) -> None:
    for wrong in ("yes", ["a", "a"], ["a", ""], [1]):
        with pytest.raises(OptionError, match="choices"):
            smollm2.chat(ASK, choices=wrong)
    with pytest.raises(OptionError, match="does not come piece by piece"):
        smollm2.stream_chat(ASK, choices=["a", "b"])


def test_infill_needs_a_model_made_for_it(smollm2: LLM, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    special = smollm2.model.special_tokens
    if {"fim_pre", "fim_suf", "fim_mid"} <= set(special):
        tokens = smollm2.intake.infill_prompt("def add(a, b):\n", "\n    return c\n")
        assert [token for token in tokens if token in special.values()] == [special["fim_pre"], special["fim_suf"], special["fim_mid"]]
        assert smollm2.infill("def add(a, b):\n", "\n    return c\n", max_tokens=8, temperature=0).tokens
    else:
        with pytest.raises(NativeError, match="cannot fill in the middle"):
            smollm2.infill("def add(a, b):\n", "\n    return c\n")
