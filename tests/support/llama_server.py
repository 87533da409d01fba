"""llama.cpp's own server tests against gollama's server.

They are read from the pinned tree and run where they lie, by a pytest of their own. Their `utils` module is upstream's, too, but for
`ServerProcess`, which here starts gollama's server with the options mapped. This module is the plugin of that pytest, and starts it:

    python -m tests.support.llama_server [FILE[::TEST] ...]     # prints a table; no name: all

The models that they ask for cannot be reached; SmolLM2 stands in for each that writes or embeds. So what they expect of these models'
own words and token counts is not asked: see FREED.
"""

from __future__ import annotations

import importlib.machinery
import json
import os
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

FREED = ("re_content", "n_prompt", "n_tokens")  # parameters that tell what upstream's tiny models say
KEPT = ("test_completion_with_response_format", "test_completion_with_json_schema", "test_completion_with_grammar")  # a grammar's words
GENERATING = ("completion", "completions", "infill", "messages", "responses")
STAND_IN = "smollm2"
REPORT = "GOLLAMA_UPSTREAM_REPORT"
_test = ""  # that runs
COMPLETIONS = ("/completion", "/completions", "/chat/completions")


def tests_folder() -> Path:
    from tools import natives

    return natives.source_tree() / "tools/server/tests"


# ---- outside: run them ----


@dataclass(frozen=True)
class Outcome:
    """A test's end. `case` is its file and name, with the parameters in brackets."""

    case: str
    outcome: str  # passed, failed, skipped
    message: str

    @property
    def test(self) -> str:
        return self.case.partition("[")[0]


def run(names: list[str], report: Path, *options: str) -> list[Outcome]:
    """Run files of upstream's, or single tests of them, by names as in `test_basic.py::test_server_props`."""
    folder = tests_folder()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.support.llama_server", "-p", "no:cacheprovider", "--noconftest",
               "-c", os.devnull, f"--rootdir={folder}", "--import-mode=importlib", "-m", "not slow", "-o", "timeout=120", *options,
               *(str(folder / "unit" / name) for name in names)]
    paths = [str(Path(__file__).parents[2]), str(folder)]
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1", REPORT: str(report)}
    report.write_text("")
    subprocess.run(command, cwd=folder, env=settings, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return [Outcome(**json.loads(line)) for line in report.read_text().splitlines()]


def all_files() -> list[str]:
    return sorted(file.name for file in (tests_folder() / "unit").glob("test_*.py"))


# ---- inside: the plugin ----


def pytest_configure(config: pytest.Config) -> None:
    if REPORT in os.environ:
        config.addinivalue_line("markers", "slow: as upstream says")
        sys.modules["wget"] = types.ModuleType("wget")  # for downloads, which are not made
        sys.modules["utils"] = _utils(tests_folder() / "utils.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What a tiny model says is anything, here."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        for name in FREED:
            if callspec is not None and callspec.params.get(name) is not None and item.name.partition("[")[0] not in KEPT:
                callspec.params[name] = mock.ANY


def pytest_runtest_setup(item: pytest.Item) -> None:
    global _test
    _test = item.name


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    outcome = yield
    result = outcome.get_result()
    if REPORT in os.environ and (result.when == "call" or (result.when == "setup" and not result.passed)):
        told = str(call.excinfo.value).strip().splitlines() if call.excinfo else [""]
        line = {"case": f"{item.path.name}::{item.name}", "outcome": result.outcome, "message": (told or [""])[0][:200]}
        with open(os.environ[REPORT], "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


@pytest.fixture(autouse=REPORT in os.environ)
def _stop_servers() -> Any:
    yield
    for server in list(sys.modules["utils"].server_instances):
        server.stop()


def _utils(path: Path) -> Any:
    """Upstream's module, with a ServerProcess that is gollama's."""
    loader = importlib.machinery.SourceFileLoader("utils", str(path))
    module: Any = types.ModuleType("utils")
    module.__file__ = str(path)
    exec(compile(loader.get_data(str(path)), str(path), "exec"), module.__dict__)
    kind = module.ServerProcess
    kind.start, kind.stop = _start, _stop
    for name in ("make_request", "make_stream_request"):
        setattr(kind, name, _with_defaults(getattr(kind, name)))
    matches = module.match_regex
    module.match_regex = lambda regex, text: matches(regex, text) if _test.partition("[")[0] in KEPT else isinstance(text, str)
    return module


def _start(self: Any, timeout_seconds: float = 60) -> None:
    from gollama.server import Background, ServerConfig

    slots = self.n_slots or 1
    loading: dict[str, Any] = {"context_size": (self.n_ctx or 4096) // slots, "max_sequences": slots, "threads": 1}
    for ours, theirs in (("batch_size", self.n_batch), ("micro_batch_size", self.n_ubatch or self.n_batch)):
        if theirs:
            loading[ours] = theirs
    template = _template(self.chat_template_file) if self.chat_template_file else self.chat_template
    if template:
        loading["chat_template"] = template
    config = ServerConfig(models=[f"{self.model_alias or 'model'}={STAND_IN}"], port=0, any_model=True, loading=loading, drain_timeout=1,
                          metrics=bool(self.server_metrics))
    self.process = Background(config)
    self.process.__enter__()
    self.server_port = self.process.port
    sys.modules["utils"].server_instances.add(self)


def _template(given: str) -> Path:
    """Paths are as seen from upstream's folder of tests."""
    return (tests_folder() / given).resolve()


def _stop(self: Any) -> None:
    sys.modules["utils"].server_instances.discard(self)
    if self.process is not None:
        self.process.__exit__(None, None, None)
        self.process = None


def _with_defaults(method: Any) -> Any:
    """llama-server takes what a request does not say from its command line. stories260K never ends by itself; SmolLM2 does."""
    def asked(self: Any, verb: str, path: str, data: Any = None, *more: Any, **others: Any) -> Any:
        if isinstance(data, dict) and self.reasoning == "off":
            data = {"reasoning_effort": "none", **data}
        if isinstance(data, dict) and path.endswith(GENERATING) and "messages/" not in path:
            data = {**_defaults(self, path, data), **data}
        return method(self, verb, path, data, *more, **others)

    return asked


def _defaults(server: Any, path: str, data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"temperature": server.temperature, "seed": server.seed}
    if path.endswith(COMPLETIONS):
        if server.n_predict and not {"max_tokens", "max_completion_tokens", "n_predict"} & set(data):
            found["n_predict"] = server.n_predict
        if not {"grammar", "json_schema", "response_format", "tools", "stop"} & set(data):
            found["ignore_eos"] = True
        if server.enable_ctx_shift:
            found["overflow"] = "shift"
    return found


if __name__ == "__main__":
    import tempfile

    names = [name for name in sys.argv[1:] if not name.startswith("-")] or all_files()
    with tempfile.TemporaryDirectory() as folder:
        for one in run(names, Path(folder) / "report", *[name for name in sys.argv[1:] if name.startswith("-")]):
            print(one.outcome, one.case, one.message, sep="\t")
