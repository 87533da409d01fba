"""How much memory there is to take."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
UNLIMITED = 2**60  # cgroup v1 says "no limit" by a number near 2**63


def available_memory(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int | None:
    """Bytes that this process could still take without swapping, within its cgroup's limit; None if nobody knows."""
    known = [size for size in (_system(meminfo), _cgroup(cgroup)) if size is not None]
    return min(known, default=None)


def _system(meminfo: Path) -> int | None:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _cgroup(folder: Path) -> int | None:
    """What the limit leaves, of cgroup v2 or v1. Files that the kernel keeps in memory count as used there, and are given up for others."""
    v1 = "memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_"
    for limit, used, name in (("memory.max", "memory.current", ""), v1):
        try:
            most, taken = int((folder / limit).read_text()), int((folder / used).read_text())
        except (OSError, ValueError):  # "max", or no such limit
            continue
        if most < UNLIMITED:
            return max(0, most - max(0, taken - _file_cache((folder / used).with_name("memory.stat"), name)))
    return None


def _file_cache(stat: Path, prefix: str) -> int:
    try:
        rows = dict(line.split(" ", 1) for line in stat.read_text().splitlines())
        return sum(int(rows.get(f"{prefix}{name}", 0)) for name in ("active_file", "inactive_file"))
    except (OSError, ValueError):
        return 0
