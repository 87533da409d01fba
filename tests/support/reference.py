"""llama.cpp's own tools, built from the pinned source against the pinned libraries.

What they run:
    llama-completion -m MODEL -p PROMPT -n COUNT --temp 0 -t 1 -no-cnv --no-display-prompt
    llama-embedding -m MODEL -p "ONE<#sep#>TWO" --embd-separator "<#sep#>" --embd-output-format array -c 512 -t 1 [--pooling NAME]
    llama-perplexity -m MODEL -f FILE -c WINDOW -b WINDOW -t 1
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from pathlib import Path

from tools import natives, pins


def build(source: Path, folder: Path) -> Path:
    """Compile tools/completion into `folder`."""
    return _compile(source, folder, "llama-completion", ("tools/completion/completion.cpp", "tools/completion/main.cpp"))


def build_embedding(source: Path, folder: Path) -> Path:
    """Compile examples/embedding into `folder`."""
    return _compile(source, folder, "llama-embedding", ("examples/embedding/embedding.cpp",))


def build_perplexity(source: Path, folder: Path) -> Path:
    """Compile tools/perplexity into `folder`."""
    return _compile(source, folder, "llama-perplexity", ("tools/perplexity/perplexity.cpp", "tools/perplexity/main.cpp"))


def _compile(source: Path, folder: Path, name: str, files: tuple[str, ...]) -> Path:
    # not the package's own: one that is built from source has no libraries of llama.cpp's C++
    libraries = natives.library_folder(pins.load().core_wheel(*pins.this_platform()).prebuilt)
    release = pins.load().release
    program = folder / name
    includes = [f"-I{source / part}" for part in ("include", "ggml/include", "common", "vendor")]
    sources = [str(source / file) for file in files]
    names = ("libllama-common.so", f"libllama.{release}.so", f"libggml.{release}.so", "libggml-base.so")
    linked = [*(str(libraries / name) for name in names), f"-Wl,-rpath,{libraries}"]
    subprocess.run(["c++", "-std=c++17", "-O1", "-w", *includes, *sources, *linked, "-o", str(program)], check=True)
    # it looks for CPU libraries beside itself
    for file in libraries.glob("libggml-cpu-*"):
        (folder / file.name).symlink_to(file)
    return program


def greedy(program: Path, model: Path, prompt: str, count: int) -> str:
    """The text that the tool prints for the prompt."""
    options = ["--temp", "0", "-t", "1", "-no-cnv", "--no-display-prompt"]
    result = subprocess.run([str(program), "-m", str(model), "-p", prompt, "-n", str(count), *options],
                            capture_output=True, check=True, cwd=program.parent, stdin=subprocess.DEVNULL)
    return result.stdout.decode(errors="replace")


def embeddings(program: Path, model: Path, texts: list[str], *options: str) -> list[list[float]]:
    """The tool's vectors of the texts, scaled to length 1."""
    given = ["-p", "<#sep#>".join(texts), "--embd-separator", "<#sep#>", "--embd-output-format", "array", "-c", "512", "-t", "1", *options]
    for _ in range(20):  # now and then, more often on a busy machine, the tool ends before what it prints is out
        result = subprocess.run([str(program), "-m", str(model), *given], capture_output=True, check=True, cwd=program.parent,
                                stdin=subprocess.DEVNULL)
        with contextlib.suppress(json.JSONDecodeError):
            return [list(map(float, vector)) for vector in json.loads(result.stdout)]
    raise AssertionError(f"the tool prints no JSON: {result.stdout!r}")


def perplexity(program: Path, model: Path, file: Path, window: int) -> tuple[float, float]:
    """The tool's estimate and its error, with four and five decimals."""
    options = ["-c", str(window), "-b", str(window), "-t", "1"]
    result = subprocess.run([str(program), "-m", str(model), "-f", str(file), *options], capture_output=True, text=True, check=True,
                            cwd=program.parent, stdin=subprocess.DEVNULL)
    found = re.search(r"Final estimate: PPL = ([\d.]+) \+/- ([\d.]+)", result.stdout + result.stderr)
    assert found, result.stdout + result.stderr
    return float(found[1]), float(found[2])
