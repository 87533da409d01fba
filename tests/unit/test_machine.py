"""Recorded machines, and the wheel that each should have."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gollama.machine import Machine, System, WheelRow, inspect, recommend, sources
from gollama.machine.recommending import runs_on
from gollama.machine.sources import numbers
from tools import pins

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "machines"
RECORDS: list[dict[str, Any]] = [record for file in sorted(FOLDER.glob("*.toml"))
                                 for record in tomllib.loads(file.read_text(encoding="utf-8"))["machine"]]
MISSES: set[str] = set()  # what is known to be recommended wrongly
PCI = "/sys/bus/pci/devices/0000:{}/uevent"


class Recorded:
    """A machine from a file."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.system, self.machine, self.libc = record["system"], record["machine"], record.get("libc", "")
        self.version = numbers(record.get("version", ""))
        self._files: dict[str, str] = dict.fromkeys(record.get("present", ()), "") | record.get("files", {})
        for line in record.get("pci", ()):
            slot, kind, device, driver = line.split(" ")
            self._files[PCI.format(slot)] = f"DRIVER={driver}\nPCI_CLASS={kind}\nPCI_ID={device}\nPCI_SLOT_NAME=0000:{slot}\n"
        self._displays, self._commands = record.get("displays", []), record.get("commands", {})

    def read(self, path: str) -> str | None:
        return self._files.get(path)

    def names(self, folder: str) -> list[str]:
        return sorted({path[len(folder) + 1:].split("/")[0] for path in self._files if path.startswith(f"{folder}/")})

    def exists(self, path: str) -> bool:
        return path in self._files or bool(self.names(path))

    def displays(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = self._displays
        return found

    def run(self, command: Sequence[str]) -> str | None:
        printed: str | None = self._commands.get(command[0])
        return printed


def rows(record: dict[str, Any]) -> Iterator[WheelRow]:
    """The backend wheels that are published for the machine's platform."""
    for wheel in pins.load().wheels:
        if not wheel.core and wheel.native and (wheel.system, wheel.machine) == (record["system"], record["machine"]):
            yield WheelRow(wheel.distribution, wheel.backend, wheel.tag)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["name"])
def test_a_recorded_machine_is_recommended_its_wheel(record: dict[str, Any]) -> None:
    found = recommend(inspect(Recorded(record)), rows(record))
    assert found.reasons and all(found.reasons)
    if record["name"] in MISSES:
        pytest.xfail("a known miss")
    assert found.command == f"pip install {record['expected']}", found.reasons


def test_a_windows_that_knows_no_displays_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_key(*_: object) -> object:
        raise FileNotFoundError("as in a container")

    monkeypatch.setitem(sys.modules, "winreg", SimpleNamespace(HKEY_LOCAL_MACHINE=0, OpenKey=open_key))
    monkeypatch.setattr(sources, "sys", SimpleNamespace(platform="win32"))
    assert System().displays() == []


def test_there_are_forty_machines_of_all_kinds_and_few_misses() -> None:
    names = {record["name"] for record in RECORDS}
    assert len(names) == len(RECORDS) >= 40 and len(MISSES & names) <= 0.05 * len(RECORDS)
    assert {record["expected"] for record in RECORDS} == {f"gollama-{name}" for name in ("cpu", "cuda12", "cuda13", "vulkan", "metal")}


def test_what_speaks_against_a_gpu_is_told() -> None:
    told = {record["name"]: " ".join(recommend(inspect(Recorded(record)), rows(record)).reasons) for record in RECORDS}
    for name, words in {
        "desktop, GTX 1080 Ti, driver 580": "gollama-cuda13 needs compute capability 7.5, and it has 6.1",
        "desktop, RTX 2080 Ti, driver 470": "gollama-cuda12 needs driver 550.54 for it, and 470.239.6 is installed",
        "desktop, RTX 3090, nouveau": "the driver is nouveau: install NVIDIA's",
        "container without its GPU": "docker run --gpus all",
        "laptop, without Vulkan's loader": "apt install libvulkan1",
        "GPU kept for virtual machines": "vfio-pci",
        "WSL 2 without an NVIDIA card": "only NVIDIA's driver",
    }.items():
        assert words in told[name]


def test_this_machine_can_be_told() -> None:
    machine = inspect()
    assert (machine.system, machine.machine) == pins.this_platform() and machine.libc == pins.this_libc()
    assert inspect(System()) == machine


@pytest.mark.parametrize(("tag", "good"), [
    ("manylinux_2_35_x86_64", True), ("manylinux_2_37_x86_64", False), ("musllinux_1_2_x86_64", False), ("linux_x86_64", True),
])
def test_a_tag_says_where_a_wheel_runs(tag: str, good: bool) -> None:
    assert runs_on(Machine("linux", "x86_64", "glibc", (2, 36)), tag) is good
