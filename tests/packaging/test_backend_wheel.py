"""Backend wheels as they are built, for every row on this machine: what is in them, and nothing else.

A core's library stands in for the module: the whole modules are built and read by test_vulkan.py and test_inspection.py.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement

import gollama
from gollama import _native
from tools import backend_wheel, natives, pins

LIBRARY = Path(gollama.__file__).parent / "lib" / "libggml-base.so"
ROWS = [wheel for wheel in pins.load().wheels if not wheel.core]


def modules(folder: Path, wheel: pins.Wheel) -> Path:
    """A folder with a library under the name of each module."""
    folder.mkdir()
    for name in wheel.modules:
        shutil.copy(LIBRARY, folder / name)
    (folder / "LICENSE").write_text("MIT")
    return folder


@pytest.mark.parametrize("wheel", ROWS, ids=lambda wheel: wheel.name)
def test_it_holds_its_module_and_where_it_is_found(wheel: pins.Wheel, tmp_path: Path) -> None:
    file = backend_wheel.build(wheel, tmp_path, modules(tmp_path / "modules", wheel))
    package, version = wheel.distribution.replace("-", "_"), gollama.__version__
    assert file.name == f"{package}-{version}-py3-none-{wheel.tag}.whl"
    about = f"{package}-{version}.dist-info"
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    assert {name for name in content if name.startswith(f"{package}/")} == {
        f"{package}/{name}" for name in ("__init__.py", "backend.json", *(f"lib/{name}" for name in wheel.modules),
                                         "licenses/llama.cpp.txt", "licenses/node-llama-cpp.txt")}
    assert {name.split("/")[0] for name in content} == {package, about}
    metadata = message_from_bytes(content[f"{about}/METADATA"])
    required = {Requirement(text) for text in metadata.get_all("Requires-Dist", [])}
    assert required == {Requirement(text) for text in (f"gollama-cpu=={version}", *wheel.requires)}
    label = wheel.distribution.removeprefix("gollama-")
    assert content[f"{about}/entry_points.txt"].decode().split() == ["[gollama.backends]", label, "=", f"{package}:FOLDER"]
    told = json.loads(content[f"{package}/backend.json"])
    digests = {name: hashlib.sha256(content[f"{package}/lib/{name}"]).hexdigest() for name in wheel.modules}
    assert told == {"distribution": wheel.distribution, "version": version, "backend": wheel.backend, "modules": digests,
                    "llama_cpp": _native.build()["llama_cpp"], "preload": list(wheel.preload), "requires": list(wheel.requires)}
    bill = content[f"{about}/sboms/{wheel.distribution}.cdx.json"].decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None and all(name in bill for name in wheel.modules)


def test_the_build_names_a_file_that_an_index_would_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    folder = modules(tmp_path / "modules", next(row for row in ROWS if row.name.startswith("gollama-opencl")))
    arguments = ["gollama-opencl", "--output", str(tmp_path), "--libraries", str(folder)]
    backend_wheel.main(arguments)
    assert "larger" not in capsys.readouterr().out
    monkeypatch.setattr(backend_wheel, "INDEX_LIMIT", 2**16)
    backend_wheel.main(arguments)
    told = capsys.readouterr().out
    assert told.startswith("gollama_opencl-") and "larger than the 0 MiB that the public index takes" in told


def test_a_module_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(natives.NativesError, match="holds no libggml-hip.so"):
        backend_wheel.build(next(row for row in ROWS if row.backend == "hip"), tmp_path, tmp_path)
