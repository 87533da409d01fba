"""The workflows: their schema, and that they build what wheels.toml lists and nothing from a list of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tools import pins

FOLDER = pins.ROOT / ".github"
WORKFLOWS = sorted((FOLDER / "workflows").glob("*.yml"))


def check(schema: str, *files: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


@pytest.mark.skipif(not WORKFLOWS, reason="the workflows are in the checkout only")
def test_the_workflows_keep_to_their_schema_and_end_in_time() -> None:
    check("vendor.github-workflows", *WORKFLOWS)
    check("custom.github-workflows-require-timeout", *(file for file in WORKFLOWS if file.name != "release.yml"))
    assert {file.stem for file in WORKFLOWS} == {"test", "wheels", "release", "bump"}


@pytest.mark.skipif(not WORKFLOWS, reason="the workflows are in the checkout only")
def test_renovate_keeps_to_its_schema() -> None:
    check("vendor.renovate", FOLDER / "renovate.json")


@pytest.mark.skipif(not WORKFLOWS, reason="the workflows are in the checkout only")
def test_the_workflows_open_no_door() -> None:
    """Text of others in a shell, credentials that lie about, rights that nobody needs."""
    command = [str(Path(sys.executable).with_name("zizmor")), "--offline", "--no-progress", str(FOLDER)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.skipif(not WORKFLOWS, reason="the workflows are in the checkout only")
def test_no_workflow_has_a_list_of_wheels_of_its_own() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in WORKFLOWS)
    for wheel in pins.load().wheels:
        assert wheel.tag not in text and (wheel.core or wheel.distribution not in text)


def test_every_core_is_a_build_that_cibuildwheel_knows() -> None:
    pytest.importorskip("cibuildwheel")
    known: set[str] = set()
    for platform in ("linux", "macos", "windows"):
        command = [sys.executable, "-m", "cibuildwheel", "--platform", platform, "--archs", "all", "--print-build-identifiers"]
        known |= set(subprocess.run(command, capture_output=True, text=True, check=True, cwd=pins.ROOT).stdout.split())
    jobs: list[dict[str, Any]] = json.loads(json.dumps(pins.load().matrix()))
    builds = [job["build"] for job in jobs if job["distribution"] == pins.CORE]
    assert len(builds) == len(set(builds)) == 18 and set(builds) <= known
