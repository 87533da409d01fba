"""Downloads of processes that are killed, that want the same, and whose disk is full or cannot be written."""

from __future__ import annotations

import functools
import hashlib
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.downloads import CHUNK, CONTENT, DIGEST, NAME, SIZE, hub_of, left, remote
from tests.support.hub_server import HubServer

ROOT = Path(__file__).resolve().parents[2]
FETCH = """
import sys
from pathlib import Path
from gollama.models import RemoteFile
from gollama.models.downloading import ModelDownloader
url, sha256, path, chunk = sys.argv[1:5]
def progress(done, total):
    pass
exec("".join(sys.argv[5:]))
ModelDownloader(chunk_size=int(chunk)).download([(RemoteFile("x.gguf", url, sha256=sha256), Path(path))], on_progress=progress)
"""


def start(url: str, digest: str, path: Path, prelude: str = "", *, chunk: int = CHUNK,
          before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen([*before, sys.executable, "-c", FETCH, url, digest, str(path), str(chunk), prelude], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def killed_after(hub: HubServer, blocks: int, process: subprocess.Popen[str]) -> bool:
    """Kill it when the server has sent so many blocks more; whether it was still alive."""
    reached, counted = threading.Event(), [0]

    def count() -> None:
        counted[0] += 1
        if counted[0] >= blocks:
            reached.set()

    hub.on_block = count
    while process.poll() is None and not reached.wait(0.02):
        pass
    hub.on_block = None
    process.kill()
    process.communicate()
    return process.returncode != 0


def kill_and_go_on(tmp_path: Path, kills: int, size: int, chunk: int) -> None:
    generator = random.Random(7)
    content = generator.randbytes(size)
    digest = hashlib.sha256(content).hexdigest()
    with hub_of(content, rate=8_000_000) as hub:
        path = tmp_path / "x.gguf"
        for _ in range(kills):
            blocks = generator.randint(1, max(1, size // kills // 70_000))
            assert killed_after(hub, blocks, start(remote(hub).url, digest, path, chunk=chunk))
            assert not path.exists()
        last = start(remote(hub).url, digest, path, chunk=chunk)
        assert last.communicate(timeout=120)[1] == ""
        assert path.read_bytes() == content and left(tmp_path) == ["x.gguf"]
        # bytes that were on their way when the process died, of four connections together, are less than one chunk
        twice = hub.bytes_sent() - size
        print(f"{kills} kills: {size} bytes, {twice} of them twice, {twice / kills:.0f} a kill, chunks of {chunk}")
        assert twice <= kills * chunk


def test_a_killed_download_goes_on_where_it_was(tmp_path: Path) -> None:
    kill_and_go_on(tmp_path, kills=4, size=8_000_003, chunk=1 << 20)


@pytest.mark.slow
def test_fifty_kills_at_random_points_cost_no_byte_beyond_a_chunk(tmp_path: Path) -> None:
    kill_and_go_on(tmp_path, kills=50, size=64_000_003, chunk=1 << 20)


def test_sixteen_processes_that_pull_the_same_model_fetch_it_once(tmp_path: Path) -> None:
    code = f"from gollama import models; print(models.fetch('hf:{NAME}'))"
    with hub_of(rate=3_000_000) as hub:
        environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path)}
        workers = [subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                    text=True) for _ in range(16)]
        outputs = [worker.communicate(timeout=200) for worker in workers]
        assert {error for _, error in outputs} == {""}
        [path] = {output for output, _ in outputs}
        assert Path(path.strip()).read_bytes() == CONTENT
        assert hub.bytes_sent() == SIZE + 1


FULL = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1000000, 1000000))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_file_that_may_not_grow_is_told_and_nothing_stays(tmp_path: Path) -> None:
    with hub_of() as hub:
        worker = start(remote(hub).url, DIGEST, tmp_path / "x.gguf", FULL)
        assert "StorageError: x.gguf cannot be stored in" in worker.communicate(timeout=60)[1] and worker.returncode == 1
    assert left(tmp_path) == []


@functools.cache
def mounts() -> bool:
    """Whether this user may mount a small disk in a namespace of its own."""
    try:
        return subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0
    except OSError:
        return False


def on_a_disk(folder: Path, options: str) -> tuple[str, ...]:
    """What runs the rest of a command in a namespace where the folder is a small disk; afterwards it lists what stayed."""
    return ("unshare", "-rm", "sh", "-c", f'mount -t tmpfs -o {options} none {folder} && "$@"; ls -A {folder}', "sh")


FILL = """
import os
def progress(done, total):
    if done and not os.path.exists("DISK/filler"):
        with open("DISK/filler", "wb") as file:
            try:
                while True:
                    file.write(bytes(65536)); file.flush()
            except OSError:
                pass
"""


def test_a_disk_that_fills_up_is_told_and_nothing_stays(tmp_path: Path) -> None:
    if not mounts():
        pytest.skip("needs leave to mount a disk")
    with hub_of(rate=400_000) as hub:
        fill = FILL.replace("DISK", str(tmp_path))
        worker = start(remote(hub).url, DIGEST, tmp_path / "x.gguf", fill, before=on_a_disk(tmp_path, "size=5m"))
        there, error = worker.communicate(timeout=60)
    assert "StorageError: x.gguf cannot be stored in" in error and "No space left" in error
    assert set(there.split()) == {"filler", "x.gguf.lock"}


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    if not mounts():
        pytest.skip("needs leave to mount a disk")
    with hub_of() as hub:
        worker = start(remote(hub).url, DIGEST, tmp_path / "x.gguf", before=on_a_disk(tmp_path, "ro"))
        there, error = worker.communicate(timeout=60)
    assert "StorageError: x.gguf cannot be stored in" in error and "Read-only" in error and there == ""


def test_a_cache_that_cannot_be_written_is_still_read(tmp_path: Path) -> None:
    if not mounts():
        pytest.skip("needs leave to mount a disk")
    with hub_of() as hub:
        environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path)}
        code = f"from gollama import models; print(models.fetch('hf:{NAME}'))"
        again = f"{code}; print(models.fetch('hf:owner/other'))"
        hub.repositories["owner/other"] = hub.repositories[NAME]
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
        command = ["unshare", "-rm", "sh", "-c", f'mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro {tmp_path} && "$@"', "sh",
                   sys.executable, "-c", again]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.stdout.count("tiny-Q4_K_M.gguf") == 1
    assert "StorageError" in result.stderr and "HF_HOME" in result.stderr.splitlines()[-1]
