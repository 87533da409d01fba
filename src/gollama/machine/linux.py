"""Linux: /sys and /proc, and NVIDIA's tool where the kernel does not tell, as under WSL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from gollama.machine.facts import VENDORS, Gpu, Machine
from gollama.machine.nvidia import compute_capability
from gollama.machine.sources import Source, numbers

PCI = "/sys/bus/pci/devices"
DISPLAY = 0x03  # the PCI class of what shows, or computes like it
LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib/arm-linux-gnueabihf", "/usr/lib64", "/usr/lib", "/lib")
WSL_LIBRARIES = "/usr/lib/wsl/lib"
NVIDIA_SMI = ("nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader")
DOCKER = "start the container with the GPU: `docker run --gpus all`, or `--device` for its files"


def read(source: Source) -> Machine:
    environment = _environment(source)
    gpus = tuple(_wsl(source) if environment == "wsl" else _on_pci(source))
    if environment == "tegra":
        gpus += (Gpu("NVIDIA", "", "Tegra", "nvgpu", _tegra_version(source)),)
    vulkan = any(source.exists(f"{folder}/libvulkan.so.1") for folder in LIBRARIES)
    return Machine("linux", source.machine, source.libc, source.version, environment, gpus, vulkan)


def _environment(source: Source) -> str:
    if "microsoft" in (source.read("/proc/sys/kernel/osrelease") or "").lower():
        return "wsl"
    if "nvidia,tegra" in (source.read("/proc/device-tree/compatible") or ""):
        return "tegra"
    if source.exists("/.dockerenv") or source.exists("/run/.containerenv"):
        return "container"
    return ""


def _tegra_version(source: Source) -> tuple[int, ...]:
    found = re.search(r"# R(\d+) .*REVISION: ([\d.]+)", source.read("/etc/nv_tegra_release") or "")
    return numbers(f"{found[1]}.{found[2]}") if found else ()


def _on_pci(source: Source) -> Iterator[Gpu]:
    for slot in source.names(PCI):
        facts = dict(line.split("=", 1) for line in (source.read(f"{PCI}/{slot}/uevent") or "").splitlines() if "=" in line)
        try:
            kind, (vendor, device) = int(facts["PCI_CLASS"], 16) >> 16, facts["PCI_ID"].lower().split(":")
        except (KeyError, ValueError):
            continue
        if kind != DISPLAY and not (vendor == "1002" and kind == 0x12):  # AMD's accelerators have a class of their own
            continue
        gpu = Gpu(VENDORS.get(vendor, vendor), device, driver=facts.get("DRIVER", ""))
        yield _nvidia(source, gpu) if vendor == "10de" else _other(source, gpu)


def _nvidia(source: Source, gpu: Gpu) -> Gpu:
    version = nvidia_version(source)
    gpu = replace(gpu, driver_version=version, compute_capability=compute_capability(gpu.device))
    if gpu.driver == "vfio-pci":
        return replace(gpu, problem="it is kept for virtual machines (vfio-pci)")
    if not version:
        found = f"the driver is {gpu.driver}" if gpu.driver else "there is no driver for it"
        return replace(gpu, problem=f"{found}: install NVIDIA's")
    if not (source.exists("/dev/nvidiactl") or source.exists("/dev/nvidia0")):
        return replace(gpu, problem=f"its device files are not here: {DOCKER}")
    return gpu


def nvidia_version(source: Source) -> tuple[int, ...]:
    """Of NVIDIA's kernel module; none where it is not loaded."""
    found = re.search(r"Kernel Module(?: for \w+)?\s+([\d.]+)", source.read("/proc/driver/nvidia/version") or "")
    return numbers(found[1] if found else source.read("/sys/module/nvidia/version") or "")


def _other(source: Source, gpu: Gpu) -> Gpu:
    if gpu.vendor not in VENDORS.values():
        return gpu
    if gpu.driver == "vfio-pci":
        return replace(gpu, problem="it is kept for virtual machines (vfio-pci)")
    if not gpu.driver:
        return replace(gpu, problem="the kernel has no driver for it")
    if not any(name.startswith("renderD") for name in source.names("/dev/dri")):
        return replace(gpu, problem=f"its device files are not here: {DOCKER}")
    return gpu


def _wsl(source: Source) -> Iterator[Gpu]:
    """Windows' GPUs under Linux: NVIDIA's have CUDA; the others' drivers compute by Direct3D only."""
    if not source.exists("/dev/dxg"):
        return
    printed = source.run(NVIDIA_SMI) or source.run((f"{WSL_LIBRARIES}/nvidia-smi", *NVIDIA_SMI[1:])) or ""
    for line in printed.splitlines():
        name, _, rest = line.partition(",")
        capability, _, version = (part.strip() for part in rest.partition(","))
        major, *minor = numbers(capability) or (0,)
        yield Gpu("NVIDIA", "", name.strip(), "dxgkrnl", numbers(version), (major, minor[0] if minor else 0) if major else None)
    if not printed.strip():
        yield Gpu("Windows'", "", "GPU of Windows", "dxgkrnl", problem="only NVIDIA's driver for Windows brings its GPU into WSL")
