"""The records."""

from __future__ import annotations

from dataclasses import dataclass

VENDORS = {"10de": "NVIDIA", "1002": "AMD", "8086": "Intel", "106b": "Apple", "5143": "Qualcomm"}


@dataclass(frozen=True)
class Gpu:
    """Something that shows or computes graphics, by what the system tells of it."""

    vendor: str  # "NVIDIA", "AMD", "Intel", "Apple"; else its PCI number, as of a virtual display
    device: str  # its PCI number: "2684"; "" where it is not on PCI
    name: str = ""
    driver: str = ""  # the kernel's: "nvidia", "nouveau", "amdgpu", "i915"; Windows: the file's maker
    driver_version: tuple[int, ...] = ()
    compute_capability: tuple[int, int] | None = None  # NVIDIA's
    problem: str = ""  # why no program can use it now

    @property
    def title(self) -> str:
        return self.name or f"{self.vendor} {self.device}".strip()


@dataclass(frozen=True)
class Machine:
    """What it is, in wheels.toml's words."""

    system: str  # "linux", "windows", "macos"
    machine: str  # "x86_64", "aarch64", "armv7l"; "amd64" and "arm64" where those are the system's words
    libc: str = ""  # "glibc", "musl"; on macOS and Windows ""
    version: tuple[int, ...] = ()  # of the C library, or of macOS
    environment: str = ""  # "wsl", "container", "tegra"
    gpus: tuple[Gpu, ...] = ()
    vulkan: bool = False  # whether Vulkan's loader is here
