"""A core in the root of another system, or for another Python: `pytest -m slow tests/packaging/test_foreign.py`, as root.

GOLLAMA_ROOT is a folder that debootstrap made, or /; GOLLAMA_ROOT_WHEEL the core's wheel, GOLLAMA_ROOT_PYTHON an interpreter in there
(python3). For arm64, on a machine whose kernel hands such programs to qemu-user-static: a root by `debootstrap --arch=arm64
--include=python3-venv` and the wheel of `GOLLAMA_NATIVE=source GOLLAMA_TARGET=aarch64-linux-gnu.2.28 pip wheel --no-deps .`. Debian 11's
own Python is too old: compile one in its root (`apt source python3.13` has its source, as for a free-threaded one and one for musl).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.utils import parse_wheel_filename

from gollama import models
from tests.support import tiny
from tools import pins

ROOT, WHEEL = Path(os.environ.get("GOLLAMA_ROOT", "")), Path(os.environ.get("GOLLAMA_ROOT_WHEEL", ""))
PYTHON = os.environ.get("GOLLAMA_ROOT_PYTHON", "python3")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800),
              pytest.mark.skipif(not WHEEL.is_file(), reason="GOLLAMA_ROOT and GOLLAMA_ROOT_WHEEL are not given")]
NEEDED = ("pytest", "pytest-timeout")
ASK = "import json, platform, sys; print(json.dumps(['%d.%d' % sys.version_info[:2], sys.abiflags, platform.machine()]))"


def inside(*command: str, **variables: str) -> str:
    """What a command prints in the root."""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/gollama", **variables}
    whole = [shutil.which("chroot") or "chroot", str(ROOT), *command]
    result = subprocess.run(whole, capture_output=True, text=True, timeout=1700, env=environment)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return result.stdout


def platforms(tag: str) -> list[str]:
    """Those whose wheels run where one of this tag does."""
    kind, major, minor, machine = tag.split("_", 3)
    oldest, older = {"manylinux": (17, [f"manylinux2014_{machine}"]), "musllinux": (1, [])}[kind]
    return older + [f"{kind}_{major}_{number}_{machine}" for number in range(oldest, int(minor) + 1)]


def test_the_smoke_suite_passes_there() -> None:
    folder = ROOT / "gollama"
    tag, *_ = (tag.platform for tag in parse_wheel_filename(WHEEL.name)[3])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        version, flags, machine = json.loads(inside(PYTHON, "-c", ASK))
        abis = [f"cp{version.replace('.', '')}{flags}", "none", *["abi3"] * (not flags)]  # free-threaded Python has no stable ABI
        options = [*(f"--platform={one}" for one in platforms(tag)), *(f"--abi={abi}" for abi in abis), f"--python-version={version}",
                   "--implementation=cp", "--only-binary=:all:"]
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder)]
        subprocess.run([*download, *options, str(WHEEL), *NEEDED], check=True)
        shutil.copy(models.resolve("smollm2"), folder / "model.gguf")
        tiny.write(folder / "tiny.gguf")
        for name in ("pyproject.toml", "tests/packaging/test_smoke.py"):
            shutil.copy(pins.ROOT / name, folder)
        inside(PYTHON, "-m", "venv", "/gollama/v")
        inside("/gollama/v/bin/python", "-m", "pip", "install", "-q", "--no-index", "--find-links", "/gollama", "gollama-cpu", *NEEDED)
        told = inside("sh", "-c", "cd /gollama && exec v/bin/python -m pytest -q --noconftest test_smoke.py",
                      GOLLAMA_TEST_MODEL="/gollama/model.gguf", GOLLAMA_TEST_TINY="/gollama/tiny.gguf")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert machine == tag.split("_", 3)[-1] and " passed" in told and "skipped" not in told
