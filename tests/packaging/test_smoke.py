"""What every core must do, on any platform: with nothing but its wheel and pytest.

GOLLAMA_TEST_MODEL is the file of SmolLM2 where it cannot be fetched, GOLLAMA_TEST_TINY that of tests/support/tiny.py where it cannot be
written; with both, `pytest --noconftest` runs this file by itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gollama
from gollama import LLM, _native, models

TEXTS = ["the sky", "a blue", "the", "a sky"]


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("GOLLAMA_TEST_TINY")
    if given:
        return Path(given)
    from tests.support import tiny

    return tiny.write(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture
def llm(tiny_path: Path) -> Iterator[LLM]:
    with LLM(tiny_path, context_size=128, threads=1) as llm:
        yield llm


def test_the_libraries_are_those_of_the_manifest() -> None:
    info, build = gollama.version_info(), _native.build()
    assert info.llama_cpp == build["llama_cpp"]["release"]
    assert not build["cpu_variants"] or any(info.cpu_variant in name for name in build["cpu_variants"])


def test_the_cpu_is_there_with_its_memory() -> None:
    cpu = gollama.devices()[-1]
    assert (cpu.name, cpu.backend) == ("CPU", "cpu") and 0 < cpu.memory_free <= cpu.memory_total


def test_a_real_model_answers() -> None:
    with LLM(os.environ.get("GOLLAMA_TEST_MODEL") or models.resolve("smollm2"), context_size=128, threads=1) as llm:
        assert llm.generate("The capital of France is", max_tokens=2, temperature=0).text == " Paris."
        assert llm.chat([{"role": "user", "content": "Say hi."}], max_tokens=4, temperature=0).text


def test_many_at_once_say_what_each_says_alone(llm: LLM) -> None:
    alone = [llm.generate(text, max_tokens=8, temperature=0).tokens for text in TEXTS]
    assert [result.tokens for result in llm.generate(TEXTS, max_tokens=8, temperature=0)] == alone


def test_what_is_streamed_is_the_whole(llm: LLM) -> None:
    whole = llm.generate("the sky", max_tokens=8, temperature=0).text
    assert "".join(chunk.text for chunk in llm.stream("the sky", max_tokens=8, temperature=0)) == whole


def test_a_grammar_holds(llm: LLM) -> None:
    assert llm.generate("the", grammar='root ::= "a" "b" "c"', max_tokens=8).text == "abc"


def test_a_bad_grammar_is_an_exception(llm: LLM) -> None:
    with pytest.raises(gollama.GrammarError):
        llm.generate("the", grammar="root ::= (")
    assert llm.generate("the", max_tokens=1).tokens


def test_a_bad_model_is_an_exception(tmp_path: Path) -> None:
    file = tmp_path / "bad.gguf"
    file.write_bytes(b"GGUF" + bytes(range(256)))
    with pytest.raises(gollama.InvalidModelError):
        gollama.Model(file)


def test_a_bad_template_is_an_exception(tiny_path: Path) -> None:
    with pytest.raises(gollama.ChatError), LLM(tiny_path, context_size=128, threads=1, chat_template="{{ nosuch( }}") as llm:
        llm.chat([{"role": "user", "content": "x"}])


def test_a_backend_that_is_not_there_is_an_exception(tiny_path: Path) -> None:
    with pytest.raises(gollama.BackendError, match="sycl"):
        LLM(tiny_path, backend="sycl")


def test_the_command_line_tells_of_the_machine() -> None:
    result = subprocess.run([sys.executable, "-m", "gollama", "doctor", "--json"], capture_output=True, text=True, timeout=250)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["gollama"] == gollama.__version__ and found["devices"][-1]["name"] == "CPU"
