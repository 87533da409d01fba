"""Obtain the pinned native packages: npm pack, verify, unpack, keep in the user's cache directory.

    python -m tools.natives            fetch what this platform needs, print where it lies
    python -m tools.natives FOLDER     the same into FOLDER, for GOLLAMA_NATIVE_DIR on a machine without network

A folder of natives holds one folder per target with the libraries, and `source` with llama.cpp's tree.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import platformdirs

from tools import pins
from tools.pins import Package

COMMIT = ".commit"  # in a source tree: which it is of
STAMP = ".package"  # in each unpacked folder: the sha512 of the package it came from
ELSEWHERE = "or set GOLLAMA_NATIVE_DIR to a folder made by `python -m tools.natives FOLDER` on another machine"


class NativesError(Exception):
    """The natives cannot be had; the message is one sentence with the remedy."""


def cache_directory() -> Path:
    """GOLLAMA_HOME, or the user's cache directory."""
    return Path(os.environ.get("GOLLAMA_HOME") or platformdirs.user_cache_dir("gollama", appauthor=False))


def library_folder(target: str) -> Path:
    """The folder with one target's libraries, fetched when it is not there yet."""
    return _folder(pins.load().natives[target])


def source_tree() -> Path:
    """llama.cpp's tree of the pinned release, fetched when it is not there yet."""
    return _folder(pins.load().source)


def digest(folder: Path) -> str:
    """What identifies an unpacked folder's content: the package's sha512, or that of the files where nobody stamped it."""
    stamp = folder / STAMP
    if stamp.exists():
        return stamp.read_text()
    total = hashlib.sha512()
    for file in sorted(file for file in folder.rglob("*") if file.suffix in (".h", ".hpp", ".c", ".cpp")):
        total.update(file.read_bytes())
    return base64.b64encode(total.digest()).decode()


def fetch(target: str) -> tuple[Path, Path]:
    """(library folder, source tree), obtained in parallel."""
    with ThreadPoolExecutor(2) as pool:
        libraries, source = pool.submit(library_folder, target), pool.submit(source_tree)
        return libraries.result(), source.result()


def _folder(package: Package) -> Path:
    given = os.environ.get("GOLLAMA_NATIVE_DIR")
    if given:
        folder = Path(given) / package.target
        remedy = f"unset it, or make the folder anew with `python -m tools.natives {given}`"
        if not folder.is_dir():
            raise NativesError(f"GOLLAMA_NATIVE_DIR is {given}, which has no folder {package.target!r}: {remedy}")
        stamp = folder / STAMP
        if stamp.exists() and stamp.read_text() != package.sha512:
            raise NativesError(f"GOLLAMA_NATIVE_DIR is {given}, whose {package.target!r} is not {package.spec}: {remedy}")
        return folder
    digest = base64.b64decode(package.sha512).hex()[:16]
    folder = cache_directory() / "natives" / f"{package.target}-{digest}"
    if not folder.is_dir():
        obtain(package, folder)
    return folder


def obtain(package: Package, folder: Path, commit: str | None = None) -> None:
    """Download, verify and unpack one package into `folder`, which appears whole or not at all.

    Of a bundle the pinned commit's tree, or another's ("HEAD").
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{package.target}-", dir=folder.parent) as staging:
            archive = _download(package, Path(staging))
            verify(package, archive)
            unpacked = Path(staging) / "unpacked"
            unpack(archive, unpacked)
            content = unpacked / package.content
            if not content.exists():
                raise NativesError(f"{package.spec} holds no {package.content!r}; the pin in wheels.toml is wrong")
            if package.content.endswith(".bundle"):
                content = _check_out(content, Path(staging) / "tree", commit)
            elif (unpacked / "LICENSE").exists():
                shutil.copy(unpacked / "LICENSE", content / "LICENSE")
            (content / STAMP).write_text(package.sha512)
            _publish(content, folder)
    except OSError as error:
        raise NativesError(_disk_trouble(error, folder.parent)) from error


def _publish(content: Path, folder: Path) -> None:
    try:
        content.rename(folder)
    except OSError as error:
        # another process that fetched the same package was quicker
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def _disk_trouble(error: OSError, where: Path) -> str:
    if error.errno == errno.ENOSPC:
        return f"there is no space left in {where}: free some, or set GOLLAMA_HOME to a folder on another disk"
    return f"{where} cannot be written ({error.strerror}): set GOLLAMA_HOME to a folder that can, {ELSEWHERE}"


def _download(package: Package, staging: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise NativesError(f"npm is needed to fetch {package.spec} and is not on PATH: install Node.js, {ELSEWHERE}")
    command = [npm, "pack", package.spec, "--pack-destination", str(staging), "--loglevel", "error"]
    with _progress(package):
        result = subprocess.run(command, cwd=staging, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    archives = list(staging.glob("*.tgz"))
    if result.returncode or len(archives) != 1:
        if "ENOSPC" in result.stderr:
            raise OSError(errno.ENOSPC, "No space left on device")
        lines = [line.removeprefix("npm error ") for line in result.stderr.splitlines() if line.strip()]
        reason = next((line for line in lines if not line.startswith("code ")), f"exit status {result.returncode}")
        raise NativesError(f"npm could not fetch {package.spec} ({reason}): "
                           f"check the network and npm's registry and proxy settings, {ELSEWHERE}")
    return archives[0]


@contextmanager
def _progress(package: Package) -> Iterator[None]:
    start = time.monotonic()
    print(f"gollama: fetching {package.spec} ({package.megabytes} MB)", file=sys.stderr, flush=True)
    yield
    print(f"gollama: fetched {package.spec} in {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)


def verify(package: Package, archive: Path) -> None:
    """Refuse an archive whose sha512 is not the pinned one."""
    digest = hashlib.sha512()
    with archive.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    found = base64.b64encode(digest.digest()).decode()
    if found != package.sha512:
        raise NativesError(f"{package.spec} has the sha512 {found[:16]}… and wheels.toml pins {package.sha512[:16]}…: "
                           "do not use this download; clear npm's cache (`npm cache clean --force`) and try again, "
                           "and if it stays, ask who runs your registry or mirror")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the plain files of a verified archive, less their first path part.

    Links and special files are refused, and so is any path that would leave the folder.
    """
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            if member.isdir():
                continue
            path = PurePosixPath(member.name)
            bad = path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in member.name
            if bad or not member.isreg() or len(path.parts) < 2:
                raise NativesError(f"{archive.name} holds the entry {member.name!r}, which may not be unpacked: "
                                   "do not use this download")
            target = folder.joinpath(*path.parts[1:])
            target.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None
            with target.open("xb") as file:
                shutil.copyfileobj(content, file, 1 << 20)


def _check_out(bundle: Path, folder: Path, commit: str | None = None) -> Path:
    """The bundle's tree at the pinned commit, or another one: "HEAD"."""
    git = shutil.which("git")
    if git is None:
        raise NativesError(f"git is needed to unpack llama.cpp's source and is not on PATH: install git, {ELSEWHERE}")

    def run(*arguments: str) -> str:
        # no hooks, no templates, no user's configuration, no repository of somebody else: a bundle is data here
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        result = subprocess.run([git, "-c", "core.symlinks=false", "-c", "core.autocrlf=false", *arguments],
                                capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
        if result.returncode:
            if "No space left" in result.stderr:
                raise OSError(errno.ENOSPC, "No space left on device")
            raise NativesError(f"git could not unpack llama.cpp's source ({result.stderr.strip()}): "
                               "remove the download from npm's cache and try again")
        return result.stdout

    run("clone", "--quiet", "--no-checkout", "--template=", str(bundle), str(folder))
    run("-C", str(folder), "checkout", "--quiet", commit or pins.load().commit)
    (folder / COMMIT).write_text(run("-C", str(folder), "rev-parse", "HEAD").strip())
    shutil.rmtree(folder / ".git")
    return folder


def main(arguments: list[str]) -> None:
    """[FOLDER [TARGET ...]]: fetch what this machine builds from, or the named targets, and copy it into the folder."""
    wheel, provider = pins.chosen()
    names = arguments[1:] or ([wheel.prebuilt] if provider == "prebuilt" else [])
    for name in names:
        if name not in pins.load().natives:
            raise NativesError(f"wheels.toml has no native package {name!r}; there are: {', '.join(pins.load().natives)}")
    folders = {"source": source_tree(), **{name: library_folder(name) for name in names}}
    for name, folder in folders.items():
        if arguments:
            shutil.copytree(folder, Path(arguments[0]) / name, dirs_exist_ok=True)
            folder = Path(arguments[0]) / name
        print(f"{name}: {folder}")


def run_or_exit(action: Callable[[], None]) -> None:
    """Run a build step; a known failure ends the program with its one sentence."""
    try:
        action()
    except (NativesError, pins.PinsError) as error:
        raise SystemExit(f"gollama: {error}") from None


if __name__ == "__main__":
    run_or_exit(lambda: main(sys.argv[1:]))
