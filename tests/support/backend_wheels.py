"""Backend wheels built for the tests, unpacked where a child process finds them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from tools import backend_wheel, pins

SOFTWARE_VULKAN = [file for folder in ("/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d") for file in Path(folder).glob("lvp_icd*.json")]


def real_wheel(folder: Path, distribution: str = "gollama-vulkan") -> Path:
    """gollama-vulkan, or another backend's wheel, for this platform."""
    system, machine = pins.this_platform()
    row, = (wheel for wheel in backend_wheel.chosen([distribution]) if (wheel.system, wheel.machine) == (system, machine))
    return backend_wheel.build(row, folder)


def unpacked(wheel: Path, folder: Path) -> Path:
    """What pip would put on the import path."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_python(code: str, *paths: Path, home: Path, **variables: str) -> Any:
    """What the code printed last, as JSON, in a process that has these folders on its import path and caches of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*paths, *sys.path))), "GOLLAMA_HOME": str(home), **variables}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=280, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])
