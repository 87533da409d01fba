"""llama.cpp's own server tests, run against gollama; docs/server-compatibility.md says what each comes to."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support import llama_server

PAGE = Path(__file__).parents[3] / "docs" / "server-compatibility.md"
ROW = re.compile(r"\| `(test_\w+\.py)::(test_\w+)` \| (passing|failing|not applicable) \| ([^|]*) \|")
SAMPLE = ["test_tokenize.py::test_tokenize_detokenize", "test_tokenize.py::test_tokenize_with_pieces",
          "test_template.py::test_add_generation_prompt", "test_chat_completion.py::test_logprobs",
          "test_chat_completion.py::test_completion_with_grammar", "test_completion.py::test_completion_stream_vs_non_stream",
          "test_compat_anthropic.py::test_anthropic_messages_streaming"]
LEAST_SHARE = 0.8


def verdicts() -> dict[str, str]:
    """What the page says of each test."""
    return {f"{file}::{test}": verdict for file, test, verdict, why in ROW.findall(PAGE.read_text(encoding="utf-8"))}


def results(outcomes: list[llama_server.Outcome]) -> dict[str, bool]:
    """Whether all cases of a test passed."""
    found: dict[str, bool] = {}
    for one in outcomes:
        found[one.test] = found.get(one.test, True) and one.outcome == "passed"
    return found


def test_the_page_lists_each_of_them(source_tree: Path) -> None:
    tests = set()
    for file in (source_tree / "tools/server/tests/unit").glob("test_*.py"):
        tests |= {f"{file.name}::{node.name}" for node in ast.parse(file.read_text(encoding="utf-8")).body
                  if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
    assert set(verdicts()) == tests


def test_some_of_them_pass(tmp_path: Path) -> None:
    pytest.importorskip("requests")
    outcomes = llama_server.run(SAMPLE, tmp_path / "report")
    assert len(outcomes) >= len(SAMPLE) and [one for one in outcomes if one.outcome != "passed"] == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_they_pass_and_fail_as_the_page_says(tmp_path: Path) -> None:
    pytest.importorskip("requests")
    told = {test: verdict for test, verdict in verdicts().items() if verdict != "not applicable"}
    found = results(llama_server.run(sorted(told), tmp_path / "report"))
    assert found == {test: verdict == "passing" for test, verdict in told.items()}
    assert sum(found.values()) >= LEAST_SHARE * len(found)
