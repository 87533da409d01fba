"""State files on a real model: saved, loaded, and refused if anything is wrong with them."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gollama import LLM, ClosedError, StateError, states
from tests.support.answers import assert_same_or_tied

PROMPTS = ["The harbour lay quiet in the morning. Anna carried two baskets of apples along the pier, and counted the boats.",
           "In a laboratory far away, three engineers looked at a small machine that would not start, and argued about it."]


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM("smollm2", context_size=512, threads=1, max_sequences=2) as llm:
        yield llm


@pytest.fixture(scope="module")
def saved(llm: LLM, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("state") / "state"
    llm.generate(PROMPTS, max_tokens=1)
    assert llm.save_state(path) == 2
    return path.read_bytes()


@pytest.fixture
def path(saved: bytes, tmp_path: Path) -> Path:
    (tmp_path / "state").write_bytes(saved)
    return tmp_path / "state"


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and what follows it."""
    header, _, rest = data[len(states.MAGIC) :].partition(b"\n")
    return json.loads(header), rest


def whole(header: dict[str, Any], rest: bytes) -> bytes:
    return states.MAGIC + json.dumps(header).encode() + b"\n" + rest


def signed(header: dict[str, Any], rest: bytes) -> bytes:
    """The file with the digests that belong to it."""
    at = 0
    for entry in header["prefixes"]:
        end = at + 4 * entry["tokens"] + entry["bytes"]
        entry["sha256"] = states.digest(entry, rest[at:end])
        at = end
    return whole(header, rest)


def test_what_was_saved_is_taken_up(llm: LLM, path: Path) -> None:
    with LLM("smollm2", context_size=512, threads=1, max_sequences=1) as other:
        assert other.load_state(path) == 2
        for prompt in PROMPTS:
            completion = other.generate(prompt, max_tokens=12, temperature=0, ignore_eos=True)
            assert completion.usage.cached_tokens == completion.usage.prompt_tokens - 1
            fresh = llm.generate(prompt, max_tokens=12, temperature=0, ignore_eos=True, cache_prompt=False)
            assert_same_or_tied(llm.model, llm.tokenize(prompt), fresh.tokens, completion.tokens)


@pytest.mark.parametrize("sequences", [1, 4])
def test_the_number_of_sequences_may_be_another(path: Path, sequences: int) -> None:
    with LLM("smollm2", context_size=512, threads=1, max_sequences=4) as other:
        other.generate(["a"] * sequences, max_tokens=1)
        other.load_state(path)
        assert other.generate(PROMPTS[0], max_tokens=1).usage.cached_tokens > 20


def test_what_does_not_fit_the_cache_is_left_out(path: Path) -> None:
    with LLM("smollm2", context_size=512, threads=1, prefix_cache=0) as other:
        assert other.load_state(path) == 0
        assert other.generate(PROMPTS[0], max_tokens=1).usage.cached_tokens == 0


def test_saving_again_gives_the_same_prefixes(path: Path, tmp_path: Path) -> None:
    with LLM("smollm2", context_size=512, threads=1) as other:
        other.load_state(path)
        assert other.save_state(tmp_path / "again") == 2
        assert parts((tmp_path / "again").read_bytes()) == parts(path.read_bytes())


def test_an_empty_cache_makes_a_file_too(tmp_path: Path) -> None:
    with LLM("smollm2", context_size=512, threads=1) as other:
        assert other.save_state(tmp_path / "state") == other.load_state(tmp_path / "state") == 0


def change(field: str, value: object) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        header, rest = parts(data)
        header["prefixes"][0][field] = value
        return whole(header, rest)

    return changed


def with_tokens(token: int) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        header, rest = parts(data)
        return signed(header, array("i", [token]).tobytes() + rest[4:])

    return changed


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "another file": lambda data: b"GGUF" + data,
    "of another version": lambda data: data.replace(b"gollama state 1", b"gollama state 9", 1),
    "no header": lambda data: states.MAGIC,
    "header cut short": lambda data: data[:60],
    "header is a list": lambda data: states.MAGIC + b"[]\n",
    "header is nested": lambda data: states.MAGIC + b"[" * 100_000 + b"\n",
    "header is no text": lambda data: states.MAGIC + b"\xff\xfe\n",
    "prefixes are a mapping": lambda data: whole({**parts(data)[0], "prefixes": {}}, b""),
    "prefixes are no list": lambda data: whole({**parts(data)[0], "prefixes": 7}, b""),
    "a prefix is no mapping": lambda data: whole({**parts(data)[0], "prefixes": [7]}, b""),
    "a field too many": change("more", 1),
    "a negative size": change("bytes", -1),
    "a huge size": change("bytes", 2**70),
    "huge tokens": change("tokens", 2**70),
    "no tokens": change("tokens", 0),
    "a size that is true": change("bytes", True),
    "sequences of another number": change("sequences", 3),
    "no sequences": change("sequences", 0),
    "another partial size": change("partial", 8),
    "a huge partial size": change("partial", 2**70),
    "another first position": change("first", 5),
    "in the middle": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
    "in the last byte": lambda data: data[:-1] + bytes([data[-1] ^ 128]),
    "truncated by a byte": lambda data: data[:-1],
    "truncated by half": lambda data: data[: len(data) // 2],
    "something appended": lambda data: data + b"\0",
    "a token out of the vocabulary": with_tokens(2**30),
    "a negative token": with_tokens(-1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_and_changes_nothing(llm: LLM, path: Path, damage: str) -> None:
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    llm.clear_cache()
    with pytest.raises(StateError, match="state"):
        llm.load_state(path)
    assert llm.stats().saved_prefixes == 0
    assert llm.generate(PROMPTS[0], max_tokens=2, ignore_eos=True).usage.completion_tokens == 2


def test_another_model_s_file_is_refused(path: Path) -> None:
    with LLM("gemma3:270m", context_size=512, threads=1) as other:
        with pytest.raises(StateError, match="was saved with another model"):
            other.load_state(path)


def test_other_settings_are_refused(path: Path) -> None:
    with LLM("smollm2", context_size=512, threads=1, flash_attention="off") as other:
        with pytest.raises(StateError, match="other settings"):
            other.load_state(path)


def test_a_prefix_longer_than_the_context_is_refused(llm: LLM, tmp_path: Path) -> None:
    llm.generate("word " * 300, max_tokens=1)
    llm.save_state(tmp_path / "state")
    llm.clear_cache()
    with LLM("smollm2", context_size=256, threads=1) as other:
        with pytest.raises(StateError, match="does not fit this model and its context of 256 tokens"):
            other.load_state(tmp_path / "state")


def test_a_file_that_is_not_there_is_an_error(llm: LLM, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        llm.load_state(tmp_path / "none")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(llm: LLM, path: Path, saved: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        llm.save_state(path)
    assert path.read_bytes() == saved and os.listdir(path.parent) == ["state"]


def test_a_folder_that_is_not_there_is_an_error(llm: LLM, tmp_path: Path) -> None:
    with pytest.raises(OSError):
        llm.save_state(tmp_path / "none" / "state")
    assert os.listdir(tmp_path) == []


def test_a_saved_file_replaces_the_old_one_whole(llm: LLM, tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"old" * 10_000_000)
    llm.generate(PROMPTS, max_tokens=1)
    llm.save_state(path)
    assert llm.load_state(path) == 2 and stat.S_ISREG(path.stat().st_mode)


def test_a_closed_llm_saves_and_loads_nothing(tiny_path: Path, tmp_path: Path) -> None:
    other = LLM(tiny_path, context_size=64, threads=1)
    other.save_state(tmp_path / "state")
    other.close()
    for call in (other.save_state, other.load_state):
        with pytest.raises(ClosedError):
            call(tmp_path / "state")


def test_the_digest_is_that_of_the_tokens_and_the_memory(saved: bytes) -> None:
    header, rest = parts(saved)
    entry = header["prefixes"][0]
    assert signed(header, rest) == saved and len(entry["sha256"]) == hashlib.sha256().digest_size * 2
