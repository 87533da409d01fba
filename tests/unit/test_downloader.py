"""ModelDownloader against a server that misbehaves: what comes is whole and right, or a specific error and nothing."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gollama import CancelledError, DownloadError, OptionError
from gollama.models import RemoteFile
from gollama.models.downloading import ModelDownloader, read_all, read_range
from tests.support.downloads import CHUNK, CONTENT, DIGEST, NAME, SIZE, downloader, hub_of, left, linked, remote
from tests.support.hub_server import Fault, HubServer


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with hub_of() as server:
        yield server


def fetch(hub: HubServer, folder: Path, file: RemoteFile | None = None, **fields: object) -> bytes:
    [path] = downloader(**fields).download([(file or remote(hub), folder / "tiny.gguf")])
    return path.read_bytes()


def test_ranges_are_fetched_in_parallel_and_each_once(hub: HubServer, tmp_path: Path) -> None:
    assert fetch(hub, tmp_path) == CONTENT
    starts = sorted(sent.start for sent in hub.bodies("/store/") if sent.count > 1)
    assert starts == list(range(0, SIZE, CHUNK))
    assert hub.bytes_sent() == SIZE + 1  # one byte tells the size
    assert left(tmp_path) == ["tiny.gguf"]


@pytest.mark.parametrize("connections", [1, 3])
def test_a_slow_server_is_asked_over_all_connections_and_no_more(tmp_path: Path, connections: int) -> None:
    with hub_of(rate=1_500_000) as hub:
        assert fetch(hub, tmp_path, connections=connections) == CONTENT
        assert hub.most_busy == connections


def test_what_is_there_costs_no_request(hub: HubServer, tmp_path: Path) -> None:
    fetch(hub, tmp_path)
    hub.sent.clear()
    fetch(hub, tmp_path)
    assert hub.sent == []


@pytest.mark.parametrize("fault", [
    Fault("/store/", cut_after=100_000, times=6),
    Fault("/store/", cut_after=100_000, short=True, times=6),
    Fault("/store/", status=500, times=3),
    Fault("/store/", status=503, headers={"Retry-After": "0"}, times=3),
    Fault("/store/", status=429, headers={"Retry-After": "Thu, 01 Jan 2015 00:00:00 GMT"}, times=3),
    Fault("/store/", status=500, times=3, after=4),
    Fault("/store/", slow=0.02, times=2),
    Fault("/store/", ignore_range=True),
    Fault("/store/", ignore_range=True, cut_after=1_000_000, times=2),
    Fault("/store/", ignore_range=True, times=1, after=5),
    Fault("/store/", etag='"another"', times=1, after=5),
    Fault("/store/", etag='W/"weak"'),
    Fault("/store/", wrong_bytes=True, times=1, after=3, etag='"another"'),
], ids=lambda fault: "-".join(f"{key}={value}" for key, value in vars(fault).items() if value and key not in ("path", "method"))[:60])
def test_it_is_whole_and_right_whatever_passes(hub: HubServer, tmp_path: Path, fault: Fault) -> None:
    hub.faults.append(fault)
    assert fetch(hub, tmp_path) == CONTENT
    assert left(tmp_path) == ["tiny.gguf"]


def test_a_broken_connection_costs_no_byte_that_has_come(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/store/", cut_after=100_000, times=5, after=1))
    fetch(hub, tmp_path, connections=1)
    starts = [sent.start for sent in hub.bodies("/store/")][1:]
    assert starts == sorted(set(starts)) and hub.bytes_sent() <= SIZE + 1 + 5 * 100_000


@pytest.mark.parametrize(("status", "words"), [
    (401, "wants a token"), (403, "does not give it"), (404, "has no such file"), (418, "answers 418")])
def test_an_answer_that_will_not_change_is_not_asked_for_again(hub: HubServer, tmp_path: Path, status: int, words: str) -> None:
    hub.faults.append(Fault("/store/", status=status))
    with pytest.raises(DownloadError, match=words):
        fetch(hub, tmp_path)
    assert len(hub.sent) == 1 and left(tmp_path) == []


def test_a_server_that_stays_broken_is_given_up(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/store/", status=502))
    with pytest.raises(DownloadError, match="answers 502"):
        fetch(hub, tmp_path, retries=3)
    assert len(hub.sent) == 4


def test_a_server_that_asks_to_wait_for_hours_is_given_up(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/store/", status=429, headers={"Retry-After": "86400"}))
    with pytest.raises(DownloadError, match="too many requests"):
        fetch(hub, tmp_path)


def test_nobody_there_is_told(tmp_path: Path) -> None:
    with hub_of() as gone:
        file = remote(gone)
    with pytest.raises(DownloadError, match="cannot be fetched from 127"):
        downloader(retries=1).download([(file, tmp_path / "x")])


def test_what_has_come_is_kept_when_a_server_is_given_up_and_not_fetched_again(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/store/", status=500, after=5))
    with pytest.raises(DownloadError, match="answers 500"):
        fetch(hub, tmp_path, retries=0, connections=1)
    assert left(tmp_path) == ["tiny.gguf.partial", "tiny.gguf.partial.state"]
    hub.faults.clear()
    assert fetch(hub, tmp_path) == CONTENT
    assert hub.bytes_sent() == SIZE + 2


@pytest.mark.parametrize("fault", [Fault("/store/", wrong_bytes=True), Fault("/store/", wrong_bytes=True, ignore_range=True)])
def test_wrong_bytes_are_thrown_away(hub: HubServer, tmp_path: Path, fault: Fault) -> None:
    hub.faults.append(fault)
    with pytest.raises(DownloadError, match=f"the sha256 .* and {DIGEST[:16]}… is expected"):
        fetch(hub, tmp_path)
    assert left(tmp_path) == []


def test_a_partial_file_that_was_spoilt_is_found_out_and_fetched_anew(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/store/", status=500, after=5))
    with pytest.raises(DownloadError):
        fetch(hub, tmp_path, retries=0, connections=1)
    with (tmp_path / "tiny.gguf.partial").open("r+b") as file:
        file.write(b"spoilt")
    hub.faults.clear()
    assert fetch(hub, tmp_path) == CONTENT


@pytest.mark.parametrize("state", [b"", b"{}", b"[" * 5000, b"x" * 4096, b'{"version": 1, "size": -1, "chunk": 1, "etag": ""}',
                                   b'{"version": 1, "size": 1e400, "chunk": 1, "etag": ""}',
                                   b'{"version": 1, "size": 3000017, "chunk": 262144, "etag": ""}'.ljust(4096) + b"\xff" * 48])
def test_a_state_that_makes_no_sense_is_not_believed(hub: HubServer, tmp_path: Path, state: bytes) -> None:
    (tmp_path / "tiny.gguf.partial").write_bytes(b"x" * 1000)
    (tmp_path / "tiny.gguf.partial.state").write_bytes(state)
    assert fetch(hub, tmp_path) == CONTENT


def test_links_in_the_place_of_a_partial_file_are_not_followed(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/store/", status=500, after=5))
    with pytest.raises(DownloadError):
        fetch(hub, tmp_path, retries=0, connections=1)
    hub.faults.clear()
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    (tmp_path / "tiny.gguf.partial").unlink()
    (tmp_path / "tiny.gguf.partial").symlink_to(outside)
    assert fetch(hub, tmp_path) == CONTENT and outside.read_bytes() == b"mine"


@pytest.mark.parametrize("size", [SIZE - 1, SIZE + 1])
def test_another_size_than_is_pinned_is_refused_before_anything_comes(hub: HubServer, tmp_path: Path, size: int) -> None:
    with pytest.raises(DownloadError, match=f"{size} are expected: it was refused"):
        fetch(hub, tmp_path, remote(hub, size=size))
    assert hub.bytes_sent() <= 1 and left(tmp_path) == []


def test_a_file_that_keeps_changing_is_given_up(hub: HubServer, tmp_path: Path) -> None:
    hub.faults += [Fault("/store/", etag=f'"{number}"', times=1) for number in range(40)]
    with pytest.raises(DownloadError, match="keeps changing"):
        fetch(hub, tmp_path)
    assert left(tmp_path) == []


def test_a_disk_without_room_is_told_before_anything_comes(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(DownloadError, match="free some, or keep models on another disk"):
        fetch(hub, tmp_path)
    assert hub.bytes_sent() <= 1 and left(tmp_path) == []


def test_progress_ends_with_all_of_all_files(hub: HubServer, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    files = [(remote(hub), tmp_path / "a"), (RemoteFile("other.gguf", remote(hub).url, SIZE), tmp_path / "b")]
    downloader().download(files, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen) and seen[-1] == (2 * SIZE, 2 * SIZE) and {total for _, total in seen} == {2 * SIZE}


def test_false_cancels_and_keeps_what_has_come(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/store/", slow=0.01))
    with pytest.raises(CancelledError):
        downloader(chunk_size=1 << 20).download([(remote(hub), tmp_path / "x")], on_progress=lambda done, total: done < 200_000)
    sent = hub.bytes_sent()
    assert left(tmp_path) == ["x.partial", "x.partial.state"]
    hub.faults.clear()
    downloader().download([(remote(hub), tmp_path / "x")])
    assert hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest() == DIGEST and sent < SIZE


def test_what_progress_raises_comes_through(hub: HubServer, tmp_path: Path) -> None:
    def fail(done: int, total: int) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        downloader().download([(remote(hub), tmp_path / "x")], on_progress=fail)


def test_events_tell_the_same_as_a_callback(hub: HubServer, tmp_path: Path) -> None:
    events = list(downloader().events([(remote(hub), tmp_path / "x")]))
    assert (events[-1].file, events[-1].done, events[-1].total) == ("tiny-Q4_K_M.gguf", SIZE, SIZE)
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_leaving_the_events_cancels(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/store/", slow=0.01))
    for event in downloader().events([(remote(hub), tmp_path / "x")]):
        if event.done:
            break
    assert not (tmp_path / "x").exists()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("gollama-download")] == []


def test_an_error_comes_out_of_the_events(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/store/", status=404))
    with pytest.raises(DownloadError, match="no such file"):
        list(downloader().events([(remote(hub), tmp_path / "x")]))


def test_asyncio_downloads_and_tells(hub: HubServer, tmp_path: Path) -> None:
    async def main() -> None:
        await downloader().download_async([(remote(hub), tmp_path / "a")])
        events = [event async for event in downloader().events_async([(remote(hub), tmp_path / "b")])]
        assert events[-1].done == SIZE

    asyncio.run(main())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == CONTENT


def test_cancelling_the_task_cancels_the_download(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/store/", slow=0.02))

    async def main() -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(downloader().download_async(
            [(remote(hub), tmp_path / "a")], on_progress=lambda done, total: loop.call_soon_threadsafe(begun.set) and None))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert left(tmp_path) in (["a.partial", "a.partial.state"], [])


def test_a_limit_spreads_the_bytes(hub: HubServer, tmp_path: Path) -> None:
    limited = downloader(rate_limit=20_000_000)
    blocks: list[tuple[int, int]] = []
    limited.download([(remote(hub), tmp_path / "a")], on_progress=lambda done, total: blocks.append((done, total)))
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_the_pauses_of_a_limit_are_the_bytes_over_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    from gollama.models.downloading.limits import RateLimit

    now = [100.0]
    monkeypatch.setattr("gollama.models.downloading.limits.time.monotonic", lambda: now[0])
    limit = RateLimit(1000)
    assert [limit.pause(500), limit.pause(500)] == [0.5, 1.0]
    now[0] = 110.0
    assert limit.pause(100) == pytest.approx(0.1)


@pytest.mark.parametrize(("name", "value"), [
    ("connections", 0), ("chunk_size", 1), ("rate_limit", 0), ("retries", -1), ("timeout", 0), ("retries", "x")])
def test_an_option_that_cannot_be_is_told(name: str, value: object) -> None:
    with pytest.raises(OptionError, match=name):
        ModelDownloader(**{name: value})  # type: ignore[arg-type]


# ---- redirects and tokens ----


def test_a_token_stays_with_its_host(hub: HubServer, tmp_path: Path) -> None:
    assert fetch(hub, tmp_path, linked(hub, headers={"Authorization": "Bearer secret"})) == CONTENT
    assert {sent.authorization for sent in hub.sent if "/resolve/" in sent.path} == {"Bearer secret"}
    assert {sent.authorization for sent in hub.sent if "/store/" in sent.path} == {None}


def test_an_address_that_ran_out_is_asked_for_again(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/store/", status=403, times=1, after=4))
    assert fetch(hub, tmp_path, linked(hub), connections=1) == CONTENT
    assert len([sent for sent in hub.sent if "/resolve/" in sent.path]) >= 2


@pytest.mark.parametrize("location", [
    "file:///etc/passwd", "ftp://example.org/x", "gopher://x", "//", "http://[::1", "javascript:1", "https://a b/", ""])
def test_a_redirect_out_of_the_web_is_refused(hub: HubServer, tmp_path: Path, location: str) -> None:
    hub.faults.append(Fault("/resolve/", location=location))
    with pytest.raises(DownloadError):
        fetch(hub, tmp_path, linked(hub))
    assert left(tmp_path) == []


def test_redirects_in_a_circle_end(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/resolve/", location=f"{hub.endpoint}/{NAME}/resolve/main/tiny-Q4_K_M.gguf"))
    with pytest.raises(DownloadError, match="redirects more than"):
        fetch(hub, tmp_path, linked(hub))


# ---- parts and small resources ----


def test_a_range_of_a_remote_file_is_read_alone(hub: HubServer) -> None:
    assert read_range(linked(hub), 1000, 50) == (CONTENT[1000:1050], SIZE)
    assert read_range(remote(hub), SIZE - 10, 50) == (CONTENT[-10:], SIZE)
    assert hub.bytes_sent() == 60


@pytest.mark.parametrize("fault", [Fault("/store/", ignore_range=True), Fault("/store/", status=404), Fault("/store/", cut_after=10),
                                   Fault("/store/", headers={"Content-Encoding": "gzip"})])
def test_a_range_that_cannot_be_had_is_told(hub: HubServer, fault: Fault) -> None:
    hub.faults.append(fault)
    with pytest.raises(DownloadError):
        read_range(remote(hub), 0, 100)


def test_a_small_resource_may_not_be_large(hub: HubServer) -> None:
    assert read_all(remote(hub).url, SIZE) == CONTENT
    with pytest.raises(DownloadError, match="more than 100 bytes"):
        read_all(remote(hub).url, 100)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files by /proc")
def test_nothing_stays_open(hub: HubServer, tmp_path: Path) -> None:
    fetch(hub, tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3):
        downloader().download([(remote(hub), tmp_path / str(number))])
    hub.faults.append(Fault("/store/", status=404))
    with pytest.raises(DownloadError):
        downloader().download([(remote(hub), tmp_path / "never")])
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("gollama-download")]
    assert threads == [] and len(os.listdir("/proc/self/fd")) <= before + 8  # the server's own ends may linger
