"""The built wheels in empty environments, for each Python at hand: `pytest -m slow tests/packaging/test_install_matrix.py`.

Nothing but the wheels' own requirements comes from the index; no compiler is on PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gollama
from gollama import models
from tests.packaging.test_foreign import NEEDED
from tests.support import tiny
from tests.support.backend_wheels import real_wheel
from tools import backend_wheel, check_wheel, pins

VERSIONS = ("3.10", "3.11", "3.12", "3.13")
OLDER = "0.0.1"  # a backend wheel's version, to which there is no core
SMOKE = """
import json, sys, gollama
with gollama.LLM(sys.argv[1], context_size=256, threads=1) as llm:
    text = llm.generate("The capital of France is", max_tokens=2, temperature=0).text
    chat = llm.chat([{"role": "user", "content": "Say hi."}], max_tokens=4).text
print(json.dumps({"text": text, "chat": bool(chat), "devices": [device.name for device in gollama.devices()],
                  "installed": [one.distribution for one in gollama.backends.installed()]}))
"""


def interpreter(version: str) -> str | None:
    """A Python of that version, on PATH or among pyenv's."""
    if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
        return sys.executable
    pyenv = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python"))
    return str(pyenv[-1]) if pyenv else shutil.which(f"python{version}")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that serves as a local index: the core and a backend, of this version and of another."""
    folder = tmp_path_factory.mktemp("wheels")
    given = os.environ.get("GOLLAMA_TEST_WHEEL")
    if given:
        shutil.copy(given, folder)
    else:
        check_wheel.build_wheel(folder)
    real_wheel(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend_wheel, "version", lambda: OLDER)
        real_wheel(folder)
    return folder


class Environment:
    def __init__(self, folder: Path, python: str, wheels: Path) -> None:
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
        self.python, self._wheels = folder / "bin" / "python", wheels
        # programs that an environment without a compiler still has
        self._variables = {"PATH": str(folder / "bin"), "HOME": str(folder), "GOLLAMA_HOME": str(folder / "home")}
        self._variables |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}

    def run(self, *command: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        result = subprocess.run([str(self.python), *command], capture_output=True, text=True, env=self._variables, timeout=280, **options)
        assert result.returncode == 0 or not check, result.stdout + result.stderr
        return result

    def pip(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "pip", "--disable-pip-version-check", *arguments, check=check)

    def install(self, *names: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.pip("install", "--only-binary=:all:", "--find-links", str(self._wheels), *names, check=check)

    def smoke(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("-c", SMOKE, str(models.resolve("smollm2"))).stdout)
        return found

    def suite(self, folder: Path) -> str:
        """What pytest says of the smoke suite, away from the checkout."""
        folder.mkdir()
        self._variables["GOLLAMA_TEST_MODEL"] = str(models.resolve("smollm2"))
        self._variables["GOLLAMA_TEST_TINY"] = str(tiny.write(folder / "tiny.gguf"))
        for name in ("pyproject.toml", "tests/packaging/test_smoke.py"):
            shutil.copy(pins.ROOT / name, folder)
        return self.run("-m", "pytest", "-q", "--noconftest", "test_smoke.py", cwd=folder).stdout

    def files(self) -> set[str]:
        """The core's files and their digests."""
        listed = self.run("-c", "import json, importlib.metadata as m; "
                          "print(json.dumps([f'{f} {f.hash}' for f in m.files('gollama-cpu')]))").stdout
        return set(json.loads(listed))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_core_runs_in_an_empty_environment_and_a_backend_comes_and_goes(version: str, wheels: Path, tmp_path: Path) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    environment = Environment(tmp_path / "environment", python, wheels)
    environment.install("gollama-cpu")
    core = environment.files()
    found = environment.smoke()
    assert found["text"] == " Paris." and found["chat"] and found["devices"] == ["CPU"] and found["installed"] == []
    environment.install("gollama-vulkan")
    found = environment.smoke()  # without its driver, or with a software device: the CPU goes on
    assert found["text"] == " Paris." and found["installed"] == ["gollama-vulkan"]
    assert environment.files() == core
    environment.pip("uninstall", "-y", "gollama-vulkan")
    assert environment.smoke()["installed"] == [] and environment.files() == core
    assert environment.pip("check").stdout.startswith("No broken requirements")
    environment.install(*NEEDED)
    assert "passed" in environment.suite(tmp_path / "suite")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_backends_at_once_leave_each_other_alone(wheels: Path, tmp_path: Path) -> None:
    """CUDA's with NVIDIA's own packages, 600 MB of them, and nothing but the driver missing."""
    real_wheel(wheels, "gollama-cuda12")
    environment = Environment(tmp_path / "environment", sys.executable, wheels)
    environment.install("gollama-cuda12", "gollama-vulkan")
    core, found = environment.files(), environment.smoke()
    assert found["text"] == " Paris." and sorted(found["installed"]) == ["gollama-cuda12", "gollama-vulkan"]
    told = json.loads(environment.run("-m", "gollama", "doctor", "--json").stdout)
    cuda, = (row for row in told["backends"] if row["distribution"] == "gollama-cuda12")
    assert cuda["devices"] or "libcuda.so.1" in cuda["problem"], cuda
    environment.pip("uninstall", "-y", "gollama-cuda12")
    assert environment.smoke()["installed"] == ["gollama-vulkan"] and environment.files() == core


@pytest.mark.slow
def test_a_backend_of_another_version_is_refused_by_the_resolver(wheels: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "environment", sys.executable, wheels)
    result = environment.install(f"gollama-cpu=={gollama.__version__}", f"gollama-vulkan=={OLDER}", check=False)
    assert result.returncode != 0 and f"gollama-vulkan {OLDER} depends on gollama-cpu=={OLDER}" in result.stdout + result.stderr
    environment.install("gollama-cpu")
    result = environment.install(f"gollama-vulkan=={OLDER}", check=False)
    assert result.returncode != 0 and f"gollama-cpu=={OLDER}" in result.stderr
    assert environment.smoke()["installed"] == []
