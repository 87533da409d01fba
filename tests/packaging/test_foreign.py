"""A core in the root of another system: `pytest -m slow tests/packaging/test_foreign.py`, as root.

GOLLAMA_ROOT is a folder that debootstrap made, GOLLAMA_ROOT_WHEEL the core's wheel, GOLLAMA_ROOT_PYTHON an interpreter in there (python3).
For arm64, on a machine whose kernel hands such programs to qemu-user-static: a root by `debootstrap --arch=arm64 --include=python3-venv`
and the wheel of `GOLLAMA_NATIVE=source GOLLAMA_TARGET=aarch64-linux-gnu.2.28 pip wheel --no-deps .`. Debian 11's own Python is too old:
one must be compiled in its root.
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

import gollama
from gollama import models

ROOT, WHEEL = Path(os.environ.get("GOLLAMA_ROOT", "")), Path(os.environ.get("GOLLAMA_ROOT_WHEEL", ""))
PYTHON = os.environ.get("GOLLAMA_ROOT_PYTHON", "python3")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not WHEEL.is_file(), reason="GOLLAMA_ROOT and GOLLAMA_ROOT_WHEEL are not given")]
PROMPT = "The capital of France is"
SMOKE = f"""
import json, platform, gollama
told = []
with gollama.LLM("/gollama/model.gguf", context_size=64, threads=1) as llm:
    text = llm.generate({PROMPT!r}, max_tokens=2, temperature=0).text
    for call in (lambda: llm.generate("a", grammar="root ::= ("), lambda: gollama.Model("/gollama/smoke.py"),
                 lambda: gollama.LLM("/gollama/model.gguf", chat_template="{{{{ nosuch( }}}}").chat([{{"role": "user", "content": "x"}}])):
        try:
            call()
        except gollama.GollamaError as error:
            told.append(type(error).__name__)
print(json.dumps([platform.machine(), text, told]))
"""


def test_the_core_answers_there_as_here() -> None:
    folder = ROOT / "gollama"
    tag, = parse_wheel_filename(WHEEL.name)[3]
    machine = tag.platform.split("_", 3)[-1]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        version = subprocess.run(["chroot", str(ROOT), PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
                                 check=True, capture_output=True, text=True).stdout.strip()
        platforms = [f"--platform={tag}_{machine}" for tag in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")]
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *platforms, f"--python-version={version}",
                        "--only-binary=:all:", "--dest", str(folder), str(WHEEL)], check=True)
        shutil.copy(models.resolve("smollm2"), folder / "model.gguf")
        (folder / "smoke.py").write_text(SMOKE)
        script = (f"cd /gollama && {PYTHON} -m venv v && v/bin/pip install -q --no-index --find-links . gollama-cpu && "
                  "v/bin/python smoke.py")
        result = subprocess.run(["chroot", str(ROOT), "sh", "-c", script], capture_output=True, text=True, timeout=280)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert result.returncode == 0, result.stderr
    there, text, told = json.loads(result.stdout.splitlines()[-1])
    with gollama.LLM("smollm2", context_size=64, threads=1) as llm:
        assert text == llm.generate(PROMPT, max_tokens=2, temperature=0).text
    assert there == machine and told == ["GrammarError", "InvalidModelError", "ChatError"]
