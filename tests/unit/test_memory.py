"""The memory that there is to take, from recorded files of the kernel's."""

from __future__ import annotations

from pathlib import Path

from gollama._memory import available_memory

GIB = 2**30
MEMINFO = f"MemTotal:       {32 * 2**20} kB\nMemFree:        {2**20} kB\nMemAvailable:   {8 * 2**20} kB\n"


def machine(folder: Path) -> tuple[Path, Path]:
    (folder / "meminfo").write_text(MEMINFO)
    return folder / "meminfo", folder


def test_without_a_limit_it_is_what_the_kernel_calls_available(tmp_path: Path) -> None:
    assert available_memory(*machine(tmp_path)) == 8 * GIB
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text(f"{GIB}\n")
    assert available_memory(tmp_path / "meminfo", tmp_path) == 8 * GIB


def test_a_limit_leaves_what_is_not_taken_and_the_files_that_can_be_given_up(tmp_path: Path) -> None:
    """A container whose limit is full of a model's file that was read."""
    (tmp_path / "memory.max").write_text(f"{4 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{4 * GIB}\n")
    assert available_memory(*machine(tmp_path)) == 0
    (tmp_path / "memory.stat").write_text(f"anon {GIB}\nactive_file {GIB}\ninactive_file {2 * GIB}\n")
    assert available_memory(tmp_path / "meminfo", tmp_path) == 3 * GIB


def test_the_older_cgroup_files_are_read_too(tmp_path: Path) -> None:
    folder = tmp_path / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text(f"{2 * GIB}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{2 * GIB}\n")
    (folder / "memory.stat").write_text(f"cache {GIB}\ntotal_active_file 0\ntotal_inactive_file {GIB}\n")
    assert available_memory(*machine(tmp_path)) == GIB
    (folder / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert available_memory(tmp_path / "meminfo", tmp_path) == 8 * GIB
