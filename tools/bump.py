"""The newest llama.cpp that every target has: rewrite the pins, and say what changed in its C API.

    python -m tools.bump [VERSION] [--check] [--file wheels.toml] [--report FILE]

Asks npm for the versions of all packages that wheels.toml pins, and takes the newest that all of them have, or VERSION. --check
says what there is and changes nothing; its exit status is 1 where there is something newer.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomlkit
from packaging.version import Version

import build_ffi
from tools import natives, pins
from tools.natives import NativesError
from tools.pins import Package, Pins

METADATA = "_nlcBuildMetadata.json"  # in each package: what it was built from


def npm_view(*words: str) -> Any:
    result = subprocess.run(["npm", "view", *words, "--json"], capture_output=True, text=True)
    if result.returncode:
        raise NativesError(f"npm view {' '.join(words)} failed: {result.stderr.strip()[-500:]}")
    return json.loads(result.stdout)


def packages_of(pinned: Pins) -> list[Package]:
    return [pinned.source, *pinned.natives.values()]


def newest_of_all(pinned: Pins) -> str:
    """The newest version that every package has. Pre-releases do not count."""
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda package: npm_view(package.name, "versions"), packages_of(pinned))
    common = set.intersection(*(set(one if isinstance(one, list) else [one]) for one in answers))
    released = [version for version in common if re.fullmatch(r"[\d.]+", version)]
    if not released:
        raise NativesError("there is no version that all packages have")
    return str(max(released, key=Version))


def moved(package: Package, version: str) -> Package:
    """The same package at another version, with the digest that npm states."""
    integrity = npm_view(f"{package.name}@{version}", "dist.integrity")
    if not str(integrity).startswith("sha512-"):
        raise NativesError(f"npm states no sha512 for {package.name}@{version}")
    return replace(package, version=version, sha512=integrity.removeprefix("sha512-"))


def origin(source: Package, library: Package, folder: Path) -> tuple[str, str, Path]:
    """(release, commit, source tree) of llama.cpp, from the packages themselves."""
    natives.obtain(library, folder / "library")
    release = json.loads((folder / "library" / METADATA).read_text(encoding="utf-8"))["buildOptions"]["llamaCpp"]["release"]
    natives.obtain(source, folder / "source", "HEAD")
    return release, (folder / "source" / natives.COMMIT).read_text(), folder / "source"


def rewrite(text: str, packages: dict[str, Package], source: Package, release: str, commit: str) -> str:
    """wheels.toml with other pins; comments and order stay."""
    document: Any = tomlkit.parse(text)
    document["llama_cpp"]["release"], document["llama_cpp"]["commit"] = release, commit
    for row, package in [(document["source"], source), *((document["native"][name], package) for name, package in packages.items())]:
        row["version"], row["sha512"] = package.version, package.sha512
    return str(tomlkit.dumps(document))


@contextmanager
def headers_of(source: Path) -> Iterator[None]:
    """build_ffi reads the headers of that tree meanwhile."""
    kept = build_ffi.UPSTREAM
    with tempfile.TemporaryDirectory() as folder:
        build_ffi.UPSTREAM = Path(folder) / "llama.cpp"
        try:
            build_ffi.header_folder(source)
            yield
        finally:
            build_ffi.UPSTREAM = kept


def declared(source: Path) -> dict[str, str]:
    """Every name that the bound headers of llama.cpp declare, with its declaration; deprecated ones are left out."""
    found = {}
    with headers_of(source):
        for header, statement, deprecated in build_ffi.statements(build_ffi.preprocess(())):
            words = " ".join(statement.split())
            name = re.search(r"\(\s*\*\s*(\w+)\s*\)|(?:struct|enum|union)\s+(\w+)\s*\{|(\w+)\s*\(|(\w+)\s*;$", words)
            if header in build_ffi.BOUND and header != "gollama.h" and name and not deprecated:
                found[next(filter(None, name.groups()))] = words
    return found


def report(old: dict[str, str], new: dict[str, str], title: str) -> str:
    """Markdown: what was added, removed and changed."""
    parts = [f"# {title}"]
    for kind, names in (("Added", new.keys() - old.keys()), ("Removed", old.keys() - new.keys()),
                        ("Changed", {name for name in old.keys() & new.keys() if old[name] != new[name]})):
        parts += [f"## {kind} ({len(names)})", *(f"- `{name}`" for name in sorted(names))]
    return "\n\n".join(parts[:1]) + "\n\n" + "\n".join(parts[1:]) + "\n"


def bump(file: Path, version: str) -> str:
    """Rewrite the pins in the file; the report."""
    text = file.read_text(encoding="utf-8")
    pinned = pins.parse(text)
    with ThreadPoolExecutor(8) as pool:
        source, *others = pool.map(lambda package: moved(package, version), packages_of(pinned))
    packages = {package.target: package for package in others}
    with tempfile.TemporaryDirectory() as folder:
        release, commit, tree = origin(source, packages["linux-x64"], Path(folder))
        changes = report(declared(natives.source_tree()), declared(tree), f"llama.cpp {pinned.release} to {release}")
    written = rewrite(text, packages, source, release, commit)
    pins.parse(written)
    file.write_text(written, encoding="utf-8")
    return changes


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bump", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", nargs="?", help="of the npm packages; the newest that all have, if not given")
    parser.add_argument("--check", action="store_true", help="say what there is, and change nothing")
    parser.add_argument("--file", type=Path, default=pins.FILE)
    parser.add_argument("--report", type=Path, help="write the report to this file, not to stdout")
    given = parser.parse_args(arguments)
    pinned = pins.parse(given.file.read_text(encoding="utf-8"))
    version = given.version or newest_of_all(pinned)
    if version == pinned.source.version or given.check:
        newer = version != pinned.source.version
        print(f"pinned: {pinned.source.version}; newest that all packages have: {version}")
        raise SystemExit(given.check and newer)
    text = bump(given.file, version)
    if given.report:
        given.report.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    natives.run_or_exit(lambda: main(sys.argv[1:]))
