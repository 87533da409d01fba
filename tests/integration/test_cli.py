"""The command `gollama`, run as users run it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gollama

COMMAND = [sys.executable, "-m", "gollama"]
QUESTION = "What is the capital of France? Answer in one word."


def run(*arguments: str, text: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    whole = {**os.environ, **environment}
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, env=whole, timeout=120, input=text or "")


@pytest.fixture(scope="module", autouse=True)
def fetched() -> None:
    from gollama import models

    models.fetch("smollm2")


def test_run_answers_a_prompt() -> None:
    result = run("run", "smollm2", QUESTION, "-t", "0", "-n", "20")
    assert result.returncode == 0 and "Paris" in result.stdout and result.stdout.endswith("\n") and result.stderr == ""


def test_the_installed_command_is_the_module() -> None:
    script = Path(sys.executable).parent / "gollama"
    assert subprocess.run([script, "version"], capture_output=True, text=True).stdout == run("version").stdout != ""


def test_piped_text_is_the_prompt() -> None:
    assert "Paris" in run("run", "smollm2", "-t", "0", "-n", "20", text=QUESTION).stdout


def test_raw_continues_the_text() -> None:
    assert run("run", "smollm2", "The capital of France is", "--raw", "-t", "0", "-n", "2").stdout == " Paris.\n"


def test_json_is_the_completion() -> None:
    answer = json.loads(run("run", "smollm2", QUESTION, "--json", "-t", "0", "-n", "20").stdout)
    assert "Paris" in answer["text"] and answer["finish_reason"] in ("stop", "length")
    assert answer["usage"]["completion_tokens"] == len(answer["tokens"])
    assert answer["timings"]["decode_tokens_per_second"] > 0


def test_stats_go_to_stderr() -> None:
    result = run("run", "smollm2", QUESTION, "--stats", "-n", "5")
    assert "tokens/s" in result.stderr and "first token after" in result.stderr and "tokens/s" not in result.stdout


def test_sampling_options_reach_the_sampler() -> None:
    result = run("run", "smollm2", "Is water wet?", "--grammar", 'root ::= "perhaps"')
    assert result.stdout == "perhaps\n"
    stopped = run("run", "smollm2", "Count: one, two,", "--raw", "-t", "0", "-n", "30", "--stop", " five", "--stop", " six")
    assert " five" not in stopped.stdout and "four" in stopped.stdout


def test_the_system_message_is_heard() -> None:
    plain = run("run", "smollm2", "Who are you?", "--json", "-n", "1")
    told = run("run", "smollm2", "Who are you?", "--json", "-n", "1", "--system", "You are a pirate. " * 10)
    assert json.loads(plain.stdout)["usage"]["prompt_tokens"] != json.loads(told.stdout)["usage"]["prompt_tokens"]


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (("run", "gpt-9", "hi"), 1, "gollama: there is no model named 'gpt-9'"),
    (("run", "/nowhere/x.gguf", "hi"), 1, "there is no such file"),
    (("run", "smollm2", "hi", "--temperature", "nan"), 1, "temperature must be a finite number"),
    (("run", "smollm2", "hi", "--max-tokens", "0"), 1, "max_tokens must be at least 1"),
    (("run", "smollm2", "hi", "--grammar", "root ::= ("), 1, "the grammar does not parse"),
    (("run", "smollm2", ""), 1, "the prompt is empty"),
    (("pull", "gpt-9"), 1, "the names are: smollm2"),
    (("show", __file__), 1, "not in GGUF format"),
    (("run", "smollm2", "hi", "--temperature", "hot"), 2, "Invalid value for '--temperature'"),
    (("frobnicate",), 2, "frobnicate"),
])
def test_failures_are_one_line_and_a_code(arguments: tuple[str, ...], code: int, message: str) -> None:
    result = run(*arguments)
    assert result.returncode == code and message in result.stderr and result.stdout == ""
    assert result.stderr.startswith("gollama: ") and result.stderr.count("\n") == 1


def test_list_pull_show_and_version() -> None:
    path = run("pull", "smollm2").stdout.strip()
    rows = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    assert rows["smollm2:135m"]["path"] == path and rows["smollm2:135m"]["quantization"] == "Q4_1"
    assert Path(path).stat().st_size == 98362432
    facts = json.loads(run("show", "smollm2", "--json").stdout)
    assert (facts["layers"], facts["embedding"], facts["vocabulary"], facts["context"]) == (30, 576, 49152, 8192)
    assert facts["metadata"]["general.architecture"] == "llama"
    assert "smollm2" in run("list").stdout and "general.architecture" in run("show", "smollm2").stdout
    version = json.loads(run("version", "--json").stdout)
    assert version["gollama"] == gollama.__version__ and version["llama_cpp"] == "v0.4.0" and version["cpu_variant"]


def test_help_names_every_command_and_option() -> None:
    text = run("--help", COLUMNS="200").stdout
    assert all(command in text for command in ("run", "pull", "list", "show", "version"))
    options = run("run", "--help", COLUMNS="200").stdout
    assert all(option in options for option in ("--temperature", "--stats", "--json", "--grammar", "--context-size", "--raw", "--system"))


def test_a_reader_that_leaves_is_no_error() -> None:
    process = subprocess.Popen(["sh", "-c", f"{' '.join(COMMAND)} run smollm2 'Count to one hundred.' -n 60 | head -c 3"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    output, errors = process.communicate(timeout=120)
    assert len(output) == 3 and errors == ""


class Terminal:
    """A chat in a terminal."""

    def __init__(self) -> None:
        self.process, self.fd = pty.fork()
        if self.process == 0:
            os.environ["TERM"] = "dumb"
            os.execv(COMMAND[0], [*COMMAND, "run", "smollm2", "-t", "0", "-n", "300", "--threads", "1", "--stats"])
        self.screen = ""
        self._seen = 0

    def expect(self, text: str, seconds: float = 200) -> None:
        """Wait for a text behind the one that was expected last."""
        end = time.monotonic() + seconds
        while (found := self.screen.find(text, self._seen)) < 0:
            assert time.monotonic() < end, self.screen
            if select.select([self.fd], [], [], 0.1)[0]:
                self.screen += os.read(self.fd, 4096).decode(errors="replace")
        self._seen = found + len(text)

    def send(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def leave(self) -> int:
        self.send("\x04")
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        os.close(self.fd)
        return code


def test_a_chat_keeps_its_history_survives_ctrl_c_and_ends_with_ctrl_d() -> None:
    terminal = Terminal()
    terminal.expect(">>> ")
    terminal.send("My name is Ada. Remember it.\n")
    terminal.expect("first token after")
    terminal.expect(">>> ")
    terminal.send("What is my name?\n")
    terminal.expect("first token after")
    terminal.expect(">>> ")
    first, second = (int(count) for count in re.findall(r"prompt (\d+) tokens", terminal.screen))
    assert second > first + 20  # the second prompt holds the first turn
    terminal.send("Write a very long story about the sea.\n")
    terminal.expect("sea.\r\n")
    terminal.expect(" the ")
    terminal.send("\x03")
    terminal.expect("[stopped]")
    terminal.expect(">>> ")
    time.sleep(0.3)  # Python's line editor misses a signal between showing its prompt and waiting
    terminal.send("\x03")
    terminal.expect("Ctrl-D leaves")
    terminal.expect(">>> ")
    terminal.send("/help\n")
    terminal.expect("/clear")
    terminal.expect(">>> ")
    assert terminal.leave() == 0


def test_an_interrupted_answer_ends_with_130() -> None:
    process = subprocess.Popen([*COMMAND, "run", "smollm2", "Count to one thousand.", "-t", "0"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.read(10)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors == b""
