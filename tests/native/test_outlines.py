"""A model that is elsewhere is estimated by its header alone, and nothing of it stays here."""

from __future__ import annotations

import os
from pathlib import Path

import gguf as upstream
import numpy
import pytest

from gollama import LLM, DownloadError, InvalidModelError, gguf
from gollama.compatibility import check
from gollama.compatibility.outline import outlined
from gollama.gguf import edit, read
from gollama.model import Model
from tests.support.range_server import serving

UNKNOWN = "#sha256=" + "0" * 64  # nothing is downloaded, so nothing is compared with it


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GOLLAMA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def left(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file()]


def test_an_outline_is_estimated_like_the_file(tiny_path: Path, home: Path) -> None:
    here = LLM.estimate(tiny_path, context_size=64, sequences=3)
    with serving(tiny_path.parent) as server:
        elsewhere = LLM.estimate(f"{server.address}/{tiny_path.name}{UNKNOWN}", context_size=64, sequences=3)
    rows = [[(row.device, row.weights, row.context, row.compute) for row in found.devices] for found in (here, elsewhere)]
    assert rows[0] == rows[1] and elsewhere.problem is None and left(home) == []


def test_an_outline_takes_up_what_its_header_takes(tiny_path: Path, home: Path) -> None:
    file = read(tiny_path)
    with outlined([file], ["a/b/tiny.gguf"]) as path:
        assert path.name == "tiny.gguf" and path.stat().st_size == file.size
        assert path.read_bytes()[: file.header_size] == tiny_path.read_bytes()[: file.header_size]
        assert not any(path.read_bytes()[file.data_offset :])
    assert left(home) == []


def test_a_model_of_5_gb_is_estimated_from_its_header(tmp_path: Path, home: Path) -> None:
    """Layers as wide as those of a model of 7 billion weights, whose data is a hole."""
    path = tmp_path / "large.gguf"
    writer = upstream.GGUFWriter(path, "llama")
    width, layers, hidden, vocabulary = 4096, 24, 14336, 32000
    writer.add_context_length(8192)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(32)
    writer.add_head_count_kv(8)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocabulary)
    writer.add_tokenizer_model("none")
    q8 = upstream.GGMLQuantizationType.Q8_0

    def tensor(name: str, *shape: int) -> None:
        kind = None if "norm" in name else q8
        size = 4 * shape[0] if kind is None else shape[0] * shape[1] // 32 * 34
        writer.add_tensor_info(name, shape, numpy.dtype(numpy.float32), size, kind)

    tensor("token_embd.weight", vocabulary, width)
    tensor("output.weight", vocabulary, width)
    tensor("output_norm.weight", width)
    for layer in range(layers):
        for name, *shape in (("attn_q", width, width), ("attn_k", width // 4, width), ("attn_v", width // 4, width),
                             ("attn_output", width, width), ("ffn_gate", hidden, width), ("ffn_up", hidden, width),
                             ("ffn_down", width, hidden), ("attn_norm", width), ("ffn_norm", width)):
            tensor(f"blk.{layer}.{name}.weight", *shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(path, read(path, strict=False).data_end)
    with serving(tmp_path) as server:
        found = check(f"{server.address}/{path.name}{UNKNOWN}", context_size=4096, backend="cpu")
        sent = server.sent
    (row,) = found.estimate.devices
    assert found.size > 5 * 10**9 and sent < found.size * 0.001 and found.bytes_read == sent
    assert row.weights == pytest.approx(sum(tensor.size for tensor in read(path).tensors), rel=1e-3)
    assert row.context == 4096 * layers * 2 * 1024 * 2 and left(home) == []
    embeddings = vocabulary * width // 32 * 34  # of which a row is read, as they are not the output's
    assert found.speed.bytes_per_token == pytest.approx(row.weights - embeddings + row.context / 2, rel=1e-3)


def test_a_remote_file_that_is_cut_off_is_refused(tiny_path: Path, tmp_path: Path, home: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(tiny_path.read_bytes()[:-100])
    with serving(tmp_path) as server:
        with pytest.raises(InvalidModelError, match="cut off"):
            LLM.estimate(f"{server.address}/cut.gguf{UNKNOWN}")
        with pytest.raises(DownloadError):
            LLM.estimate(f"{server.address}/missing.gguf{UNKNOWN}")
    assert left(home) == []


def test_what_is_here_is_checked_without_a_network(tiny_path: Path) -> None:
    found = check(tiny_path, context_size=64)
    assert found.is_here and found.fits and found.bytes_read == 0 and found.quantizations == ()
    assert found.size == tiny_path.stat().st_size and found.speed.kind == "fluent"


def test_edited_metadata_is_what_llama_cpp_reads(tiny_path: Path, tmp_path: Path) -> None:
    edit(tiny_path, tmp_path / "new.gguf", set={"general.name": "Other", "llama.context_length": 96})
    with Model(tmp_path / "new.gguf") as model, Model(tiny_path) as before:
        assert model.metadata["general.name"] == "Other" and model.n_ctx_train == 96 and model.n_params == before.n_params


def test_findings_and_llama_cpp_agree_on_a_file_with_another_template(tiny_path: Path, tmp_path: Path) -> None:
    gguf.edit(tiny_path, tmp_path / "t.gguf", set={"tokenizer.chat_template": "{{ messages }}"})
    with Model(tmp_path / "t.gguf", vocab_only=True) as model:
        (template,) = gguf.inspect(tmp_path / "t.gguf").templates
        assert model.chat_template() == template.text == "{{ messages }}"
