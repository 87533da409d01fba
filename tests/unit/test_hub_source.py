"""Models of a Hub: the real huggingface_hub and gollama's downloader against a local server that speaks its protocol."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gollama import LLM, AsyncLLM, CancelledError, DownloadError, ModelNotFoundError, models
from gollama.models import HubSource, sources
from tests.support.downloads import COMMIT, CONTENT, DIGEST, NAME, downloader, hub_of
from tests.support.hub_server import Fault, HubServer, Repository

FILE = "tiny-Q4_K_M.gguf"
OTHER = b"GGUF" + bytes(1000)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub_of() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        yield server


def fetch(text: str, **fields: object) -> Path:
    source = models.parse(text)
    assert isinstance(source, HubSource)
    return sources.fetch(source, downloader=downloader(retries=2), **fields).path  # type: ignore[arg-type]


def cached(tmp_path: Path) -> Path:
    return tmp_path / "hf" / "hub" / "models--owner--tiny-GGUF"


def test_a_file_lies_where_every_tool_looks_for_it(hub: HubServer, tmp_path: Path) -> None:
    from huggingface_hub import scan_cache_dir, try_to_load_from_cache

    path = fetch(f"hf:{NAME}:q4_k_m")
    assert path.read_bytes() == CONTENT
    assert path == cached(tmp_path) / "snapshots" / COMMIT / FILE and path.resolve().name == DIGEST
    assert (cached(tmp_path) / "refs" / "main").read_text() == COMMIT
    assert try_to_load_from_cache(NAME, FILE, cache_dir=tmp_path / "hf" / "hub") == str(path)
    assert scan_cache_dir(tmp_path / "hf" / "hub").warnings == []


def test_what_another_tool_fetched_is_found(hub: HubServer, tmp_path: Path) -> None:
    from huggingface_hub import hf_hub_download

    theirs = hf_hub_download(NAME, FILE, cache_dir=tmp_path / "hf" / "hub", endpoint=hub.endpoint)
    hub.sent.clear()
    assert fetch(f"hf:{NAME}") == Path(theirs)
    assert hub.sent == []


def test_a_cached_name_needs_no_network_and_no_client(hub: HubServer, tmp_path: Path) -> None:
    fetch(f"hf:{NAME}")
    hub.sent.clear()
    code = ("import sys; from gollama import models; print(models.resolve(sys.argv[1])); "
            "assert not {'huggingface_hub', 'http.client', 'rich', 'ssl'} & {*sys.modules}, sorted(sys.modules)")
    result = subprocess.run([sys.executable, "-c", code, f"hf:{NAME}"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).read_bytes() == CONTENT and hub.sent == []


def test_a_branch_that_moved_is_asked_for_only_when_told(hub: HubServer) -> None:
    old = fetch(f"hf:{NAME}")
    hub.repositories[NAME] = Repository({FILE: OTHER}, commit="d" * 40)
    assert fetch(f"hf:{NAME}") == old
    new = fetch(f"hf:{NAME}", refresh=True)
    assert new.read_bytes() == OTHER and old.read_bytes() == CONTENT
    assert fetch(f"hf:{NAME}") == new and fetch(f"hf:{NAME}@{COMMIT}") == old


def test_a_blob_that_is_here_is_not_fetched_for_another_commit(hub: HubServer) -> None:
    fetch(f"hf:{NAME}")
    hub.repositories[NAME].commit = "d" * 40
    sent = hub.bytes_sent()
    assert fetch(f"hf:{NAME}", refresh=True).read_bytes() == CONTENT
    assert hub.bytes_sent() == sent


def test_parts_of_a_split_model_come_together(hub: HubServer) -> None:
    names = [f"Q8_0/big-Q8_0-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    hub.repositories["owner/big"] = Repository({name: name.encode() * 1000 for name in names})
    for text in ("hf:owner/big:Q8_0", "hf:owner/big", f"hf:owner/big/{names[1]}"):
        source = models.parse(text)
        assert isinstance(source, HubSource)
        found = sources.fetch(source, downloader=downloader())
        assert [file.name for file in found.files] == [name.rpartition("/")[2] for name in names]
        assert [file.read_bytes() for file in found.files] == [name.encode() * 1000 for name in names]


def test_one_lost_part_is_fetched_again(hub: HubServer) -> None:
    names = [f"big-0000{number}-of-00002.gguf" for number in (1, 2)]
    hub.repositories["owner/big"] = Repository({name: name.encode() * 1000 for name in names})
    path = fetch("hf:owner/big")
    path.with_name(names[1]).resolve().unlink()
    assert sources.find(HubSource("owner/big")) is None
    fetch("hf:owner/big")
    assert path.with_name(names[1]).read_bytes() == names[1].encode() * 1000


def test_the_quantization_follows_the_memory(hub: HubServer) -> None:
    hub.repositories["owner/many"] = Repository({f"m-{name}.gguf": bytes(size) for name, size in
                                                 (("Q2_K", 1000), ("Q4_K_M", 2000), ("Q8_0", 4000))})
    assert fetch("hf:owner/many", memory=1500).name == "m-Q2_K.gguf"
    assert sources.offer(HubSource("owner/many"), memory=1 << 30).files[0].name == "m-Q4_K_M.gguf"


def test_a_file_that_git_itself_keeps_comes_too(hub: HubServer) -> None:
    hub.repositories["owner/plain"] = Repository({"a.gguf": OTHER}, plain=frozenset({"a.gguf"}))
    assert fetch("hf:owner/plain").read_bytes() == OTHER


def test_what_a_registry_pinned_is_refused_if_the_hub_has_another(hub: HubServer) -> None:
    with pytest.raises(DownloadError, match="is expected: it was refused"):
        fetch(f"hf:{NAME}", sha256="0" * 64)
    assert hub.bytes_sent() == 0
    assert fetch(f"hf:{NAME}", sha256=DIGEST).read_bytes() == CONTENT
    with pytest.raises(DownloadError, match="is expected: it was refused"):
        fetch(f"hf:{NAME}", sha256="0" * 64)


@pytest.mark.parametrize(("text", "words"), [
    ("hf:owner/none", "has no repository owner/none"), (f"hf:{NAME}@gone", "has no revision gone"),
    (f"hf:{NAME}:Q9_9", "has no Q9_9; it has: Q4_K_M"),
    (f"hf:{NAME}/x.gguf", "has no x.gguf; it has: Q4_K_M"), ("hf:owner/empty", "has no GGUF file"),
])
def test_what_a_hub_does_not_have_is_told(hub: HubServer, text: str, words: str) -> None:
    hub.repositories["owner/empty"] = Repository({"README.md": b"x"})
    with pytest.raises(ModelNotFoundError, match=words):
        fetch(text)


@pytest.mark.parametrize(("fault", "words"), [
    (Fault("/api/", status=500), "answers 500"), (Fault("/api/", status=429), "answers 429"), (Fault("/api/", status=401), "HF_TOKEN"),
    (Fault("/store/", wrong_bytes=True), "is expected; it was thrown away"), (Fault("/store/", status=404), "no such file"),
    (Fault("/resolve/", etag="0" * 64, method="HEAD"), "another file than"),
])
def test_what_a_hub_does_wrong_is_told(hub: HubServer, tmp_path: Path, fault: Fault, words: str) -> None:
    hub.faults.append(fault)
    with pytest.raises((DownloadError, ModelNotFoundError), match=words):
        fetch(f"hf:{NAME}")
    assert sources.find(HubSource(NAME)) is None


@pytest.mark.parametrize("fault", [Fault("/api/", status=500, times=2), Fault("/api/", status=429, headers={"Retry-After": "0"}, times=2),
                                   Fault("/store/", cut_after=50_000, times=3), Fault("/resolve/", status=503, times=1)])
def test_what_passes_is_waited_for(hub: HubServer, fault: Fault) -> None:
    hub.faults.append(fault)
    assert fetch(f"hf:{NAME}").read_bytes() == CONTENT


def test_a_token_opens_what_is_private_and_stays_with_the_hub(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories[NAME].token = "hf_secret"
    with pytest.raises(ModelNotFoundError, match="or it is private: then set HF_TOKEN"):
        fetch(f"hf:{NAME}")
    hub.repositories[NAME].gated = True
    with pytest.raises(DownloadError, match="is gated: accept its licence"):
        fetch(f"hf:{NAME}")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert fetch(f"hf:{NAME}").read_bytes() == CONTENT
    assert {sent.authorization for sent in hub.sent if "/store/" in sent.path} == {None}


def test_an_llms_progress_stops_the_fetch_of_its_name(hub: HubServer) -> None:
    hub.faults.append(Fault("/store/", slow=0.02))
    shares: list[float] = []

    def stop(share: float) -> bool:
        shares.append(share)
        return len(shares) < 3

    with pytest.raises(CancelledError):
        LLM(f"hf:{NAME}", on_progress=stop)
    assert shares == [0.0] * 3 and sources.find(HubSource(NAME)) is None


def test_cancelling_the_task_that_loads_an_llm_stops_the_fetch_of_its_name(hub: HubServer) -> None:
    hub.faults.append(Fault("/store/", slow=0.05))

    async def main() -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(AsyncLLM.load(f"hf:{NAME}", on_progress=lambda share: loop.call_soon_threadsafe(begun.set) and None))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert sources.find(HubSource(NAME)) is None


def test_offline_asks_nobody(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set"):
        fetch(f"hf:{NAME}")
    assert hub.sent == []


def test_a_mirror_that_is_not_there_is_told(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="127.0.0.1:9 cannot be reached"):
        fetch(f"hf:{NAME}")


@pytest.mark.parametrize("name", ["../../../../etc/x.gguf", "/etc/x.gguf", "a\nb.gguf", "..\\x.gguf"])
def test_a_hub_that_names_files_outside_is_not_followed(hub: HubServer, tmp_path: Path, name: str) -> None:
    hub.repositories[NAME] = Repository({name: OTHER})
    with pytest.raises(ValueError):
        fetch(f"hf:{NAME}")
    assert not (tmp_path / "hf" / "hub").exists() or not list((tmp_path / "hf" / "hub").rglob("*.gguf"))


@pytest.mark.parametrize("digest", ["../../../../escape", "x" * 64, "", "A" * 64])
def test_a_hub_whose_digests_are_none_is_not_followed(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digest: str) -> None:
    monkeypatch.setattr(hub, "sha256", lambda content: digest)
    with pytest.raises(DownloadError, match="which is none"):
        fetch(f"hf:{NAME}")
    assert not list(tmp_path.rglob("*escape*"))


@pytest.mark.parametrize("commit", ["../../escape", "main", "C" * 40])
def test_a_hub_whose_commits_are_none_is_not_followed(hub: HubServer, tmp_path: Path, commit: str) -> None:
    hub.repositories[NAME].commit = commit
    with pytest.raises(DownloadError, match="tells no commit"):
        fetch(f"hf:{NAME}")
    assert not list(tmp_path.rglob("*escape*"))


@pytest.mark.parametrize("ref", [b"../../..", b"", b"\xff" * 50, b"c" * 5000, b"c" * 39])
def test_a_ref_that_is_no_commit_is_not_followed(hub: HubServer, tmp_path: Path, ref: bytes) -> None:
    fetch(f"hf:{NAME}")
    (cached(tmp_path) / "refs" / "main").write_bytes(ref)
    assert sources.find(HubSource(NAME)) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_is_told_but_still_read(hub: HubServer, tmp_path: Path) -> None:
    fetch(f"hf:{NAME}")
    hub.repositories["owner/other"] = Repository({"a.gguf": OTHER})
    folder = tmp_path / "hf" / "hub"
    folder.chmod(0o500)
    try:
        assert fetch(f"hf:{NAME}").read_bytes() == CONTENT
        with pytest.raises(DownloadError, match="HF_HOME"):
            fetch("hf:owner/other")
    finally:
        folder.chmod(0o700)
