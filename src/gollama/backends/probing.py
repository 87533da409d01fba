"""Whether a backend works here, found out in a child process, which a broken driver may kill. The answer is kept on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gollama import _files, _native
from gollama._cache import cache_directory
from gollama._locks import ForkLock
from gollama.backends import drivers, loading
from gollama.backends.installed import InstalledBackend

if TYPE_CHECKING:
    import subprocess

logger = logging.getLogger("gollama")

TIMEOUT = 60.0  # seconds; a driver that compiles its programs the first time takes its time
MOST_KEPT = 64
# nothing is imported before the path is this program's: until then it begins with the current directory
CODE = "import sys; sys.path[:] = {path!r}; from gollama.backends import probing; probing.child(*sys.argv[1:])"
_lock = ForkLock()


@dataclass(frozen=True)
class Probed:
    """What came of loading a backend in a child process."""

    devices: tuple[_native.DeviceFacts, ...] = ()  # with the memory that was free then
    problem: str | None = None  # why it cannot be used
    seconds: float = 0.0


def probe(backend: InstalledBackend, *, fresh: bool = False) -> Probed:
    """What loading the backend gives here. From the disk where the wheel, the drivers and the devices are those of last time.

    `fresh` asks anew. A program that is not Python's own (frozen, or with Python inside) cannot start itself as a child: there
    the backend is taken to work.
    """
    if backend.problem is not None:
        return Probed(problem=backend.problem)
    file = cache_directory() / "backends.json"
    key = _key(backend)
    with _lock:
        kept = {} if fresh else _read(file)
        with contextlib.suppress(KeyError, TypeError, ValueError):
            row = kept[key]
            return Probed(tuple(_native.DeviceFacts(*device) for device in row["devices"]), row["problem"], row["seconds"])
        if getattr(sys, "frozen", False) or not sys.executable:
            return Probed()
        probed = _ask(backend)
        _write(file, {**_read(file), key: dataclasses.asdict(probed)})
        return probed


def _key(backend: InstalledBackend) -> str:
    """Of all that the outcome hangs on."""
    from gollama.version import __version__

    core = sorted(_native.build()["libraries"].items())
    modules = [drivers.state(file) for file in (*backend.files, *loading.runtime_files(backend))]
    facts = [__version__, sys.executable, core, modules, drivers.fingerprint()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _read(file: Path) -> dict[str, Any]:
    """What is kept; nothing, where it cannot be read."""
    try:
        kept = json.loads(file.read_bytes())
        return kept if isinstance(kept, dict) else {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        logger.info("%s cannot be read (%s): backends are tried anew", file, error)
        return {}


def _write(file: Path, kept: dict[str, Any]) -> None:
    """Replace the file by the newest entries; where that fails, the next process asks again."""
    rows = dict(list(kept.items())[-MOST_KEPT:])
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _files.replacing(file) as new:
            new.write(json.dumps(rows).encode())
    except OSError as error:
        logger.info("%s cannot be written (%s): backends are tried anew next time", file, error)


def _ask(backend: InstalledBackend) -> Probed:
    import subprocess
    import tempfile

    start = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        answer = Path(folder) / "answer.json"
        code = CODE.format(path=[entry for entry in sys.path if isinstance(entry, str)])
        command = [sys.executable, "-c", code, json.dumps(dataclasses.asdict(backend), default=str), str(answer)]
        try:
            # the driver may print what it likes; of a child that died, its last words are told
            run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            return Probed(problem=f"its driver did not answer within {TIMEOUT:.0f} seconds", seconds=time.monotonic() - start)
        except OSError as error:
            return Probed(problem=f"no process could be started to try it ({error})")
        seconds = round(time.monotonic() - start, 3)
        try:
            found = json.loads(answer.read_bytes())
            return Probed(tuple(_native.DeviceFacts(*device) for device in found["devices"]), found["problem"], seconds)
        except (OSError, ValueError):
            return Probed(problem=_last_words(run), seconds=seconds)


def _last_words(run: subprocess.CompletedProcess[bytes]) -> str:
    how = f"was killed by signal {-run.returncode}" if run.returncode < 0 else f"ended with status {run.returncode}"
    words = run.stderr.decode(errors="replace").strip().splitlines()
    return f"the process that tried it {how}" + (f": {words[-1][:300]}" if words else "")


def child(given: str, answer: str) -> None:
    """In the child: load the backend, try its devices, and write down what was found."""
    from gollama.errors import GollamaError

    fields = json.loads(given)
    modules = tuple((name, digest) for name, digest in fields["modules"])
    backend = InstalledBackend(fields["distribution"], fields["backend"], Path(fields["folder"]), modules, tuple(fields["preload"]),
                               tuple(fields["requires"]))
    problem = _damage(backend)
    devices: list[_native.DeviceFacts] = []
    if problem is None:
        try:
            names = loading.load(backend)
            for name in names:
                _native.try_device(name)
            devices = [device for device in _native.devices() if device.name in names]
        except GollamaError as error:
            problem = str(error)
        else:
            problem = None if devices else "it loads, and finds no device"
    partial = Path(answer).with_suffix(".partial")
    partial.write_text(json.dumps({"devices": devices, "problem": problem}))
    partial.replace(answer)
    os._exit(0)  # a driver's own clean-up is none of our business


def _damage(backend: InstalledBackend) -> str | None:
    for file, (_, digest) in zip(backend.files, backend.modules, strict=True):
        if _files.sha256(file) != digest:
            return (f"{file} is not the file that was released: install it anew, "
                    f"`pip install --force-reinstall --no-deps {backend.distribution}`")
    return None
