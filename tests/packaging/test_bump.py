"""tools/bump.py with the real npm: `pytest -m slow tests/packaging/test_bump.py`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from packaging.version import Version

from tools import bump, pins

OTHER = "3.20.0"  # a version that all packages have, of an older llama.cpp


def test_a_report_says_what_came_went_and_changed() -> None:
    old = {"a": "int a(void);", "b": "int b(void);", "c": "int c(void);"}
    told = bump.report(old, {"b": "int b(void);", "c": "int c(int);", "d": "int d(void);"}, "old to new")
    assert told == "# old to new\n\n## Added (1)\n- `d`\n## Removed (1)\n- `a`\n## Changed (1)\n- `c`\n"


@pytest.mark.slow
def test_what_is_pinned_is_among_what_all_packages_have() -> None:
    pinned = pins.load().source.version
    assert Version(bump.newest_of_all(pins.load())) >= Version(pinned)


@pytest.mark.slow
def test_another_version_rewrites_every_pin_and_reports_the_api(tmp_path: Path) -> None:
    file, before = tmp_path / "wheels.toml", pins.load()
    shutil.copy(pins.FILE, file)
    told = bump.bump(file, OTHER)
    text, after = file.read_text(encoding="utf-8"), pins.parse(file.read_text(encoding="utf-8"))
    assert after.release != before.release and re.fullmatch(r"[0-9a-f]{40}", after.commit) and after.commit != before.commit
    for target, package in after.natives.items():
        assert package.version == OTHER and package.sha512 != before.natives[target].sha512
    assert after.source.version == OTHER and after.wheels == before.wheels
    comments = [line for line in pins.FILE.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert [line for line in text.splitlines() if line.startswith("#")] == comments
    assert "- `llama_version`" in told and "## Removed" in told  # which came with v0.4.0
