"""Chat templates come inside of model files: none may hang or kill the process, and none that is real may be refused."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gollama import ChatError, GollamaError, Model, _native
from tests.support import template_attacks, tiny

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = Path(_native.__file__).resolve().parents[1] / "lib"
SECONDS = 100  # a hang is told from an end; it takes ten at most
MOST_MEMORY = 2 * 2**30
TURNS = [{"role": ("user", "assistant")[index % 2], "content": f"Message {index}\nof <b>two</b> lines\n"} for index in range(9)]


class Child:
    """A process that loads and renders templates; a new one for each that hangs or dies."""

    def __init__(self, model: Path) -> None:
        self._model = model
        self._process: subprocess.Popen[str] | None = None

    def run(self, template: str) -> tuple[str, int]:
        """The outcome, and the bytes of memory that the process has taken at most."""
        if self._process is None:
            self._process = subprocess.Popen([sys.executable, "-m", "tests.support.hostile_templates", str(self._model)], cwd=ROOT,
                                             text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self._process.stdin and self._process.stdout and self._process.stderr
        timer = threading.Timer(SECONDS, self._process.kill)
        timer.start()
        self._process.stdin.write(json.dumps(template) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        timer.cancel()
        if answer:
            outcome, memory = json.loads(answer)
            return outcome, memory
        code, text = self._process.wait(), self._process.stderr.read()
        self._process = None
        return f"died or hung: {code} {text[-500:]}", 0

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()


@pytest.fixture(scope="module")
def child(tiny_path: Path) -> Iterator[Child]:
    child = Child(tiny_path)
    yield child
    child.close()


@pytest.mark.parametrize("name", template_attacks.ALL)
def test_a_hostile_template_ends(name: str, child: Child) -> None:
    template, end = template_attacks.ALL[name]
    outcome, memory = child.run(template)
    assert outcome.startswith("ChatError: " if end is not None else ("ChatError: ", "rendered: "))
    assert end is None or end in outcome
    assert memory < MOST_MEMORY


def render(model: Model, template: str, messages: list[dict[str, str]]) -> str:
    templates = _native.ChatTemplatesHandle(model._handle, template)
    try:
        return templates.render(messages, {}).prompt
    finally:
        templates.close()


def thread_with_stack(size: int, body: Any) -> None:
    before = threading.stack_size(size)
    thread = threading.Thread(target=body)
    thread.start()
    threading.stack_size(before)
    thread.join()


@pytest.mark.parametrize("kilobytes", [128, 256, 1024])
def test_a_small_stack_is_not_run_out_of(tiny_path: Path, kilobytes: int) -> None:
    script = f"""if True:
        from gollama import GollamaError, Model
        from tests.native import test_templates_hostile as tests
        from tests.support import template_attacks
        def body():
            with Model({str(tiny_path)!r}) as model:
                for template, _ in [*template_attacks.RECURSION.values(), *template_attacks.SIZES.values()]:
                    try:
                        tests.render(model, template, tests.TURNS)
                    except GollamaError as error:
                        print(error)
                print("alive", tests.render(model, "{{{{ messages[0].role }}}}", tests.TURNS))
        tests.thread_with_stack({kilobytes} * 1024, body)"""
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, text=True, capture_output=True, timeout=SECONDS)
    assert result.returncode == 0 and result.stdout.endswith("alive user\n") and "recurses too deeply" in result.stdout


@pytest.mark.parametrize(("template", "place"), [
    ("a\nb\n{% if x %}\nc", "line 3, column 4: this if is never ended"),
    ("{% for m in messages %}\n{% if m %}\n{% endif %}\n\n", "line 1, column 4: this for is never ended"),
    ("a\n{{ x", r"line 2, column \d+: .*Expected }}"), ("a\n{{ x }\n}}\nb", "line 2, column 6: "),
    ("a\r\n{{ 1 +\r\n* 2 }}\r\n", "line 3, column 1: .*Unexpected token"), ("\n\n{% foo %}", "line 3, column 4: Unknown statement: foo"),
    ("{{ 1 }}\n{% for x of y %}{% endfor %}", "line 2, column 8: Expected 'in'"), ("a\n\n{{ 'abc }}\nd\ne", "line 3, column 1: "),
    ("a\n{# abc\nd\ne\n", "line 2, column 1: .*missing end of comment"), ("a\n{{ 'x\\q' }}\n", "line 2, column 8: .*unknown escape"),
    ("a\n{{ x ? y }}\n{{ x }}", "line 2, column 6: .*unexpected character"), ("\n{{ 99999999999999999999 }}", "line 2, column 4: a number"),
    ("{{ a }}\n" * 50 + "{{ a b }}\n" + "{{ a }}\n" * 50, "line 51, column 6: "), ("x\n{% endif %}", "line 2, column 4: Unknown statement"),
])
def test_an_error_of_syntax_names_its_line(tiny_model: Model, template: str, place: str) -> None:
    with pytest.raises(ChatError, match=f"(?s)cannot be used: at {place}"):
        render(tiny_model, template, TURNS)


def test_an_error_while_rendering_names_its_line(tiny_model: Model) -> None:
    with pytest.raises(ChatError, match="(?s)at line 3, column .*no system here"):
        render(tiny_model, "a\n{% if true %}\n{{ raise_exception('no system here') }}{% endif %}", TURNS)
    with pytest.raises(ChatError, match="computes for too long, at line 3"):
        render(tiny_model, "a\n{% set r = range(1000) %}\n" + "{% for a in r %}" * 9 + "{% endfor %}" * 9, TURNS)


def test_a_template_renders_again_after_it_failed(tiny_model: Model) -> None:
    source = ("{% filter replace('a', raise_exception('no') if messages[0].content == 'bad' else 'b') %}{{ messages[0].content }}"
              "{% endfilter %}")
    templates = _native.ChatTemplatesHandle(tiny_model._handle, source)
    with pytest.raises(ChatError, match="no"):
        templates.render([{"role": "user", "content": "bad"}], {})
    assert templates.render([{"role": "user", "content": "aha"}], {}).prompt == "bhb"
    templates.close()


def test_a_template_for_tools_is_limited_too(tmp_path: Path) -> None:
    loop = template_attacks.RECURSION["macro"][0]
    variants: Any = [{"name": "default", "template": "{{ messages[0].content }}"}, {"name": "tool_use", "template": loop}]
    with Model(tiny.write(tmp_path / "t.gguf", template=variants)) as model:
        templates = _native.ChatTemplatesHandle(model._handle)
        assert templates.render(TURNS, {}).prompt == TURNS[0]["content"]
        templates.close()
    with Model(tiny.write(tmp_path / "u.gguf", template=variants[1:])) as model, pytest.raises(GollamaError, match="recurses too deeply"):
        _native.ChatTemplatesHandle(model._handle)


@pytest.fixture(scope="module")
def real_templates(source_tree: Path) -> list[Path]:
    files = sorted((source_tree / "models" / "templates").glob("*.jinja"))
    assert len(files) > 50
    return files


SQUARE = "google-gemma-4-31B-it.jinja"  # looks at all earlier messages for each


@pytest.mark.slow
@pytest.mark.parametrize("messages", [
    [{"role": "user", "content": "All work and no play makes Jack a dull boy.\n" * 120_000}],
    [{"role": ("user", "assistant")[index % 2], "content": f"Message {index}\n" * 400} for index in range(1001)],
], ids=["5 MB", "1001 messages"])
def test_real_templates_take_large_conversations(real_templates: list[Path], tiny_model: Model, messages: list[dict[str, str]]) -> None:
    for file in real_templates[::3]:  # all of them do, in a minute
        if file.name != SQUARE or len(messages) == 1:
            assert render(tiny_model, file.read_text(encoding="utf-8"), messages), file.name


def test_a_template_may_take_the_square_of_the_messages(source_tree: Path, tiny_model: Model) -> None:
    source = (source_tree / "models" / "templates" / SQUARE).read_text(encoding="utf-8")
    assert render(tiny_model, source, [{"role": ("user", "assistant")[index % 2], "content": "Hi"} for index in range(501)])
