"""The commands that look at the machine, run as users run them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import gollama


def run(*arguments: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"GOLLAMA_HOME": str(home)} if home else {})}
    return subprocess.run([sys.executable, "-m", "gollama", *arguments], capture_output=True, text=True, timeout=250, env=environment)


def test_doctor_tells_all_as_json(tmp_path: Path) -> None:
    found = json.loads(run("doctor", "--json", home=tmp_path).stdout)
    assert set(found) == {"gollama", "llama_cpp", "python", "machine", "cpu", "backends", "devices", "recommendation", "cache"}
    assert found["gollama"] == gollama.__version__ and found["llama_cpp"]["release"] == gollama.version_info().llama_cpp
    assert found["machine"]["machine"] == platform.machine() and found["cpu"]["library"] == gollama.version_info().cpu_variant
    assert found["cpu"]["features"] and found["cpu"]["threads"] >= 1 and found["cache"] == str(tmp_path)
    assert found["devices"][-1]["name"] == "CPU" and found["recommendation"]["reasons"]


def test_doctor_tells_people_the_same() -> None:
    result = run("doctor")
    assert result.returncode == 0 and result.stderr == ""
    for word in (gollama.__version__, gollama.version_info().cpu_variant, "threads", "advice", "CPU"):
        assert word in result.stdout


def test_devices_lists_the_cpu_last() -> None:
    rows = json.loads(run("devices", "--json").stdout)
    assert [row["name"] for row in rows] == [device.name for device in gollama.devices()] and rows[-1]["kind"] == "cpu"
    assert "MiB" in run("devices").stdout


def test_estimate_says_whether_it_fits() -> None:
    found = json.loads(run("estimate", "smollm2", "--context", "8192", "--sequences", "4", "--backend", "cpu", "--json").stdout)
    (row,) = found["devices"]
    assert found["fits"] and found["context_size"] == 8192 and row["device"] == "host"
    assert row["context"] == 4 * 8192 * 2 * 30 * 3 * 64 * 2  # sequences, tokens, keys and values, layers, heads of 64 numbers at 16 bits
    whole = run("estimate", "smollm2", "-c", "100000000")
    assert whole.returncode == 0 and "does not fit" in whole.stdout


def test_bench_measures_prints_writes_and_draws(tmp_path: Path) -> None:
    data, plot = tmp_path / "bench.json", tmp_path / "bench.svg"
    result = run("bench", "smollm2", "--device", "CPU", "--prompt", "16", "--generate", "4", "--repeats", "1",
                 "--output", str(data), "--plot", str(plot))
    assert result.returncode == 0 and "0 of 31" in result.stdout and "measuring CPU" in result.stderr
    (row,) = json.loads(data.read_text())
    assert row["prompt_rate"] > 0 and row["decode_rate"] > 0 and row["prompt_tokens"] == 16
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (("bench", "smollm2", "--device", "CUDA7"), 1, "there is no device CUDA7; there are: "),
    (("bench", "smollm2", "--repeats", "0"), 2, "repeats"),
    (("estimate", "smollm2", "--backend", "cuda13"), 1, "backend"),
    (("estimate", "smollm2", "--gpu-layers", "some"), 1, "gpu_layers"),
    (("estimate", "nosuchmodel"), 1, "nosuchmodel"),
    (("estimate", "smollm2", "--sequences", "0"), 2, "sequences"),
])
def test_failures_are_one_line_and_a_code(arguments: tuple[str, ...], code: int, message: str) -> None:
    result = run(*arguments)
    assert result.returncode == code and message in result.stderr and len(result.stderr.strip().splitlines()) == 1
