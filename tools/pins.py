"""The one reader of wheels.toml.

    python -m tools.pins list      a line for each wheel
    python -m tools.pins check     whether the file is right; it says what is not
    python -m tools.pins matrix    the jobs of CI, as JSON
"""

from __future__ import annotations

import functools
import json
import os
import platform
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.tags import parse_tag

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "wheels.toml"
CORE = "gollama-cpu"
PROVIDERS = ("prebuilt", "source")


class PinsError(Exception):
    """wheels.toml lacks something or states it wrongly; the message is one sentence that says what."""


@dataclass(frozen=True)
class Package:
    """One npm package: how to ask for it, how to check it, and the part of it that is wanted."""

    target: str
    name: str
    version: str
    sha512: str
    megabytes: float
    content: str  # the folder of libraries, or the git bundle, relative to the package's root

    @property
    def spec(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Wheel:
    """One row: what wheels.toml's head says of each field."""

    distribution: str
    system: str
    machine: str
    backend: str
    provider: str
    python: tuple[str, ...]
    tag: str
    runner: str
    libc: str = "glibc"
    builder: str | None = None
    native: str | None = None
    target: str | None = None
    container: str | None = None
    cmake: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()

    @property
    def core(self) -> bool:
        return self.distribution == CORE

    @property
    def prebuilt(self) -> str:
        """The row's native package; PinsError where there is none."""
        if self.native is None:
            raise PinsError(f"there are no prebuilt libraries for {self.name}: build from source, with GOLLAMA_NATIVE=source")
        return self.native

    @property
    def name(self) -> str:
        """A word for it, unlike that of any other row."""
        return f"{self.distribution}-{self.tag}"

    def build_identifier(self, python: str) -> str:
        """What cibuildwheel calls the build of a core for a Python tag: "cp310-manylinux_x86_64"."""
        interpreter = python.split("-")[-1] if python.endswith("t") else self.builder or python.split("-")[0]
        kind = self.tag.split("_")[0]
        return f"{interpreter}-{kind}_{self.machine}"


@dataclass(frozen=True)
class Pins:
    release: str
    commit: str
    source: Package
    natives: dict[str, Package]
    wheels: tuple[Wheel, ...]

    def core_wheel(self, system: str, machine: str, libc: str = "glibc") -> Wheel:
        """The core wheel of a platform; PinsError names the platforms there are."""
        cores = [wheel for wheel in self.wheels if wheel.core]
        for wheel in cores:
            if (wheel.system, wheel.machine, wheel.libc) == (system, machine, libc):
                return wheel
        known = ", ".join(f"{wheel.system} {wheel.machine}{' (musl)' * (wheel.libc == 'musl')}" for wheel in cores)
        asked = f"{system} {machine}{' (musl)' * (libc == 'musl')}"
        raise PinsError(f"there are no native libraries for {asked}; the platforms with some are: {known}")

    def matrix(self) -> list[dict[str, Any]]:
        """A job for each wheel, as GitHub's `strategy.matrix.include` takes it; `build` is cibuildwheel's name for a core's."""
        return [{"name": f"{wheel.name}-{python}", "row": wheel.name, **vars(wheel), "python": python,
                 "build": wheel.build_identifier(python) if wheel.core else None} for wheel in self.wheels for python in wheel.python]


def _package(target: str, row: dict[str, Any], content: str) -> Package:
    try:
        return Package(target, row["package"], row["version"], row["sha512"], row["megabytes"], row[content])
    except KeyError as error:
        raise PinsError(f"{FILE.name}: the entry {target!r} lacks the key {error}") from None


def _wheel(row: dict[str, Any], natives: dict[str, Package]) -> Wheel:
    """A row, checked: it has what its provider needs, and its tags are tags."""
    where = f"{FILE.name}: the [[wheel]] row {row.get('distribution')} for {row.get('system')} {row.get('machine')}"
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    try:
        wheel = Wheel(**values)
    except TypeError as error:
        raise PinsError(f"{where} is wrong: {error}") from None
    for field in fields(Wheel):
        value = getattr(wheel, field.name)
        if not (isinstance(value, tuple) if "tuple" in str(field.type) else value is None or isinstance(value, str)):
            raise PinsError(f"{where} has a {field.name} of the wrong kind: {value!r}")
    if wheel.native is not None and wheel.native not in natives:
        raise PinsError(f"{where} names the unknown native package {wheel.native!r}")
    needed = {"prebuilt": wheel.native, "source": wheel.target or wheel.container}
    if wheel.provider not in needed:
        raise PinsError(f"{where} has the provider {wheel.provider!r}; there are: {', '.join(needed)}")
    if needed[wheel.provider] is None:
        raise PinsError(f"{where} lacks what the provider {wheel.provider!r} builds from or with")
    if not wheel.core and not wheel.modules:
        raise PinsError(f"{where} names no modules, and a backend wheel holds nothing else")
    if wheel.core and wheel.modules:
        raise PinsError(f"{where} names modules, and the core holds all there are")
    try:
        for requirement in wheel.requires:
            Requirement(requirement)
        for python in wheel.python:
            if len(parse_tag(f"{python}-{wheel.tag}")) != 1 or python.count("-") != 1:
                raise ValueError(f"{python!r} is not one Python tag and one ABI tag")
    except ValueError as error:
        raise PinsError(f"{where} is wrong: {error}") from None
    return wheel


def parse(text: str) -> Pins:
    """Read and check the text of a wheels.toml."""
    table = tomllib.loads(text)
    natives = {target: _package(target, row, "folder") for target, row in table["native"].items()}
    wheels = tuple(_wheel(row, natives) for row in table["wheel"])
    names = [wheel.name for wheel in wheels]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PinsError(f"{FILE.name}: more than one [[wheel]] row is {twice[0]}")
    pinned = table["llama_cpp"]
    return Pins(pinned["release"], pinned["commit"], _package("source", table["source"], "bundle"), natives, wheels)


@functools.cache
def load() -> Pins:
    return parse(FILE.read_text(encoding="utf-8"))


def this_platform() -> tuple[str, str]:
    """(system, machine) of the running interpreter in wheels.toml's words."""
    system = {"Linux": "linux", "Windows": "windows", "Darwin": "macos"}.get(platform.system(), platform.system())
    machine = platform.machine()
    machine = {"AMD64": "amd64", "ARM64": "arm64"}.get(machine, machine)
    if machine == "x86_64" and sys.maxsize < 2**32:
        machine = "i686"
    return system, machine


def this_libc() -> str:
    """"musl" on a Linux whose C library is that, else "glibc"."""
    return "glibc" if platform.system() != "Linux" or platform.libc_ver()[0] == "glibc" else "musl"


def chosen() -> tuple[Wheel, str]:
    """The core's row that is to be built, and by which provider.

    GOLLAMA_NATIVE names the provider, and GOLLAMA_TARGET a row's `target`, to build for another platform than this one.
    """
    target = os.environ.get("GOLLAMA_TARGET")
    if target:
        rows = {wheel.target: wheel for wheel in load().wheels if wheel.core and wheel.target}
        if target not in rows:
            raise PinsError(f"GOLLAMA_TARGET is {target!r}; there are: {', '.join(map(str, rows))}")
        wheel = rows[target]
    else:
        wheel = load().core_wheel(*this_platform(), this_libc())
    # Windows' prebuilt libraries have a C++ ABI that zig does not speak
    prebuilt = wheel.native and wheel.system != "windows" and not target
    provider = os.environ.get("GOLLAMA_NATIVE") or ("prebuilt" if prebuilt else wheel.provider)
    if provider not in PROVIDERS:
        raise PinsError(f"GOLLAMA_NATIVE is {provider!r}; there are: {', '.join(PROVIDERS)}")
    if provider == "source" and not wheel.target:
        raise PinsError(f"{wheel.name} cannot be built from source: its row in {FILE.name} names no target; unset GOLLAMA_NATIVE")
    if provider == "prebuilt" and target:
        raise PinsError("the prebuilt provider builds for this platform only: unset GOLLAMA_TARGET, or set GOLLAMA_NATIVE=source")
    return wheel, provider


def main(arguments: list[str]) -> None:
    try:
        pinned = load()
    except PinsError as error:
        raise SystemExit(f"gollama: {error}") from None
    if arguments == ["list"]:
        for wheel in pinned.wheels:
            origin = wheel.native if wheel.provider == "prebuilt" else f"source by {wheel.container or f'zig for {wheel.target}'}"
            print(f"{wheel.distribution:16} {' '.join(wheel.python):24} {wheel.tag:24} {wheel.backend:8} {origin}")
    elif arguments == ["check"]:
        print(f"{FILE.name}: {len(pinned.wheels)} rows, {len(pinned.matrix())} wheels of llama.cpp {pinned.release}")
    elif arguments == ["matrix"]:
        print(json.dumps({"include": pinned.matrix()}))
    else:
        raise SystemExit((__doc__ or "").strip())


if __name__ == "__main__":
    main(sys.argv[1:])
