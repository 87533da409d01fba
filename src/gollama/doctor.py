"""What gollama found on this machine, and what would serve it better: the report of `gollama doctor`."""

from __future__ import annotations

import dataclasses
import platform
import sys
from typing import Any

from gollama import _native
from gollama._cache import cache_directory
from gollama._memory import available_memory
from gollama._threads import usable_cores
from gollama.backends import Device, InstalledBackend, devices, installed, probe
from gollama.machine import Machine, WheelRow, inspect, recommend
from gollama.version import version_info


def report() -> dict[str, Any]:
    """The findings, ready for JSON; the keys stay what they are.

    Tries every installed backend in a child process, whatever is known of it from earlier, and loads those that work.
    """
    info, build, machine = version_info(), _native.build(), inspect()
    return {
        "gollama": info.gollama,
        "llama_cpp": {**build["llama_cpp"], "provider": build["provider"]},
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "machine": _machine(machine),
        "cpu": {"library": info.cpu_variant, "features": _native.cpu_features(), "threads": usable_cores(),
                "memory_free": available_memory()},
        "backends": [_backend(backend) for backend in installed()],
        "devices": [device_record(device) for device in devices()],
        "recommendation": _recommendation(machine),
        "cache": str(cache_directory()),
    }


def device_record(device: Device) -> dict[str, Any]:
    return {**dataclasses.asdict(device), "is_software": device.is_software}


def _machine(machine: Machine) -> dict[str, Any]:
    record = dataclasses.asdict(machine)
    record["gpus"] = [{**dataclasses.asdict(gpu), "title": gpu.title} for gpu in machine.gpus]
    return record


def _backend(backend: InstalledBackend) -> dict[str, Any]:
    probed = probe(backend, fresh=True)
    return {"distribution": backend.distribution, "backend": backend.backend, "problem": probed.problem,
            "devices": [facts.name for facts in probed.devices], "seconds": probed.seconds}


def _recommendation(machine: Machine) -> dict[str, Any]:
    """What to install; `command` is None where it is all here."""
    found = recommend(machine, [WheelRow(**row) for row in _native.build()["wheels"]])
    here = {backend.distribution for backend in installed() if probe(backend).problem is None}
    missing = [name for name in found.distributions[1:] if name not in here]
    return {"distributions": found.distributions, "reasons": found.reasons, "command": found.command if missing else None}
