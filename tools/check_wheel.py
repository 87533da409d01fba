"""Test what ships: build the wheel, install it into an empty environment, run the suite on it away from the checkout.

    python -m tools.check_wheel [--wheel FILE] [ARGUMENTS FOR PYTEST]

FILE is one that is built already.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from tools import pins

# what the tests read besides the package; the package's own source is not among it, but for the version that backend wheels get
CARRIED = ("tests", "tools", "benchmarks", "include", "docs", "src/gollama/version.py", "wheels.toml", "build_ffi.py", "pyproject.toml",
           "README.md")


def run(*command: str | Path, **options: object) -> None:
    print("$", " ".join(map(str, command)), flush=True)
    subprocess.run([str(word) for word in command], check=True, **options)  # type: ignore[call-overload]


def build_wheel(output: Path) -> Path:
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", output, pins.ROOT)
    wheel, = output.glob("*.whl")
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")
    return wheel


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if arguments[:1] == ["--wheel"]:
            wheel, arguments = Path(arguments[1]).resolve(), arguments[2:]
        else:
            wheel = build_wheel(folder)
        venv.create(folder / "environment", with_pip=True)
        python = folder / "environment" / "bin" / "python"
        run(python, "-m", "pip", "install", "--quiet", f"{wheel}[test]")
        away = folder / "away"
        for name in CARRIED:
            source = pins.ROOT / name
            if source.is_dir():
                shutil.copytree(source, away / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                (away / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, away / name)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        run(python, "-m", "pytest", *arguments, cwd=away, env={**environment, "GOLLAMA_TEST_WHEEL": str(wheel)})


if __name__ == "__main__":
    main(sys.argv[1:])
