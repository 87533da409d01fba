"""The sdist, built and then built from: `pytest -m slow tests/packaging/test_sdist.py`, in a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest

from tools import pins

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHECKOUT = (pins.ROOT / ".git").exists()
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.skipif(not CHECKOUT, reason="an sdist is made of a checkout")]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    subprocess.run([sys.executable, "-m", "build", "--sdist", "--outdir", str(folder), str(pins.ROOT)], check=True, capture_output=True)
    file, = folder.glob("*.tar.gz")
    return file


def test_it_holds_upstreams_headers_and_licence_and_no_binaries(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    expected = {"include/llama.cpp/llama.h", "include/llama.cpp/LICENSE", "include/gollama.h", "wheels.toml", "build_ffi.py"}
    assert expected <= names
    assert not [name for name in names if name.endswith((".so", ".dll", ".dylib", ".gguf"))]


def test_a_wheel_is_built_of_it_without_a_network(sdist: Path, tmp_path: Path) -> None:
    """With the folder of natives and what pyproject.toml asks for at hand, an empty cache, and no npm on PATH."""
    natives, cache, tools, python = (tmp_path / name for name in ("natives", "cache", "tools", "environment/bin/python"))
    venv.create(tmp_path / "environment", with_pip=True)
    requirements = tomllib.loads((pins.ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
    subprocess.run([sys.executable, "-m", "tools.natives", str(natives)], check=True, cwd=pins.ROOT, capture_output=True)
    tools.mkdir()
    for name in ("git", "cc", "c++", "gcc", "g++", "ld", "as", "ar", "sh"):
        found = shutil.which(name)
        if found:
            (tools / name).symlink_to(found)
    environment = {"PATH": str(tools), "HOME": str(tmp_path), "GOLLAMA_HOME": str(cache), "GOLLAMA_NATIVE_DIR": str(natives)}
    command = [str(python), "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(tmp_path), str(sdist)]
    if os.getuid() == 0 and shutil.which("unshare"):
        command = [shutil.which("unshare") or "", "--net", *command]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert len(list(tmp_path.glob("gollama_cpu-*.whl"))) == 1
