"""Headers over HTTP ranges, from a server on this machine."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from unittest import mock

import pytest

from gollama import DownloadError, InvalidModelError, ModelNotFoundError
from gollama.models import parse, userfile
from gollama.models.lookup import Lookup
from gollama.models.names import HubSource, UrlSource
from gollama.models.remote import located, read_headers, remote_source
from tests.support import gguf_bytes as raw
from tests.support.range_server import serving

TOKENS, MERGES = 262_144, 514_906  # as Gemma 4 has
DIGEST = "#sha256=" + "0" * 64


def source(address: str, name: str) -> HubSource | UrlSource:
    found = located(f"{address}/{name}{DIGEST}")
    assert not isinstance(found, Path)
    return found


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 5 GB with the largest vocabulary there is; its one tensor is a hole."""
    path = tmp_path_factory.mktemp("large") / "large.gguf"
    tokens = [f"token{number}" for number in range(TOKENS)]
    values = [raw.string("general.architecture", "gemma4"), raw.string("tokenizer.ggml.model", "gemma4"),
              raw.strings("tokenizer.ggml.tokens", tokens),
              raw.array("tokenizer.ggml.scores", raw.FLOAT32, TOKENS, bytes(4 * TOKENS)),
              raw.array("tokenizer.ggml.token_type", raw.INT32, TOKENS, struct.pack("<i", 1) * TOKENS),
              raw.strings("tokenizer.ggml.merges", [f"{number} x" for number in range(MERGES)]),
              raw.string("tokenizer.chat_template", "{{ messages }}")]
    head = raw.header(values, [raw.tensor("a", [5 * 2**30], kind=24)])  # I8
    path.write_bytes(head)
    os.truncate(path, len(head) + -len(head) % 32 + 5 * 2**30)
    return path


@pytest.mark.parametrize("skip", [False, True])
def test_of_5_gb_the_header_is_read(large: Path, skip: bool) -> None:
    with serving(large.parent) as server:
        remote = read_headers(source(server.address, large.name), skip_numbers=skip)
        assert remote.bytes_read == server.sent < 20 * 10**6 < 0.02 * large.stat().st_size
        (file,) = remote.headers
        assert server.sent < file.header_size * 1.05 - 2 * 4 * TOKENS * skip and len(server.requests) < 40
        assert len(file.metadata["tokenizer.ggml.tokens"]) == TOKENS and file.tensors[0].size == 5 * 2**30
        sent = server.sent
        assert len(file.metadata["tokenizer.ggml.scores"]) == TOKENS
        assert (server.sent - sent == 4 * TOKENS) == skip


def test_a_server_that_is_gone_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(raw.whole([raw.string("general.architecture", "llama")]))
    with serving(tmp_path) as server:
        address = server.address
        assert read_headers(source(address, "a.gguf")).headers[0].architecture == "llama"
    with pytest.raises(DownloadError):
        read_headers(source(address, "a.gguf"))


def test_a_remote_bomb_costs_little(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gguf"
    path.write_bytes(raw.header([raw.value("k", raw.STRING, raw.text(b"", length=2**32))]))
    os.truncate(path, 2**33)
    with serving(tmp_path) as server:
        with pytest.raises(InvalidModelError, match="the header is larger than"):
            read_headers(source(server.address, "bomb.gguf"))
        assert server.sent <= 2**18


def test_paths_and_aliases_are_not_elsewhere(tmp_path: Path) -> None:
    registry = Lookup()
    assert remote_source(registry, "smollm2") is None and remote_source(registry, "./a.gguf") is None
    assert located("./a.gguf") == Path("./a.gguf") and located(tmp_path) == tmp_path
    assert located("hf:nobody/nothing-gollama-test:Q4_K_M") == parse("hf:nobody/nothing-gollama-test:Q4_K_M")


def test_registries_are_read_once_to_find_a_model() -> None:
    with mock.patch.object(userfile, "read", side_effect=userfile.read) as looked:
        located("./a.gguf")
        with pytest.raises(ModelNotFoundError):
            located("nosuchmodel")
    assert looked.call_count == 2
