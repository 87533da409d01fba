"""show, inspect, estimate and gguf, run as users run them; real models read like the gguf package reads them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gollama import gguf, models
from tests.support import gguf_bytes as raw
from tests.support.gguf_reader import assert_same
from tests.support.range_server import serving

DIGEST = "#sha256=" + "0" * 64
HOSTILE = "evil\x1b]0;owned\x07\x9b31m\u202e"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "gollama", *arguments], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "COLUMNS": "160"})


# the reader of the gguf package takes a second for 10,000 strings
QUICK = ("bert-bge", "llama-spm", "phi-3")
SLOW = ("aquila", "baichuan", "command-r", "deepseek-coder", "deepseek-llm", "falcon", "gemma-4", "gpt-2", "gpt-neox", "llama-bpe", "mpt",
        "nomic-bert-moe", "qwen2", "qwen35", "refact", "starcoder")


def test_a_real_model_is_what_the_gguf_package_reads() -> None:
    path = models.resolve("smollm2")
    assert_same(gguf.read(path), path)


@pytest.mark.slow
def test_another_real_model_is_what_the_gguf_package_reads() -> None:
    path = models.resolve("gemma3:270m")
    assert_same(gguf.read(path), path)


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_upstream_s_vocabularies_are_read_alike(source_tree: Path, name: str) -> None:
    path = source_tree / "models" / f"ggml-vocab-{name}.gguf"
    assert_same(gguf.read(path), path)


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_upstream_s_vocabularies_look_harmless(source_tree: Path, name: str) -> None:
    found = gguf.inspect(source_tree / "models" / f"ggml-vocab-{name}.gguf")
    assert found.kind == "vocabulary" and found.findings == ()


def test_real_models_look_harmless(model_path: Path) -> None:
    found = gguf.inspect(model_path)
    assert found.kind == "model" and found.findings == () and 1 < found.bits_per_weight < 16


def test_inspect_tells_shares_tokens_and_templates() -> None:
    found = json.loads(run("inspect", "smollm2", "--json", "--template", "--tensors").stdout)
    assert found["findings"] == [] and found["tensor_count"] == len(found["tensors"]) == 272 and found["file_type"] == "Q4_1"
    assert found["vocabulary"]["special"]["bos"] == {"id": 1, "text": "<|im_start|>"} and "<|im_start|>" in found["templates"]["default"]
    assert sum(each["share"] for each in found["types"]) == pytest.approx(1)
    text = run("inspect", "smollm2", "--tensors", "--template").stdout
    for word in ("Q4_1 69%", "blk.29.ffn_up.weight", "576 × 1536", "--- template default ---", "nothing looks wrong"):
        assert word in text


def test_in_a_pipe_each_key_has_one_line() -> None:
    facts = json.loads(run("show", "smollm2", "--json").stdout)
    keys = [*(key for key in facts if key != "metadata"), *facts["metadata"]]
    assert [line.split()[0] for line in run("show", "smollm2").stdout.splitlines()] == ["key", *keys]


def test_of_a_model_elsewhere_the_header_is_read(model_path: Path, tmp_path: Path) -> None:
    with serving(model_path.parent) as server:
        address = f"{server.address}/{model_path.name}{DIGEST}"
        facts = json.loads(run("show", address, "--json").stdout)
        assert server.sent <= 0.02 * model_path.stat().st_size
        assert facts["parameters"] == gguf.inspect(model_path).parameters and facts["metadata"]["general.type"] == "model"
        found = json.loads(run("estimate", address, "--json", "--backend", "cpu", "-c", "1024").stdout)
        assert found["fits"] and not found["is_here"] and found["context_size"] == 1024 and found["size"] == model_path.stat().st_size
        told = run("estimate", address, "--backend", "cpu").stdout
    assert "fits" in told and "tokens/s" in told and f"of {model_path.name}" in told


def test_control_characters_never_reach_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "evil.gguf"
    path.write_bytes(raw.whole(
        [raw.string("general.architecture", HOSTILE), raw.string("general.name", HOSTILE), raw.string(HOSTILE, HOSTILE),
         raw.string("tokenizer.ggml.model", HOSTILE), raw.strings("tokenizer.ggml.tokens", [HOSTILE]),
         raw.uint32("tokenizer.ggml.bos_token_id", 0), raw.string("tokenizer.chat_template", HOSTILE),
         raw.string(f"tokenizer.chat_template.{HOSTILE}", HOSTILE)],
        [raw.tensor(HOSTILE, [8])], data=32))
    file = str(path)
    for arguments in (("show", file), ("show", file, "--json"), ("inspect", file, "--tensors", "--template"), ("estimate", file),
                      ("inspect", file, "--json", "--tensors", "--template"), ("gguf", "remove", file, f"{file}.new", f"{HOSTILE}x")):
        result = run(*arguments)
        printed = result.stdout + result.stderr
        assert "evil" in printed and not set(printed) & set("\x1b\x07\x9b\u202e")


def test_metadata_is_set_removed_and_renamed(tmp_path: Path) -> None:
    (tmp_path / "template.jinja").write_text("{{ messages }}")
    first, second, third = (str(tmp_path / f"{number}.gguf") for number in range(3))
    tiny = tmp_path / "tiny.gguf"
    tiny.write_bytes(raw.whole([raw.string("general.architecture", "llama"), raw.string("general.name", "5")]))
    result = run("gguf", "set", str(tiny), first, "general.name=12", "x.n=3", f"tokenizer.chat_template=@{tmp_path}/template.jinja",
                 "x.list=[1, 2]")
    assert result.returncode == 0 and result.stdout.strip() == first
    metadata = gguf.read(first).metadata
    assert (metadata["general.name"], metadata["x.n"], metadata["tokenizer.chat_template"]) == ("12", 3, "{{ messages }}")
    assert metadata["x.list"].tolist() == [1, 2]
    assert run("gguf", "remove", first, second, "x.n").returncode == 0 and "x.n" not in gguf.read(second).metadata
    assert run("gguf", "rename", second, third, "x.list=x.other").returncode == 0 and "x.other" in gguf.read(third).metadata
    assert run("gguf", "set", first, str(tmp_path / "t.gguf"), "x.new=7", "--type", "uint8").returncode == 0
    assert gguf.read(tmp_path / "t.gguf").metadata.fields["x.new"].type == "uint8"


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (("inspect", __file__), 1, "not in GGUF format"),
    (("inspect", "no/such.gguf"), 1, "No such file"),
    (("gguf", "set", "{tiny}", "{new}", "nonsense"), 2, "not KEY=VALUE"),
    (("gguf", "set", "{tiny}", "{tiny}", "a=1"), 1, "is there already"),
    (("gguf", "remove", "{tiny}", "{new}", "nope"), 1, "has no metadata key 'nope'"),
    (("gguf", "set", "{tiny}", "{new}", "a=1", "--type", "u8"), 1, "must be one of uint8"),
])
def test_failures_are_one_line_and_a_code(tmp_path: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    tiny = tmp_path / "tiny.gguf"
    tiny.write_bytes(raw.whole([raw.string("general.architecture", "llama")]))
    result = run(*(word.format(tiny=tiny, new=tmp_path / "new.gguf") for word in arguments))
    assert result.returncode == code and message in result.stderr and result.stderr.count("\n") == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["tiny.gguf"]

