"""Which libraries are loaded, and which are refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gollama
from gollama import _native

PACKAGE = Path(gollama.__file__).parent
RELEASE = gollama.version_info().llama_cpp


def run(code: str, *, path: Path | None = None, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, with another copy of the package in front where `path` is given."""
    added = {"PYTHONPATH": os.pathsep.join(filter(None, [str(path) if path else "", os.environ.get("PYTHONPATH", "")]))}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, env={**os.environ, **added, **environment})


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the installed package, to be spoiled."""
    shutil.copytree(PACKAGE, tmp_path / "copy" / "gollama")
    return tmp_path / "copy"


def compile_library(source: str, output: Path, soname: str) -> None:
    output.unlink(missing_ok=True)
    subprocess.run(["cc", "-shared", "-fPIC", "-xc", "-", f"-Wl,-soname,{soname}", "-o", str(output)], input=source, text=True, check=True)


@pytest.mark.skipif(_native.build()["provider"] == "source", reason="llama.cpp is in one library with the shim")
def test_a_library_of_another_release_is_refused_by_name(copy: Path) -> None:
    # the real library with another version string, as a half-done upgrade would leave it
    file = copy / "gollama" / "lib" / f"libllama.{RELEASE}.so"
    content = file.read_bytes()
    version = RELEASE.removeprefix("v").encode() + b"-dev\0"
    assert content.count(version) == 1
    file.write_bytes(content.replace(version, b"9.9.9-dev\0"))
    result = run("import gollama; gollama.version_info()", path=copy)
    assert result.returncode == 1
    assert f"are of llama.cpp 9.9.9-dev, and gollama was built for {RELEASE[1:]}: install gollama anew" in result.stderr
    assert "LibraryError" in result.stderr


def test_a_missing_library_is_told(copy: Path) -> None:
    name = _native.build()["load_order"][-1]
    (copy / "gollama" / "lib" / name).unlink()
    result = run("import gollama; gollama.version_info()", path=copy)
    assert "LibraryError" in result.stderr and name in result.stderr


def test_a_damaged_library_is_told(copy: Path) -> None:
    name = _native.build()["load_order"][0]
    (copy / "gollama" / "lib" / name).write_bytes(b"not a library")
    result = run("import gollama; gollama.version_info()", path=copy)
    assert "LibraryError" in result.stderr and name in result.stderr


def test_a_package_that_was_not_built_says_how_to_build_it(copy: Path) -> None:
    (copy / "gollama" / "_build.json").unlink()
    result = run("import gollama; gollama.version_info()", path=copy)
    assert "gollama was not built. Install it with `pip install .`" in result.stderr


def test_a_cpu_library_that_cannot_be_loaded_is_passed_over(copy: Path) -> None:
    chosen = json.loads(run("import gollama, json; print(json.dumps(gollama.version_info().cpu_variant))").stdout)
    (copy / "gollama" / "lib" / f"libggml-cpu-{chosen}.so").write_bytes(b"")
    result = run("import gollama; print(gollama.version_info().cpu_variant)", path=copy)
    assert result.returncode == 0 and result.stdout.strip() not in ("", chosen)


def test_without_a_cpu_library_the_error_says_so(copy: Path) -> None:
    for file in (copy / "gollama" / "lib").glob("libggml-cpu-*"):
        file.write_bytes(b"")
    result = run("import gollama; gollama.version_info()", path=copy)
    assert "LibraryError: none of the CPU libraries in" in result.stderr


def test_another_llama_cpp_on_the_library_path_is_not_taken(tmp_path: Path) -> None:
    for name in ("libggml-base.so", f"libllama.{RELEASE}.so", "libllama-common.so"):
        compile_library("int nothing;", tmp_path / name, name)
    result = run("import gollama; print(gollama.version_info().llama_cpp)", LD_LIBRARY_PATH=str(tmp_path))
    assert (result.returncode, result.stdout.strip()) == (0, RELEASE)


def test_another_llama_cpp_in_the_process_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "libggml-base.so"
    shutil.copy(PACKAGE / "lib" / "libggml-base.so", other)
    code = f"import ctypes; ctypes.CDLL({str(other)!r}, ctypes.RTLD_GLOBAL); import gollama; gollama.version_info()"
    result = run(code)
    assert result.returncode == 1
    assert f"another copy of llama.cpp is in this process, {other}" in result.stderr


def test_no_library_is_looked_for_in_the_current_directory(tmp_path: Path) -> None:
    result = run("import gollama; print(gollama.version_info())", cwd=tmp_path, LD_DEBUG="libs", LD_DEBUG_OUTPUT=str(tmp_path / "trace"))
    assert result.returncode == 0
    trace = "".join(file.read_text(errors="replace") for file in tmp_path.glob("trace*"))
    tried = [line.split("trying file=")[1].strip() for line in trace.splitlines() if "trying file=" in line]
    assert len(tried) > 5
    assert [file for file in tried if not file.startswith("/") or file.startswith(str(tmp_path))] == []


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.so*")), ids=lambda file: file.name)
def test_every_library_searches_its_own_folder_and_no_other(file: Path) -> None:
    dynamic = subprocess.run(["readelf", "-d", file], capture_output=True, text=True, check=True).stdout
    paths = [line.split("[")[1].rstrip("]") for line in dynamic.splitlines() if "RUNPATH" in line or "RPATH" in line]
    assert paths == (["$ORIGIN/lib"] if file.name.startswith("_llama") else ["$ORIGIN"])


def test_a_fresh_process_needs_no_environment_and_no_network(tiny_path: Path, tmp_path: Path) -> None:
    code = ("import socket, gollama\ndef refuse(*a, **k): raise AssertionError('network')\nsocket.socket.connect = refuse\n"
            f"print(gollama.LLM({str(tiny_path)!r}, context_size=64).generate('the', max_tokens=2).usage.completion_tokens)")
    bare = {name: value for name, value in os.environ.items() if name == "PYTHONPATH"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=bare)
    assert result.returncode == 0 and int(result.stdout) in (0, 1, 2) and result.stderr == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("module", ["gollama._native.library", "gollama.backends.loading", "gollama.backends.probing"])
def test_a_child_can_load_though_its_parent_was_at_it(module: str) -> None:
    result = run(f"""
import os, signal, sys, threading, time, gollama.backends
lock, held = sys.modules[{module!r}]._lock, threading.Event()

def hold():
    with lock:
        held.set()
        time.sleep(0.5)

threading.Thread(target=hold).start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(10)
    with lock:
        os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
""")
    assert result.returncode == 0, result.stderr
