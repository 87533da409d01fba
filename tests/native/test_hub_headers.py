"""Models of a Hub, shown and estimated before they are downloaded: the real client against a local server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gguf as upstream
import pytest

from gollama import LLM, DownloadError, InvalidModelError, ModelNotFoundError
from gollama.compatibility import check
from gollama.gguf import inspect, read
from gollama.models.names import HubSource
from gollama.models.remote import located, read_headers
from tests.support import tiny
from tests.support.hub_server import Fault, HubServer, Repository

NAME = "hf:owner/tiny-GGUF"
WIDTHS = {"Q2_K": 32, "Q4_K_M": 64, "Q8_0": 256}  # the names are all that is quantized


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes | Path]:
    folder = tmp_path_factory.mktemp("hub")
    return {f"tiny-{name}.gguf": tiny.write(folder / f"{name}.gguf", width=width) for name, width in WIDTHS.items()}


@pytest.fixture
def hub(files: dict[str, bytes | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer({"owner/tiny-GGUF": Repository({**files, "README.md": b"# tiny"}, plain=frozenset({"README.md"}))}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("GOLLAMA_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        yield server


def source(name: str) -> HubSource:
    found = located(name)
    assert isinstance(found, HubSource)
    return found


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "gollama", *arguments], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "COLUMNS": "160"})


def test_a_header_is_that_of_the_file(hub: HubServer, files: dict[str, bytes | Path]) -> None:
    remote = read_headers(source(f"{NAME}:q8_0"))
    path = files["tiny-Q8_0.gguf"]
    assert isinstance(path, Path) and remote.headers[0].tensors == read(path).tensors
    assert remote.bytes_read == hub.bytes_sent() < path.stat().st_size / 4
    assert remote.offer.models == {name: Path(str(file)).stat().st_size for name, file in files.items()}


def test_what_a_hub_has_is_estimated_like_what_is_here(hub: HubServer, files: dict[str, bytes | Path], tmp_path: Path) -> None:
    elsewhere, here = (LLM.estimate(model, context_size=64, sequences=2) for model in (f"{NAME}:Q4_K_M", str(files["tiny-Q4_K_M.gguf"])))
    assert [(row.weights, row.context, row.compute) for row in elsewhere.devices] == [
        (row.weights, row.context, row.compute) for row in here.devices]
    assert not [path for path in tmp_path.rglob("*.gguf") if path.is_file()]  # nothing was kept


def test_a_repository_s_quantizations_are_judged(hub: HubServer) -> None:
    found = check(NAME, context_size=64)
    assert found.file == "tiny-Q4_K_M.gguf" and found.fits and not found.is_here and found.bytes_read == hub.bytes_sent()
    assert [(each.quantization, each.fits) for each in found.quantizations] == [("Q2_K", True), ("Q4_K_M", True), ("Q8_0", True)]
    assert found.recommended == "tiny-Q4_K_M.gguf"
    assert check(f"{NAME}:Q2_K", context_size=64).file == "tiny-Q2_K.gguf"


def test_the_commands_take_a_hub_s_names(hub: HubServer) -> None:
    facts = json.loads(run("show", f"{NAME}:Q4_K_M", "--json").stdout)
    assert (facts["architecture"], facts["embedding"], facts["path"]) == ("llama", 64, "tiny-Q4_K_M.gguf")
    assert "nothing looks wrong" in run("inspect", f"{NAME}:Q4_K_M").stdout
    told = run("estimate", NAME, "-c", "64").stdout
    for word in ("fits", "download: ", "Q2_K", "this one recommended", "tokens/s"):
        assert word in told


def split(path: Path, folder: Path) -> dict[str, bytes | Path]:
    """The parts of a model, as llama.cpp's tools cut it."""
    reader = upstream.GGUFReader(path)
    writer = upstream.GGUFWriter(folder / "tiny.gguf", "llama", split_max_tensors=8)
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            kind = field.types[0]
            writer.add_key_value(key, field.contents(), kind, field.types[1] if kind == upstream.GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {file.name: file for file in sorted(folder.glob("tiny-0*.gguf"))}


def test_a_split_model_is_estimated_whole(hub: HubServer, files: dict[str, bytes | Path], tmp_path: Path) -> None:
    whole = files["tiny-Q4_K_M.gguf"]
    assert isinstance(whole, Path)
    (tmp_path / "parts").mkdir()
    parts = split(whole, tmp_path / "parts")
    hub.repositories["owner/tiny-GGUF"].files = dict(parts)
    remote = read_headers(source(NAME))
    assert len(remote.headers) == len(parts) == 3
    found = inspect(*remote.headers)
    assert found.parameters == inspect(whole).parameters and found.findings == () and found.split == (0, 3)
    elsewhere, here = LLM.estimate(NAME, context_size=64), LLM.estimate(whole, context_size=64)
    assert [row.weights for row in elsewhere.devices] == [row.weights for row in here.devices]
    assert inspect(tmp_path / "parts" / next(iter(parts))).parameters == found.parameters


def test_what_a_hub_lacks_is_told(hub: HubServer) -> None:
    with pytest.raises(ModelNotFoundError, match="Q4_K_M"):
        check(f"{NAME}:Q6_K")
    hub.faults.append(Fault("/store/", ignore_range=True))
    with pytest.raises(DownloadError, match="cannot send a part"):
        check(f"{NAME}:Q2_K")
    hub.faults[:] = [Fault("/store/", wrong_bytes=True)]
    with pytest.raises(InvalidModelError, match="not in GGUF format"):
        check(f"{NAME}:Q2_K")
