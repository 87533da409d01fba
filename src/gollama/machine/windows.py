"""Windows: the registry's display adapters, and which loaders are among the system's libraries."""

from __future__ import annotations

import re
from dataclasses import replace

from gollama.machine.facts import VENDORS, Gpu, Machine
from gollama.machine.nvidia import compute_capability
from gollama.machine.sources import Source, numbers

SYSTEM32 = r"C:\Windows\System32"


def read(source: Source) -> Machine:
    found = [_gpu(source, values) for values in source.displays()]
    gpus = tuple(dict.fromkeys(gpu for gpu in found if gpu))  # an adapter that was moved has left its old key behind
    return Machine("windows", source.machine, gpus=gpus, vulkan=source.exists(rf"{SYSTEM32}\vulkan-1.dll"))


def _gpu(source: Source, values: dict[str, str]) -> Gpu | None:
    place = re.search(r"VEN_(\w{4})(?:&DEV_(\w{4}))?", values.get("MatchingDeviceId", ""), re.IGNORECASE)
    if not place:
        return None  # a remote or virtual display
    vendor, device = place[1].lower(), (place[2] or "").lower()
    vendor = {"qcom": "5143"}.get(vendor, vendor)
    version = numbers(values.get("DriverVersion", ""))
    gpu = Gpu(VENDORS.get(vendor, vendor), device, values.get("DriverDesc", ""), values.get("ProviderName", ""), version)
    if gpu.driver == "Microsoft" and vendor in VENDORS:
        return replace(gpu, problem="it runs with Windows' own driver: install its maker's")
    if vendor != "10de":
        return gpu
    gpu = replace(gpu, driver_version=nvidia_version(version), compute_capability=compute_capability(device))
    return gpu if source.exists(rf"{SYSTEM32}\nvcuda.dll") else replace(gpu, problem="NVIDIA's driver is not whole: nvcuda.dll is missing")


def nvidia_version(version: tuple[int, ...]) -> tuple[int, ...]:
    """NVIDIA's number in Windows' one, of which it is the last five digits: (560, 94) for 32.0.15.6094."""
    if len(version) != 4:
        return ()
    digits = f"{version[2]:02}"[-1] + f"{version[3]:04}"
    return int(digits[:3]), int(digits[3:])
