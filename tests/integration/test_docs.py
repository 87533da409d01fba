"""The examples in README and docs run."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.answers import wait_until

ROOT = Path(__file__).resolve().parents[2]
SERVE = "gollama serve smollm2 --host 127.0.0.1 --port 8080"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for number, block in enumerate(re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)):
            found.append((f"{page.name}-{number}", block))
    return found


@contextmanager
def served(log: Path) -> Iterator[str]:
    """What the README serves; the port, which is another one."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", *SERVE.replace("8080", port).split()]
    with log.open("w") as output, subprocess.Popen(command, stderr=output) as child:
        try:
            wait_until(lambda: "running on http" in log.read_text(), 60)
            yield port
        finally:
            child.terminate()


@pytest.mark.parametrize(("name", "code"), blocks("python"), ids=lambda value: value if len(value) < 40 else "")
def test_a_python_example_runs(name: str, code: str, tmp_path: Path) -> None:
    if "127.0.0.1:8080" in code:
        with served(tmp_path / "log") as port:
            run(code.replace("8080", port), tmp_path)
    else:
        run(code, tmp_path)


def run(code: str, tmp_path: Path) -> None:
    own = {**os.environ, "GOLLAMA_CONFIG_HOME": str(tmp_path / "config")}
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=200, cwd=tmp_path, env=own)
    assert (result.returncode, result.stderr) == (0, "")


def commands() -> list[str]:
    text = "\n".join(block for name, block in blocks("sh") if name.startswith("README"))
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    # a chat does not end, nor does a server: tests/integration/test_cli.py opens the one in a terminal, the README's client asks the other
    endless = ("gollama run smollm2", SERVE)
    return [line for line in lines if "gollama" in line and "pip install" not in line and line not in endless]


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme_runs(command: str, tmp_path: Path) -> None:
    spelled = re.sub(r"\bgollama (?=[a-z])", f"{sys.executable} -m gollama ", command)
    result = subprocess.run(["sh", "-c", spelled], capture_output=True, text=True, timeout=200, stdin=subprocess.DEVNULL, cwd=tmp_path)
    assert result.returncode == 0 and result.stdout


def test_every_wheel_is_in_the_table() -> None:
    from tools import pins

    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `gollama-")]
    words = {"linux": "Linux", "windows": "Windows", "macos": "macOS"}
    for wheel in pins.load().wheels:
        assert any(f"`{wheel.distribution}`" in row and words[wheel.system] in row and wheel.machine in row for row in rows), wheel.name
        assert wheel.libc != "musl" or any("musl" in row and wheel.machine in row for row in rows)


def test_there_are_examples() -> None:
    assert len(blocks("python")) >= 5 and len(commands()) >= 6
    assert any(SERVE in block for _, block in blocks("sh")) and any("127.0.0.1:8080" in block for _, block in blocks("python"))
