"""A core that was built for another machine, run there by emulation: `pytest -m slow tests/packaging/test_foreign.py`, as root.

GOLLAMA_ARM64_ROOT is a Debian arm64 root with python3-venv in it (debootstrap --arch=arm64 --include=python3-venv) on a machine whose
kernel hands arm64 programs to qemu-user-static; GOLLAMA_ARM64_WHEEL is the wheel, from
`GOLLAMA_NATIVE=source GOLLAMA_TARGET=aarch64-linux-gnu.2.28 pip wheel --no-deps .`
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gollama
from gollama import models

ROOT, WHEEL = Path(os.environ.get("GOLLAMA_ARM64_ROOT", "")), Path(os.environ.get("GOLLAMA_ARM64_WHEEL", ""))
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not WHEEL.is_file(), reason="GOLLAMA_ARM64_ROOT and GOLLAMA_ARM64_WHEEL are not given")]
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


def test_the_arm64_core_answers_as_this_machine_does() -> None:
    folder = ROOT / "gollama"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        version = subprocess.run(["chroot", str(ROOT), "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
                                 check=True, capture_output=True, text=True).stdout.strip()
        platforms = [f"--platform={tag}_aarch64" for tag in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")]
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *platforms, f"--python-version={version}",
                        "--only-binary=:all:", "--dest", str(folder), str(WHEEL)], check=True)
        shutil.copy(models.resolve("smollm2"), folder / "model.gguf")
        (folder / "smoke.py").write_text(SMOKE)
        script = ("cd /gollama && python3 -m venv v && v/bin/pip install -q --no-index --find-links . gollama-cpu && "
                  "v/bin/python smoke.py")
        result = subprocess.run(["chroot", str(ROOT), "sh", "-c", script], capture_output=True, text=True, timeout=280)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert result.returncode == 0, result.stderr
    machine, text, told = json.loads(result.stdout.splitlines()[-1])
    with gollama.LLM("smollm2", context_size=64, threads=1) as llm:
        assert text == llm.generate(PROMPT, max_tokens=2, temperature=0).text
    assert machine == "aarch64" and told == ["GrammarError", "InvalidModelError", "ChatError"]
