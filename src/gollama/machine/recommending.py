"""Which wheels serve a machine best."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gollama.machine.facts import Gpu, Machine

Capability = tuple[int, int]


@dataclass(frozen=True)
class CudaModule:
    """What a CUDA module holds, read from its fat binaries, and what NVIDIA's release notes ask of the driver for it."""

    machine_code: tuple[Capability, ...]  # for these, and later minors of the same major
    intermediate: Capability  # the oldest for which there is PTX, which the driver compiles
    driver: dict[str, tuple[int, ...]]  # by system, for machine code
    compiling_driver: dict[str, tuple[int, ...]]  # for PTX: that of the CUDA release it was written by


CUDA = {
    "gollama-cuda13": CudaModule(((8, 6), (8, 9), (12, 0), (12, 1)), (7, 5), {"linux": (580, 65), "windows": (580,)},
                                 {"linux": (590, 44), "windows": (590,)}),
    "gollama-cuda12": CudaModule(((8, 6),), (5, 0), {"linux": (525, 60), "windows": (528, 33)},
                                 {"linux": (550, 54), "windows": (551, 61)}),
}
VULKAN_16_BIT: Capability = (5, 2)  # NVIDIA's oldest with the 16-bit storage that llama.cpp's Vulkan needs
OLD_AMD = ("radeon",)  # the kernel's driver for cards that no Vulkan driver knows
# Intel's GPUs from Tiger Lake and Arc on, by the first two digits of their PCI numbers; older ones are no faster than the CPU beside them
INTEL = ("9a", "4c", "46", "a7", "7d", "64", "b0", "56", "4f", "0b", "e2", "4e", "49", "fd")
NO_LOADER = "Vulkan's loader is missing: install it and Mesa's drivers (Debian: `apt install libvulkan1 mesa-vulkan-drivers`)"
RANKS = ("NVIDIA", "Apple", "AMD", "Intel", "Qualcomm")
FROM_SOURCE = "there is no wheel of that for this platform; build from source"


@dataclass(frozen=True)
class WheelRow:
    """A backend wheel for this platform, as the core's manifest lists them."""

    distribution: str
    backend: str
    tag: str


@dataclass(frozen=True)
class Recommendation:
    """The wheels to have, and what speaks for and against them, a sentence each."""

    distributions: tuple[str, ...]  # the core alone, or with a backend
    reasons: tuple[str, ...]

    @property
    def command(self) -> str:
        return f"pip install {' '.join(self.distributions[1:] or self.distributions)}"


def recommend(machine: Machine, wheels: Iterable[WheelRow], core: str = "gollama-cpu") -> Recommendation:
    """The best wheel for the best GPU that has one; what stands in the way of the others is among the reasons."""
    usable = {row.distribution: row for row in wheels if runs_on(machine, row.tag)}
    reasons = []
    for gpu in sorted(machine.gpus, key=_rank):
        if gpu.problem:
            reasons.append(f"{gpu.title} cannot be used: {gpu.problem}")
            continue
        names, told = _for_gpu(machine, gpu)
        found = next((name for name in names if name in usable), None)
        if found:
            return Recommendation((core, found), (f"{gpu.title}: {told}", *_hints(machine, found), *reasons))
        reasons.append(f"{gpu.title}: {told}" + (f"; {FROM_SOURCE}" if names else ""))
    return Recommendation((core,), tuple(reasons) or ("there is no GPU that could compute",))


def runs_on(machine: Machine, tag: str) -> bool:
    """Whether a platform tag (PEP 425, 600, 656) is good for the machine."""
    found = re.fullmatch(r"(manylinux|musllinux|macosx)_(\d+)_(\d+)_\w+", tag)
    if not found:
        return True
    kind = {"manylinux": "glibc", "musllinux": "musl", "macosx": ""}[found[1]]
    return machine.libc == kind and (not machine.version or machine.version >= (int(found[2]), int(found[3])))


def _rank(gpu: Gpu) -> int:
    """Makers of fast ones first."""
    return RANKS.index(gpu.vendor) if gpu.vendor in RANKS else len(RANKS)


def _for_gpu(machine: Machine, gpu: Gpu) -> tuple[Sequence[str], str]:
    """The wheels that drive it, the best first, and a word on it."""
    if gpu.vendor == "NVIDIA":
        return _for_nvidia(machine, gpu)
    if gpu.vendor == "Apple":
        return ["gollama-metal"], "Metal is part of macOS"
    if gpu.vendor == "AMD":
        if gpu.driver in OLD_AMD:
            return [], "no Vulkan driver knows a card as old as this"
        return ["gollama-vulkan"], "Vulkan drives it; ROCm would need gollama-hip, which is built from source"
    if gpu.vendor == "Intel":
        if gpu.device[:2] in INTEL:
            return ["gollama-vulkan"], "Vulkan drives it; SYCL would need gollama-sycl, which is built from source"
        return [], "it is no faster than the CPU beside it"
    if gpu.vendor == "Qualcomm":
        return ["gollama-opencl"], "OpenCL drives it"
    return [], "it only shows a picture"


def _for_nvidia(machine: Machine, gpu: Gpu) -> tuple[list[str], str]:
    if machine.environment == "tegra":
        return ["gollama-cuda12"], "Jetson's GPU needs CUDA"
    capability = gpu.compute_capability or max(code for module in CUDA.values() for code in module.machine_code)
    names, missing = [], []
    for name, module in CUDA.items():
        drivers = module.driver if _has_code(module, capability) else module.compiling_driver
        if capability < module.intermediate:
            missing.append(f"{name} needs compute capability {_dotted(module.intermediate)}, and it has {_dotted(capability)}")
        elif gpu.driver_version < drivers[machine.system]:
            missing.append(f"{name} needs driver {_dotted(drivers[machine.system])} for it, and {_dotted(gpu.driver_version)} is installed")
        else:
            names.append(name)
    if machine.vulkan and capability >= VULKAN_16_BIT:
        names.append("gollama-vulkan")
    return names, "; ".join([f"driver {_dotted(gpu.driver_version)}", *missing])


def _has_code(module: CudaModule, capability: Capability) -> bool:
    return any(code[0] == capability[0] and code[1] <= capability[1] for code in module.machine_code)


def _hints(machine: Machine, distribution: str) -> list[str]:
    return [NO_LOADER] if distribution == "gollama-vulkan" and machine.system == "linux" and not machine.vulkan else []


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
