"""llama.cpp's own tool for greedy text, `llama-completion`, built from the pinned source against the package's libraries.

What it runs:  llama-completion -m MODEL -p PROMPT -n COUNT --temp 0 -t 2 -no-cnv --no-display-prompt
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import gollama


def build(source: Path, folder: Path) -> Path:
    """Compile tools/completion into `folder`."""
    libraries = Path(gollama.__file__).parent / "lib"
    release = gollama.version_info().llama_cpp
    program = folder / "llama-completion"
    includes = [f"-I{source / part}" for part in ("include", "ggml/include", "common", "vendor")]
    sources = [str(source / "tools" / "completion" / name) for name in ("completion.cpp", "main.cpp")]
    names = ("libllama-common.so", f"libllama.{release}.so", f"libggml.{release}.so", "libggml-base.so")
    linked = [*(str(libraries / name) for name in names), f"-Wl,-rpath,{libraries}"]
    subprocess.run(["c++", "-std=c++17", "-O1", "-w", *includes, *sources, *linked, "-o", str(program)], check=True)
    # it looks for CPU libraries beside itself
    for file in libraries.glob("libggml-cpu-*"):
        (folder / file.name).symlink_to(file)
    return program


def greedy(program: Path, model: Path, prompt: str, count: int) -> str:
    """The text that the tool prints for the prompt."""
    options = ["--temp", "0", "-t", "2", "-no-cnv", "--no-display-prompt"]
    result = subprocess.run([str(program), "-m", str(model), "-p", prompt, "-n", str(count), *options],
                            capture_output=True, check=True, cwd=program.parent, stdin=subprocess.DEVNULL)
    return result.stdout.decode(errors="replace")
