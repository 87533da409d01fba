"""The one reader of wheels.toml."""

from __future__ import annotations

import functools
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "wheels.toml"


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
    distribution: str
    system: str
    machine: str
    backend: str
    native: str
    tag: str


@dataclass(frozen=True)
class Pins:
    release: str
    commit: str
    source: Package
    natives: dict[str, Package]
    wheels: tuple[Wheel, ...]

    def core_wheel(self, system: str, machine: str) -> Wheel:
        """The core wheel of a platform; PinsError names the platforms there are."""
        cores = [wheel for wheel in self.wheels if wheel.distribution == "gollama-cpu"]
        for wheel in cores:
            if (wheel.system, wheel.machine) == (system, machine):
                return wheel
        known = ", ".join(f"{wheel.system} {wheel.machine}" for wheel in cores)
        raise PinsError(f"there are no native libraries for {system} {machine}; the platforms with some are: {known}")


def _package(target: str, row: dict[str, Any], content: str) -> Package:
    try:
        return Package(target, row["package"], row["version"], row["sha512"], row["megabytes"], row[content])
    except KeyError as error:
        raise PinsError(f"{FILE.name}: the entry {target!r} lacks the key {error}") from None


def parse(text: str) -> Pins:
    """Read and check the text of a wheels.toml."""
    table = tomllib.loads(text)
    natives = {target: _package(target, row, "folder") for target, row in table["native"].items()}
    try:
        wheels = tuple(Wheel(**row) for row in table["wheel"])
    except TypeError as error:
        raise PinsError(f"{FILE.name}: a [[wheel]] row is wrong: {error}") from None
    for wheel in wheels:
        if wheel.native not in natives:
            raise PinsError(f"{FILE.name}: {wheel.distribution} names the unknown native package {wheel.native!r}")
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
