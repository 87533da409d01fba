"""What downloading costs: gollama beside curl and huggingface_hub, all from the same local server, and sha256 alone.

    python -m benchmarks.download [--size MB] [--rounds N] [--output docs/benchmarks/download.json]

The server is tests/support/hub_server.py, which sends with sendfile, in a process of its own. Each contender is one too; it writes the file
to the same disk, which is synced and emptied before each. curl does not verify; "curl, then sha256sum" does what gollama does.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report
from benchmarks.figures import Bar, Line, alone, compared

COMMIT = "c" * 40
NAME = "owner/model"
FILE = "model-Q4_K_M.gguf"

GOLLAMA = """
import sys, time, os
from pathlib import Path
from gollama.models import RemoteFile
from gollama.models.downloading import ModelDownloader
url, sha256, folder, connections = sys.argv[1:]
begun, used = time.perf_counter(), os.times()
ModelDownloader(connections=int(connections)).download([(RemoteFile("x.gguf", url, sha256=sha256), Path(folder) / "x.gguf")])
"""
SHA256 = """
import sys, time, os, hashlib
begun, used = time.perf_counter(), os.times()
digest, buffer = hashlib.sha256(), bytearray(1 << 20)
with open(sys.argv[1], "rb", buffering=0) as file:
    while count := file.readinto(buffer):
        digest.update(memoryview(buffer)[:count])
"""
CLIENT = """
import sys, time, os, hashlib
from huggingface_hub.utils import get_session
session = get_session()
begun, used = time.perf_counter(), os.times()
digest = hashlib.sha256()
with session.stream("GET", sys.argv[1]) as response, open(sys.argv[3] + "/x.gguf", "wb", buffering=0) as file:
    for block in response.iter_bytes(1 << 20):
        digest.update(block)
        file.write(block)
"""
HUB = """
import sys, time, os
from huggingface_hub import hf_hub_download
begun, used = time.perf_counter(), os.times()
hf_hub_download("owner/model", "model-Q4_K_M.gguf", cache_dir=sys.argv[3])
"""
END = """
now = os.times()
print(time.perf_counter() - begun, now[0] - used[0], now[1] - used[1])
"""
RESOLVE = """
import sys, time
from gollama import models
begun = time.perf_counter()
models.resolve(sys.argv[1])
print(1000 * (time.perf_counter() - begun))
begun = time.perf_counter()
models.resolve(sys.argv[1])
print(1000 * (time.perf_counter() - begun))
"""


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, of the processor in the program, and of the processor in the kernel for it."""

    wall: float
    user: float
    system: float


@contextmanager
def server(folder: Path, rate: int | None = None) -> Iterator[tuple[str, str]]:
    """(the Hub's endpoint, the address of the file's bytes)"""
    command = [sys.executable, "-m", "tests.support.hub_server", str(folder), *(["--rate", str(rate)] if rate else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        endpoint, store = process.stdout.readline().split()
        try:
            yield endpoint, f"{store}/store/{NAME}/{COMMIT}/{FILE}"
        finally:
            process.communicate("")


def program(code: str, *arguments: str, environment: dict[str, str] | None = None) -> Cost:
    told = subprocess.run([sys.executable, "-c", code + END, *arguments], check=True, capture_output=True, text=True,
                          env={**os.environ, **(environment or {})}).stdout
    return Cost(*map(float, told.split()))


def curl(url: str, folder: str) -> Cost:
    """What curl itself tells of the time, and the kernel of the rest."""
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = subprocess.run(["curl", "-s", "-o", f"{folder}/x.gguf", "-w", "%{time_total}", url], check=True, capture_output=True,
                          text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(float(told), after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime)


@contextmanager
def scratch(folder: Path) -> Iterator[str]:
    """An empty folder on the disk that is measured, with nothing left to write."""
    os.sync()
    with tempfile.TemporaryDirectory(dir=folder) as made:
        yield made


def downloads(folder: Path, rounds: int, rate: int | None) -> Iterator[Line]:
    file = folder / NAME / FILE
    size, digest = file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest()
    costs: dict[str, list[Cost]] = {}
    with server(folder, rate) as (endpoint, url):
        runs = {
            "curl": lambda made: curl(url, made),
            "gollama": lambda made: program(GOLLAMA, url, digest, made, "4"),
            "gollama, one connection": lambda made: program(GOLLAMA, url, digest, made, "1"),
            "sha256": lambda made: program(SHA256, str(file)),
        }
        if rate is None:
            # without the instructions for SHA, as on processors that have none
            plain = {"OPENSSL_ia32cap": "~0:~0x20000000"}
            runs |= {
                "client": lambda made: program(CLIENT, url, digest, made),
                "huggingface_hub": lambda made: program(HUB, url, digest, made, environment={"HF_ENDPOINT": endpoint, "HF_HOME": made,
                                                                                             "HF_HUB_DISABLE_PROGRESS_BARS": "1"}),
                "sha256 plain": lambda made: program(SHA256, str(file), environment=plain),
                "gollama plain": lambda made: program(GOLLAMA, url, digest, made, "4", environment=plain),
            }
        for number in range(rounds):
            for name in list(runs) if number % 2 else [*runs][::-1]:
                with scratch(folder.parent) as made:
                    costs.setdefault(name, []).append(runs[name](made))
    yield from _lines(costs, size / 1e6, "" if rate is None else f"{rate / 1e6:.0f} MB/s a connection")


def _lines(costs: dict[str, list[Cost]], megabytes: float, note: str) -> Iterator[Line]:
    def rate(name: str) -> list[float]:
        return [megabytes / cost.wall for cost in costs[name]]

    def processor(name: str, *, kernel: bool) -> list[float]:
        return [1000 * (cost.user + (cost.system if kernel else 0)) / megabytes for cost in costs[name]]

    yield compared("-", "download and sha256, MB/s", rate("gollama"), "curl, not verified", rate("curl"), Bar(0.9), note)
    one = "gollama, one connection"
    yield compared("-", "with one connection, MB/s", rate(one), "curl, not verified", rate("curl"), Bar(0.9), note)
    both = [megabytes / (first.wall + second.wall) for first, second in zip(costs["curl"], costs["sha256"], strict=True)]
    yield compared("-", "download and sha256, MB/s", rate("gollama"), "curl, then sha256", both, None, note)
    if note:
        return
    for name in ("gollama", one):
        what = "processor" + (", one connection" if name == one else "")
        yield compared("-", f"{what}: program, s/GB", processor(name, kernel=False), "sha256", processor("sha256", kernel=False),
                       Bar(1.3, at_most=True))
        yield compared("-", f"{what}: program and kernel, s/GB", processor(name, kernel=True), "sha256", processor("sha256", kernel=True),
                       Bar(1.3, at_most=True))
    yield compared("-", "processor: program and kernel, without SHA instructions, s/GB", processor("gollama plain", kernel=True),
                   "sha256 likewise", processor("sha256 plain", kernel=True), Bar(1.3, at_most=True))
    yield compared("-", "processor: kernel, s/GB", [1000 * cost.system / megabytes for cost in costs["gollama"]], "curl",
                   [1000 * cost.system / megabytes for cost in costs["curl"]], None)
    yield compared("-", "processor: program and kernel, s/GB", processor("gollama", kernel=True), "huggingface_hub's client and sha256",
                   processor("client", kernel=True), None)
    yield compared("-", "download and sha256, MB/s", rate("gollama"), "huggingface_hub's client and sha256", rate("client"), None)
    yield compared("-", "download and sha256, MB/s", rate("gollama"), "hf_hub_download, not verified", rate("huggingface_hub"), None)


def resolving(folder: Path, rounds: int) -> Iterator[Line]:
    with server(folder) as (endpoint, _), tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": home}

        def once() -> list[float]:
            told = subprocess.run([sys.executable, "-c", RESOLVE, f"hf:{NAME}"], check=True, capture_output=True, text=True,
                                  env=environment).stdout
            return [float(line) for line in told.split()]

        once()  # fetches it
        environment["HF_ENDPOINT"] = "http://127.0.0.1:9"  # nobody
        figures = [once() for _ in range(rounds)]
    yield alone("-", "a cached name, first time in a process, ms", [figure[0] for figure in figures], Bar(20, at_most=True))
    yield alone("-", "a cached name again, ms", [figure[1] for figure in figures], Bar(20, at_most=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="MB of the file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="write the rows as JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "hub"
        (folder / NAME).mkdir(parents=True)
        with (folder / NAME / FILE).open("wb") as file:
            for _ in range(given.size):
                file.write(os.urandom(1_000_000))
        lines = [*downloads(folder, given.rounds, None), *downloads(folder, max(1, given.rounds // 2), 50_000_000),
                 *resolving(folder, given.rounds)]
    print(report.table(lines))
    if given.output:
        facts = {"machine": platform.machine(), "python": platform.python_version(), "megabytes": given.size}
        report.write_json(given.output, facts, lines)


if __name__ == "__main__":
    main()
