"""Closing in any order, many times, at exit, in a child; with real native objects."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gollama
from gollama import BusyError, ClosedError, Context, Embedder, LoadOptions, Model, Sampler, _native
from gollama._native import handles
from gollama._weak import members
from gollama.engine import ContextDevice
from gollama.errors import OutOfMemoryError


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_any_order_of_closing(tiny_path: Path, order: tuple[int, ...]) -> None:
    model = Model(tiny_path)
    objects: list[Model | Context | Sampler] = [model, Context(model), Sampler(model)]
    for index in order:
        objects[index].close()
    for thing in objects:
        thing.close()
        assert thing.closed


def test_a_context_without_its_speculator_is_closed_before_a_smaller_one_is_made(
        tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = _native.SpeculatorHandle, []

    def make(context: _native.ContextHandle, *given: Any, **more: Any) -> _native.SpeculatorHandle:
        seen.append((context.sequences, sum(not child.closed for child in tiny_model._handle._children)))
        if context.sequences == 4:
            raise OutOfMemoryError("as was planned")
        return made(context, *given, **more)

    device = ContextDevice(tiny_model, LoadOptions(context_size=64, threads=1, speculative="ngram"))
    monkeypatch.setattr(_native, "SpeculatorHandle", make)
    with pytest.raises(OutOfMemoryError):
        device.resize(4)
    assert seen == [(4, 1), (1, 1)] and device.sequences == 1
    device.close()


def test_a_step_that_samples_nothing_has_no_sampler_of_an_earlier_one(tiny_model: Model) -> None:
    with Context(tiny_model) as context, Sampler(tiny_model, temperature=0) as sampler:
        sampled = context.step([5, 6], 0, sampler).token
        wanted = (sampled + 1) % tiny_model.n_vocab
        step = context._handle.step([7], (0, 2, 1, 1), (0, 0, 0, wanted), [None])
        assert step.words[2] == wanted


def test_the_children_of_a_forgotten_model_go_on(tiny_path: Path) -> None:
    context = Context(Model(tiny_path))
    gc.collect()
    context.decode([5, 6])
    context.model.close()


def test_a_forgotten_object_warns_and_is_freed(tiny_path: Path) -> None:
    model = Model(tiny_path)
    with pytest.warns(ResourceWarning, match="the model .*tiny.gguf was never closed"):
        del model
        gc.collect()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_loading_and_closing_200_times_keeps_memory_bounded(tiny_path: Path) -> None:
    def cycle() -> None:
        with gollama.LLM(tiny_path, context_size=128) as llm:
            llm.generate("the sky", max_tokens=2)

    for _ in range(30):
        cycle()
    before = resident()
    for _ in range(200):
        cycle()
    assert resident() - before < 8_000_000


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, timeout=120)


LEAVING = {
    "closed": "with gollama.LLM(path, context_size=64) as llm: llm.generate('the', max_tokens=2)",
    "forgotten": "llm = gollama.LLM(path, context_size=64); llm.generate('the', max_tokens=2)",
    "in mid-stream": "llm = gollama.LLM(path, context_size=64); chunks = llm.stream('the', ignore_eos=True); next(chunks)",
    "in a cycle": "llm = gollama.LLM(path, context_size=64); llm.self = llm",
    "in a daemon thread": "import threading, time; llm = gollama.LLM(path, context_size=8192); threading.Thread("
                          "target=lambda: llm.generate('the', ignore_eos=True), daemon=True).start(); time.sleep(0.3)",
    "in a thread": "import threading; llm = gollama.LLM(path); threading.Thread(target=llm.generate, args=('the',)).start()",
}


@pytest.mark.parametrize("way", LEAVING)
def test_the_interpreter_exits_in_silence(tiny_path: Path, way: str) -> None:
    result = run(f"import gollama\npath = {str(tiny_path)!r}\n{LEAVING[way]}")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_development_mode_finds_nothing(tiny_path: Path) -> None:
    code = f"""
import gollama
with gollama.LLM({str(tiny_path)!r}, context_size=64) as llm:
    llm.generate("the sky", max_tokens=3, stop=["x"])
    list(llm.stream("the", max_tokens=3))
    llm.chat([{{"role": "user", "content": "the"}}], max_tokens=3)
    llm.detokenize(llm.tokenize("the"))
with gollama.Model({str(tiny_path)!r}) as model, gollama.Context(model) as context, gollama.Sampler(model) as sampler:
    context.decode([5])
"""
    result = run(code, PYTHONDEVMODE="1", PYTHONWARNINGS="error")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.usefixtures("every_core")
def test_a_forked_child_computes(tiny_path: Path) -> None:
    code = f"""
import os, gollama
llm = gollama.LLM({str(tiny_path)!r}, context_size=64, threads=2)
text = llm.generate("the", max_tokens=8, temperature=0, ignore_eos=True).text
child = os.fork()
same = llm.generate("the", max_tokens=8, temperature=0, ignore_eos=True).text == text
if child == 0:
    os._exit(0 if same else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and same
llm.close()
"""
    result = run(code)
    assert result.returncode == 0, result.stderr


def test_a_context_in_use_by_another_thread_is_busy(tiny_path: Path) -> None:
    with Model(tiny_path) as model, Context(model, gollama.LoadOptions(context_size=8192)) as context:
        caught: list[Exception] = []
        started = threading.Event()

        def work() -> None:
            started.set()
            context.decode([5] * 8000)

        worker = threading.Thread(target=work)
        worker.start()
        started.wait()
        while worker.is_alive():
            try:
                context.clear()
            except BusyError as error:
                caught.append(error)
                break
        worker.join()
        assert caught and "in use by another thread" in str(caught[0])


def test_a_model_serves_many_threads(tiny_path: Path) -> None:
    with Model(tiny_path) as model:
        results: list[list[int]] = []
        threads = [threading.Thread(target=lambda: results.extend(model.tokenize("the blue sky") for _ in range(200))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 1600 and all(tokens == results[0] for tokens in results)


@pytest.fixture
def quick_turns() -> Iterator[None]:
    """Threads take turns between any two instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("quick_turns")
@pytest.mark.parametrize("kind", [Context, Sampler, Embedder])
def test_a_child_that_is_made_while_its_model_closes_is_closed_with_it(tiny_path: Path, kind: Any) -> None:
    chance = random.Random(1)
    for _ in range(100):
        model = Model(tiny_path)
        made: list[Any] = []

        def make(model: Model = model, made: list[Any] = made) -> None:
            with contextlib.suppress(ClosedError):
                made.extend(kind(model) for _ in range(50))

        maker = threading.Thread(target=make)
        maker.start()
        time.sleep(0.005 * chance.random())
        model.close()
        maker.join(60)
        assert all(child.closed for child in made)


@pytest.mark.parametrize("kind", [Context, Sampler, Embedder])
def test_a_child_asks_nothing_of_a_model_that_closes_as_soon_as_it_can(tiny_path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(tiny_path)
    leave = handles._Use.__exit__

    def leave_and_close(use: Any, *details: object) -> None:
        leave(use, *details)
        if use._handle is model._handle and members(model._handle._children):
            model.close()

    monkeypatch.setattr(handles._Use, "__exit__", leave_and_close)
    child = kind(model)
    assert child.closed and model.closed


def test_an_exception_of_a_signal_handler_leaves_no_call_running(tiny_path: Path) -> None:
    class Interruption(Exception):
        pass

    def interrupt(*details: object) -> None:
        raise Interruption

    model = Model(tiny_path)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        caught = 0
        for _ in range(500):
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 4e-4))
                while True:
                    model.is_control(5)
            except Interruption:
                caught += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    gc.collect()
    assert caught == 500 and model.is_control(1)
    model.close()
