"""Where facts about a machine come from: its files, its registry, its vendors' tools. Tests have recorded ones."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

MOST_TEXT = 2**20
TOOL_SECONDS = 10  # a tool of a broken driver may hang
# where Windows keeps what is known of display adapters, each with a numbered key
DISPLAYS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"


class Source(Protocol):
    """A machine's facts; whatever is not there is None, or empty."""

    system: str
    machine: str
    libc: str
    version: tuple[int, ...]

    def read(self, path: str) -> str | None:
        """A file's text."""

    def names(self, folder: str) -> list[str]:
        """What is in a folder, sorted."""

    def exists(self, path: str) -> bool: ...

    def displays(self) -> list[dict[str, str]]:
        """Windows: the values of each display adapter's key."""

    def run(self, command: Sequence[str]) -> str | None:
        """What a vendor's tool printed; None if it is not there, fails or hangs."""


class System:
    """This machine."""

    def __init__(self) -> None:
        self.system = {"Darwin": "macos"}.get(platform.system(), platform.system().lower())
        machine = platform.machine().lower()
        self.machine = {"armv8l": "armv7l"}.get(machine, machine)
        name, version = platform.libc_ver() if self.system == "linux" else ("", "")
        self.libc = "" if self.system != "linux" else name if name == "glibc" else "musl"
        self.version = numbers(platform.mac_ver()[0] if self.system == "macos" else version)

    def read(self, path: str) -> str | None:
        try:
            with open(path, "rb") as file:
                return file.read(MOST_TEXT).decode(errors="replace")
        except OSError:
            return None

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(folder))
        except OSError:
            return []

    def exists(self, path: str) -> bool:
        return Path(path).exists()

    def displays(self) -> list[dict[str, str]]:
        try:
            return list(_displays()) if sys.platform == "win32" else []
        except OSError:
            return []

    def run(self, command: Sequence[str]) -> str | None:
        try:
            result = subprocess.run(command, capture_output=True, timeout=TOOL_SECONDS, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.SubprocessError):
            return None
        return result.stdout.decode(errors="replace") if result.returncode == 0 else None


def _displays() -> Iterator[dict[str, str]]:
    import winreg as registry  # only on Windows

    api: Any = registry
    with api.OpenKey(api.HKEY_LOCAL_MACHINE, DISPLAYS) as adapters:
        for index in range(api.QueryInfoKey(adapters)[0]):
            try:
                with api.OpenKey(adapters, api.EnumKey(adapters, index)) as adapter:
                    values = (api.EnumValue(adapter, number)[:2] for number in range(api.QueryInfoKey(adapter)[1]))
                    yield {name: value for name, value in values if isinstance(value, str)}
            except OSError:  # a key that only the system may read
                continue


def numbers(text: str) -> tuple[int, ...]:
    """The numbers of a version, as far as it has any: (560, 35, 3) for "560.35.03"."""
    found = []
    for part in text.strip().split("."):
        if not part.isdigit():
            break
        found.append(int(part))
    return tuple(found)
