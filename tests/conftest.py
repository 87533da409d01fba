"""Fixtures that more than one ring needs. Models are fetched once and kept in the cache directory."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gollama
from gollama import models
from tests.support import tiny

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# a shell starts what it runs in the background with Ctrl-C ignored, which the tests' children would inherit
signal.signal(signal.SIGINT, signal.default_int_handler)

MODELS = ("smollm2", "gemma3:270m")

# workers side by side (`pytest -n 2`) have cores of their own: llama.cpp's threads wait in busy loops
CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
WORKER, WORKERS = os.environ.get("PYTEST_XDIST_WORKER", "")[2:], int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKER and len(CORES) >= WORKERS:
    os.sched_setaffinity(0, sorted(CORES)[int(WORKER)::WORKERS])


@pytest.fixture
def every_core() -> Iterator[None]:
    """For tests about threads of one computation."""
    if not CORES:
        yield
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES)
    yield
    os.sched_setaffinity(0, own)


@pytest.fixture(scope="session")
def source_tree() -> Path:
    """llama.cpp's tree at the pinned release."""
    from tools import natives

    return natives.source_tree()


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture
def tiny_model(tiny_path: Path) -> Iterator[gollama.Model]:
    with gollama.Model(tiny_path) as model:
        yield model


@pytest.fixture
def tiny_llm(tiny_path: Path) -> Iterator[gollama.LLM]:
    with gollama.LLM(tiny_path, context_size=128, threads=1) as llm:
        yield llm


@pytest.fixture(scope="session")
def smollm2() -> Iterator[gollama.LLM]:
    with gollama.LLM("smollm2", context_size=2048) as llm:
        yield llm


@pytest.fixture(scope="session")
def gemma() -> Iterator[gollama.LLM]:
    with gollama.LLM("gemma3:270m", context_size=2048) as llm:
        yield llm


@pytest.fixture(scope="session", params=MODELS)
def llm(request: pytest.FixtureRequest) -> gollama.LLM:
    """Each of the real models in turn."""
    found: gollama.LLM = request.getfixturevalue({"smollm2": "smollm2", "gemma3:270m": "gemma"}[request.param])
    return found


@pytest.fixture(scope="session", params=MODELS)
def model_path(request: pytest.FixtureRequest) -> Path:
    return models.fetch(request.param)
