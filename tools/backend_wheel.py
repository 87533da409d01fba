"""Backend wheels: a llama.cpp backend module, where it is found, and nothing else. Any machine builds those of every platform.

    python -m tools.backend_wheel [ROW ...] [--output dist] [--libraries FOLDER]

ROW is a distribution (gollama-vulkan) or a row's whole name (gollama-vulkan-win_amd64); without any, all that have prebuilt
libraries. `--libraries` takes the modules from a folder instead, which is how rows that are built from source get theirs.

A backend wheel is an import package that holds `backend.json`, the modules and the licences, with an entry point in the
group `gollama.backends` that names its folder. Its code does nothing, and nothing of it is run to use it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tools import compile as compiling
from tools import natives, pins, sbom, tags
from tools.pins import CORE, Wheel

GROUP = "gollama.backends"
INDEX_LIMIT = 100 * 2**20  # bytes that the public index takes of one file, unless its owner asks for more
DOOR = '''"""{summary} Used by gollama, through its entry point."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent
'''
README = """# {distribution}

{summary} `pip install {distribution}` puts it beside `{core}` of the same version; gollama uses it where it fits the machine.
"""
PROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{distribution}"
version = "{version}"
description = "{summary}"
readme = "README.md"
requires-python = ">=3.10"
license = "MIT"
license-files = ["{package}/licenses/*"]
dependencies = {dependencies}

[project.entry-points."{group}"]
{label} = "{package}:FOLDER"

[tool.setuptools]
packages = ["{package}"]

[tool.setuptools.package-data]
{package} = ["backend.json", "lib/*", "licenses/*"]
"""
# setuptools knows no place for an SBOM
SETUP = """from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel


class Wheel(bdist_wheel):
    def write_wheelfile(self, wheelfile_base, *generator):
        super().write_wheelfile(wheelfile_base, *generator)
        folder = Path(wheelfile_base) / "sboms"
        folder.mkdir()
        (folder / "{distribution}.cdx.json").write_bytes(Path("sbom.json").read_bytes())


setup(cmdclass={{"bdist_wheel": Wheel}})
"""


def version() -> str:
    """gollama's, which the wheels of one release share."""
    text = (pins.ROOT / "src" / "gollama" / "version.py").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("__version__"))
    return line.split('"')[1]


def manifest(wheel: Wheel, libraries: Path) -> dict[str, Any]:
    """What gollama needs to know of a backend before it loads it."""
    pinned = pins.load()
    return {
        "distribution": wheel.distribution,
        "version": version(),
        "backend": wheel.backend,
        "llama_cpp": {"release": pinned.release, "commit": pinned.commit},
        "modules": {name: hashlib.sha256((libraries / name).read_bytes()).hexdigest() for name in wheel.modules},
        "preload": list(wheel.preload),
        "requires": list(wheel.requires),
    }


def lay_out(wheel: Wheel, libraries: Path, folder: Path) -> None:
    """The project of a backend wheel, ready for setuptools."""
    package = wheel.distribution.replace("-", "_")
    content = folder / package
    (content / "lib").mkdir(parents=True)
    (content / "licenses").mkdir()
    for name in wheel.modules:
        if not (libraries / name).is_file():
            raise natives.NativesError(f"{libraries} holds no {name}, which {wheel.name} is to hold: the row in wheels.toml is wrong")
        compiling.copy_native(libraries / name, content / "lib")
    tags.platform_tag(wheel, wheel.provider, (content / "lib").iterdir())
    texts = {"llama.cpp": natives.source_tree() / "LICENSE", "node-llama-cpp": libraries / "LICENSE"}
    for name, file in texts.items():
        if file.exists():
            shutil.copy(file, content / "licenses" / f"{name}.txt")
    told = manifest(wheel, content / "lib")
    (content / "backend.json").write_text(json.dumps(told, indent=2) + "\n")
    packages = [pins.load().natives[wheel.native]] if wheel.native else [pins.load().source]
    (folder / "sbom.json").write_text(sbom.document(wheel.distribution, version(), packages, told["modules"], core=False))
    words = {"distribution": wheel.distribution, "package": package, "group": GROUP, "version": version(), "core": CORE,
             "label": wheel.distribution.removeprefix("gollama-"),
             "summary": f"gollama's {wheel.backend.upper() if len(wheel.backend) < 5 else wheel.backend.title()} backend.",
             "dependencies": json.dumps([f"{CORE}=={version()}", *wheel.requires])}
    (content / "__init__.py").write_text(DOOR.format(**words))
    (folder / "README.md").write_text(README.format(**words))
    (folder / "pyproject.toml").write_text(PROJECT.format(**words))
    (folder / "setup.py").write_text(SETUP.format(**words))


def build(wheel: Wheel, output: Path, libraries: Path | None = None) -> Path:
    """Build a row's wheel into the folder `output`; its path."""
    libraries = libraries or natives.library_folder(wheel.prebuilt)
    with tempfile.TemporaryDirectory() as scratch:
        project, built = Path(scratch) / "project", Path(scratch) / "built"
        lay_out(wheel, libraries, project)
        # setuptools calls a package without an extension pure; the platform is its content's
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(built),
                   f"--config-settings=--build-option=--plat-name={wheel.tag}", str(project)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise natives.NativesError(f"setuptools could not make {wheel.name}:\n{result.stderr[-2000:]}")
        made, = built.glob("*.whl")
        output.mkdir(parents=True, exist_ok=True)
        return Path(shutil.move(made, output / made.name))


def chosen(names: list[str]) -> list[Wheel]:
    """The rows that these names mean."""
    rows = [wheel for wheel in pins.load().wheels if not wheel.core]
    if not names:
        return [wheel for wheel in rows if wheel.native]
    for name in names:
        if not any(name in (wheel.distribution, wheel.name) for wheel in rows):
            raise natives.NativesError(f"wheels.toml has no backend wheel {name!r}; there are: {', '.join(wheel.name for wheel in rows)}")
    return [wheel for wheel in rows if wheel.distribution in names or wheel.name in names]


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.backend_wheel", description="Builds gollama's backend wheels.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="a distribution or a row's name; none: all with prebuilt libraries")
    parser.add_argument("--output", type=Path, default=Path("dist"), help="the folder for the wheels (dist)")
    parser.add_argument("--libraries", type=Path, help="take the modules from this folder")
    given = parser.parse_args(arguments)
    for wheel in chosen(given.rows):
        made = build(wheel, given.output, given.libraries)
        size = made.stat().st_size
        note = f"  larger than the {INDEX_LIMIT // 2**20} MiB that the public index takes: ask for more there" if size > INDEX_LIMIT else ""
        print(f"{made.name}  {size / 1e6:.1f} MB{note}", flush=True)


if __name__ == "__main__":
    natives.run_or_exit(lambda: main(sys.argv[1:]))
