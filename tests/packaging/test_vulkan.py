"""The Vulkan backend wheel on Mesa's software device: slow, and a real device in all else.

Needs Mesa's Vulkan driver (Debian: mesa-vulkan-drivers). Each program is a process of its own, since a backend stays loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gollama import models
from tests.support.backend_wheels import SOFTWARE_VULKAN, real_wheel, run_python, unpacked

pytestmark = pytest.mark.skipif(not SOFTWARE_VULKAN, reason="Mesa's software Vulkan driver is not installed")
SHOWN = {"GGML_VK_VISIBLE_DEVICES": "0"}  # without it ggml hides devices that are CPUs
GENERATE = """
import json, sys
import gollama
model, cases = {model!r}, {cases!r}
for case in cases:
    try:
        with gollama.LLM(model, context_size=128, max_sequences=1, **case) as llm:
            text = llm.generate("The capital of France is", max_tokens=4, temperature=0).text
            print(json.dumps({{"text": text, "devices": [device.name for device in llm.devices], "note": llm.devices[-1].note,
                             "weights": {{row.device: row.weights for row in llm.memory()}}, "layers": llm.model.placement.gpu_layers}}))
    except gollama.GollamaError as error:
        print(json.dumps({{"error": type(error).__name__, "message": str(error)}}))
"""


@pytest.fixture(scope="module")
def vulkan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vulkan")
    return unpacked(real_wheel(folder), folder / "path")


@pytest.fixture(scope="module")
def model() -> str:
    return str(models.resolve("smollm2"))


def generate(vulkan: Path, model: str, home: Path, *cases: dict[str, Any], **variables: str) -> list[Any]:
    lines = GENERATE.format(model=model, cases=list(cases)) + "\nprint('[]')"
    code = f"import contextlib, io, json\nout = io.StringIO()\nwith contextlib.redirect_stdout(out):\n    exec({lines!r})\n" \
           "print(json.dumps([json.loads(line) for line in out.getvalue().splitlines()][:-1]))"
    found: list[Any] = run_python(code, vulkan, home=home, **variables)
    return found


def test_the_device_is_found_with_its_memory(vulkan: Path, tmp_path: Path) -> None:
    code = "import dataclasses, json, gollama; print(json.dumps([dataclasses.asdict(device) for device in gollama.devices()]))"
    gpu, cpu = run_python(code, vulkan, home=tmp_path, **SHOWN)
    assert (gpu["name"], gpu["backend"]) == ("Vulkan0", "vulkan") and "llvmpipe" in gpu["description"]
    assert 0 < gpu["memory_free"] <= gpu["memory_total"]
    assert (cpu["name"], cpu["backend"]) == ("CPU", "cpu")


def test_full_and_partial_offload_say_what_the_cpu_says(vulkan: Path, model: str, tmp_path: Path) -> None:
    cases = ({"backend": "cpu"}, {"backend": "vulkan"}, {"backend": "vulkan", "gpu_layers": 10},
             {"devices": ["Vulkan0"], "gpu_layers": "all", "main_gpu": 0})
    cpu, full, part, named = generate(vulkan, model, tmp_path, *cases, **SHOWN)
    assert cpu["text"].startswith(" Paris") and cpu["devices"] == ["CPU"]
    for found in (full, part, named):
        assert found["text"] == cpu["text"] and found["devices"] == ["Vulkan0", "CPU"]
    assert 0 < part["weights"]["Vulkan0"] < full["weights"]["Vulkan0"] == named["weights"]["Vulkan0"]


def test_a_memory_limit_keeps_layers_away_or_is_an_error(vulkan: Path, model: str, tmp_path: Path) -> None:
    fitted, refused = generate(vulkan, model, tmp_path, {"backend": "vulkan", "gpu_memory": 50},
                               {"backend": "vulkan", "gpu_memory": 50, "gpu_layers": "all"}, **SHOWN)
    assert 0 < fitted["weights"]["Vulkan0"] < 50 * 2**20 and 0 < fitted["layers"] < 30
    assert refused["error"] == "OutOfMemoryError" and "Vulkan0 would need" in refused["message"]


def test_tensors_go_where_they_are_told(vulkan: Path, model: str, tmp_path: Path) -> None:
    whole, without, unknown = generate(vulkan, model, tmp_path, {"backend": "vulkan"},
                                       {"backend": "vulkan", "tensor_overrides": {"ffn_.*": "CPU"}},
                                       {"backend": "vulkan", "tensor_overrides": {"ffn_.*": "XPU0"}}, **SHOWN)
    assert without["weights"]["Vulkan0"] < 0.6 * whole["weights"]["Vulkan0"] and without["text"] == whole["text"]
    assert unknown["error"] == "BackendError" and "there are: CPU, Vulkan0" in unknown["message"]


def test_auto_leaves_a_cpu_that_calls_itself_a_gpu_alone(vulkan: Path, model: str, tmp_path: Path) -> None:
    shown, = generate(vulkan, model, tmp_path, {}, **SHOWN)
    hidden, = generate(vulkan, model, tmp_path, {})
    assert shown["devices"] == hidden["devices"] == ["CPU"]
    assert "must be asked for by name" in shown["note"] and "finds no device" in hidden["note"]


def test_devices_that_are_not_there_are_told(vulkan: Path, model: str, tmp_path: Path) -> None:
    number, name, gpu, split = generate(vulkan, model, tmp_path, {"backend": "vulkan", "devices": [1]}, {"devices": ["Vulkan7"]},
                                        {"backend": "vulkan", "main_gpu": 1}, {"backend": "vulkan", "tensor_split": [1, 1]}, **SHOWN)
    assert {found["error"] for found in (number, name, gpu, split)} == {"BackendError"}
    assert "it has: Vulkan0" in number["message"] and "there are: Vulkan0" in name["message"]
    assert "numbered from 0" in gpu["message"] and "tensor_split has 2 numbers" in split["message"]


def test_two_devices_share_a_model_as_they_are_told(vulkan: Path, model: str, tmp_path: Path) -> None:
    """The one that is here, twice: ggml takes each for a device of its own."""
    cases: tuple[dict[str, Any], ...] = (
        {"backend": "cpu"}, {}, {"tensor_split": [1, 3]}, {"devices": [1]}, {"split_mode": "none", "main_gpu": 1},
        {"gpu_memory": [40, 4000]}, {"gpu_memory": [80, 60]})
    cases = tuple({"backend": "vulkan", "gpu_layers": "auto", **case} if "backend" not in case else case for case in cases)
    cpu, even, uneven, second, main, limited, tight = generate(vulkan, model, tmp_path, *cases, GGML_VK_VISIBLE_DEVICES="0,0")
    for found in (even, uneven, second, main, limited, tight):
        assert found["text"] == cpu["text"], found
    first, other = ("Vulkan0", "Vulkan1")
    assert even["devices"] == [first, other, "CPU"] and 0.5 < even["weights"][first] / even["weights"][other] < 2
    assert 0 < uneven["weights"][first] < 0.6 * uneven["weights"][other]
    assert second["devices"] == [other, "CPU"] and first not in second["weights"] and second["weights"][other] > 0
    assert main["weights"].get(first, 0) == 0 < main["weights"][other]
    assert limited["weights"][first] == 0 < limited["weights"][other]  # 40 MiB hold nothing beside what computing takes
    assert 0 < tight["weights"][first] <= 80 * 2**20 and 0 < tight["weights"][other] <= 60 * 2**20


def test_the_estimate_is_what_loading_takes(vulkan: Path, model: str, tmp_path: Path) -> None:
    code = f"""
import json, gollama
options = dict(backend="vulkan", context_size=256, max_sequences=1)
estimate = gollama.LLM.estimate({model!r}, **options)
with gollama.LLM({model!r}, **options) as llm:
    taken = llm.memory()
print(json.dumps([[[row.device, row.needed] for row in rows] for rows in (estimate.devices, taken)]))
"""
    estimated, taken = run_python(code, vulkan, home=tmp_path, **SHOWN)
    assert [device for device, _ in estimated] == [device for device, _ in taken] == ["Vulkan0", "host"]
    assert estimated[0][1] == pytest.approx(taken[0][1], rel=0.1)


def test_the_second_time_no_process_tries_it(vulkan: Path, tmp_path: Path) -> None:
    code = """
import json, subprocess, gollama
from gollama import backends
started = []
subprocess.run, run = lambda *a, **k: started.append(1) or run(*a, **k), subprocess.run
first = [backends.probe(one) for one in backends.installed()]
again = [backends.probe(one) for one in backends.installed()]
print(json.dumps([len(started), first == again, first[0].problem]))
"""
    assert run_python(code, vulkan, home=tmp_path, **SHOWN) == [1, True, None]
    assert run_python(code, vulkan, home=tmp_path, **SHOWN) == [0, True, None]
    processes, same, problem = run_python(code, vulkan, home=tmp_path)  # another environment is another machine
    assert (processes, same) == (1, True) and "no device" in problem


def test_a_monitor_and_the_bench_see_the_device(vulkan: Path, model: str, tmp_path: Path) -> None:
    code = f"""
import dataclasses, json, gollama
from gollama.bench import bench
with gollama.DeviceMonitor() as monitor:
    with gollama.LLM({model!r}, backend="vulkan", context_size=128) as llm:
        needed = llm.memory()[0].needed
results = bench({model!r}, gpu_layers=[4, 99], prompt=4, generated=3, repeats=1, only=["Vulkan0"])
print(json.dumps([[sample.device for sample in monitor.latest()], [dataclasses.asdict(result) for result in results]]))
"""
    watched, (few, every) = run_python(code, vulkan, home=tmp_path, **SHOWN)
    assert watched == ["Vulkan0"]
    assert (few["gpu_layers"], every["gpu_layers"]) == (4, every["layers"]) and few["decode_rate"] > 0 and every["prompt_rate"] > 0


def test_doctor_says_why_a_backend_is_not_used(vulkan: Path, tmp_path: Path) -> None:
    code = "import json; from gollama.doctor import report; print(json.dumps(report()))"
    backend, = run_python(code, vulkan, home=tmp_path)["backends"]
    assert (backend["distribution"], backend["backend"], backend["devices"]) == ("gollama-vulkan", "vulkan", [])
    assert "finds no device" in backend["problem"]
    backend, = run_python(code, vulkan, home=tmp_path, **SHOWN)["backends"]
    assert backend["problem"] is None and backend["devices"] == ["Vulkan0"]
