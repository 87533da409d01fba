"""Conversations: turns that grow, are taken back, forked, saved, and that run out of room."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gollama import LLM, AsyncLLM, ChatError, ContextOverflowError, OptionError, SamplingParams


def test_a_chat_of_three_turns(llm: LLM) -> None:
    chat = llm.conversation(system="You are a helpful assistant.")
    for text in ("My name is Ada.", "I like tea.", "What is my name?"):
        reply = chat.send(text, temperature=0, max_tokens=24)
        assert reply.text
    assert [message["role"] for message in chat.messages] == ["system"] + ["user", "assistant"] * 3
    assert chat.messages[-1]["content"] == reply.text


def test_a_turn_costs_only_what_is_new(smollm2: LLM) -> None:
    chat = smollm2.conversation(system="Be brief. " + "You know many things about the sea. " * 20)
    first = chat.send("Hello there.", temperature=0, max_tokens=12)
    second = chat.send("And what else?", temperature=0, max_tokens=4)
    new = second.usage.prompt_tokens - second.usage.cached_tokens
    assert second.usage.cached_tokens >= first.usage.prompt_tokens and new < 40


def test_streams_take_part(smollm2: LLM) -> None:
    chat = smollm2.conversation()
    text = "".join(chunk.text for chunk in chat.stream("Count to three.", temperature=0, max_tokens=12))
    assert chat.messages == [{"role": "user", "content": "Count to three."}, {"role": "assistant", "content": text}]
    for _ in chat.stream("Go on.", temperature=0, max_tokens=12):
        break  # left before its end
    assert len(chat.messages) == 2


def test_a_turn_can_be_taken_back(smollm2: LLM) -> None:
    chat = smollm2.conversation(system="Be brief.")
    chat.send("One?", temperature=0, max_tokens=3)
    before = list(chat.messages)
    chat.send("Two?", temperature=0, max_tokens=3)
    assert chat.undo() == "Two?" and chat.messages == before
    assert chat.undo() == "One?" and chat.messages == [{"role": "system", "content": "Be brief."}]
    with pytest.raises(ChatError, match="no turn to take back"):
        chat.undo()


def test_a_conversation_comes_back_from_a_file(smollm2: LLM, tmp_path: Path) -> None:
    chat = smollm2.conversation(system="Sei knapp. 🙂")
    chat.send("Hello?", temperature=0, max_tokens=5)
    chat.save(tmp_path / "chat.json")
    other = smollm2.conversation()
    other.load(tmp_path / "chat.json")
    assert other.messages == chat.messages
    for content in (b"{", b"[]", b'{"format": "gollama conversation 1", "messages": [{"role": "robot", "content": ""}]}', b"\xff"):
        (tmp_path / "chat.json").write_bytes(content)
        with pytest.raises(ChatError):
            other.load(tmp_path / "chat.json")
        assert other.messages == chat.messages


def test_whole_old_turns_make_room_and_the_system_message_stays(tiny_path: Path) -> None:
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    with LLM(tiny_path, context_size=256, threads=1, chat_template=template) as llm:
        chat = llm.conversation(system="the system", overflow="drop_turns")
        sizes = [chat.send(f"turn {number} of the sea and the sky", max_tokens=16, ignore_eos=True).usage.prompt_tokens
                 for number in range(12)]
        assert max(sizes) + 16 <= 256 and sizes[-1] > 100
        assert len(chat.messages) == 25  # nothing is forgotten
        with pytest.raises(ContextOverflowError, match="the last turn alone"):
            chat.send("the sea " * 300)
        assert len(chat.messages) == 25
        assert llm.conversation(overflow="drop_turns").send("the sea", max_tokens=1000).tokens  # no more than half is kept free
        chat.send("the sea", params=SamplingParams(max_tokens=100))
        assert chat.send("the sky", max_tokens=100).usage.prompt_tokens <= 156
        with pytest.raises(OptionError, match="max_tokens must be"):
            chat.send("the sea", max_tokens="many")
        plain = llm.conversation(system="the system")
        with pytest.raises(ContextOverflowError):
            plain.send("the sea " * 300)
        with pytest.raises(OptionError, match="overflow must be one of"):
            llm.conversation(overflow="forget")


def test_tasks_have_conversations_too(smollm2: LLM, tmp_path: Path) -> None:
    async def main() -> None:
        chat = AsyncLLM(smollm2).conversation(system="Be brief.")
        reply = await chat.send("What is the capital of Italy?", temperature=0, max_tokens=12)
        other = chat.fork()
        text = "".join([chunk.text async for chunk in chat.stream("And of Spain?", temperature=0, max_tokens=12)])
        assert [message["content"] for message in chat.messages[2:]] == [reply.text, "And of Spain?", text]

        def rain(city: str) -> str:
            """Whether it rains."""
            return "no"

        await other.send("Does it rain in Rome?", tools=[rain], tool_choice="required", max_rounds=1, temperature=0, max_tokens=60)
        assert "tool" in [message["role"] for message in other.messages]
        other.save(tmp_path / "chat.json")
        chat.load(tmp_path / "chat.json")
        assert chat.messages == other.messages
        with pytest.raises(ChatError):
            await chat.send(5, max_tokens=1)  # type: ignore[arg-type]
        assert chat.messages == other.messages

    asyncio.run(main())
