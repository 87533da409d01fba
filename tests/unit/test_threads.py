"""The number of threads to compute with."""

from __future__ import annotations

import os
from pathlib import Path

from gollama._threads import usable_cores


def test_no_more_than_the_affinity(tmp_path: Path) -> None:
    assert 1 <= usable_cores(tmp_path) <= len(os.sched_getaffinity(0))


def test_a_cgroup_quota_limits_it(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert usable_cores(tmp_path) == 1


def test_no_quota_does_not(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_cores(tmp_path) == len(os.sched_getaffinity(0))


def test_the_older_cgroup_files_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path) == 1
