"""What tells one state of the machine's drivers from another, cheaply: nothing is loaded and no program is run."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

# what changes when a driver, or a library that it needs, is installed, removed or replaced
FILES = ("/etc/ld.so.cache", "/proc/driver/nvidia/version", "/sys/module/nvidia/version", "/sys/module/amdgpu/version",
         "/sys/module/amdgpu/srcversion", "/sys/module/i915/srcversion", "/sys/module/xe/srcversion")
FOLDERS = ("/dev/dri", "/dev/nvidia-caps", "/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/etc/OpenCL/vendors")
DEVICES = ("/dev/kfd", "/dev/nvidiactl", *(f"/dev/nvidia{number}" for number in range(16)))
WINDOWS = ("nvcuda.dll", "vulkan-1.dll", "amdhip64.dll", "amdhip64_6.dll", "amdhip64_7.dll", "OpenCL.dll", "ze_loader.dll")
VARIABLES = ("CUDA_", "NVIDIA_", "HIP_", "ROCR_", "GPU_", "GGML_", "VK_", "ONEAPI_", "ZE_", "SYCL_", "OCL_", "LD_LIBRARY_PATH")


def fingerprint(root: Path = Path("/")) -> str:
    """The same word as long as the drivers, the devices and the variables that steer them are the same."""
    return hashlib.sha256("\n".join(_facts(root)).encode(errors="replace")).hexdigest()


def _facts(root: Path) -> Iterator[str]:
    yield from (sys.platform, platform.release(), platform.version(), platform.machine())
    yield from (f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES))
    if sys.platform == "win32":
        system = Path(os.environ.get("SYSTEMROOT", "C:\\Windows")) / "System32"
        yield from (state(system / name) for name in WINDOWS)
        yield state(system / "DriverStore" / "FileRepository")
        return
    for name in FILES:
        file = root / name.lstrip("/")
        yield state(file) if name.startswith("/etc") else f"{name} {_text(file)}"
    for name in FOLDERS:
        yield from (state(file) for file in _entries(root / name.lstrip("/")))
    yield from (f"{name} {(root / name.lstrip('/')).exists()}" for name in DEVICES)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")[:1000]
    except OSError:
        return "-"


def state(file: Path) -> str:
    """The same line as long as nobody replaces the file."""
    try:
        found = file.stat()
    except OSError:
        return f"{file} -"
    return f"{file} {found.st_size} {found.st_mtime_ns} {found.st_rdev}"
