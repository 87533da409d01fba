"""Forks and the interpreter's exit while a batch is computed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=dict(os.environ))


LOADING = """
import asyncio, os, threading, time, gollama
llm = gollama.LLM({path!r}, context_size=32768, threads=1, max_sequences=4)
def ask():
    return llm.generate("the blue sky", max_tokens=8, temperature=0, ignore_eos=True).tokens
def until(running):
    while llm.stats().running != running:
        time.sleep(0.001)
"""

# the parent forks at many moments of a step; each child must compute as the parent did
FORKS = LOADING + """
expected = ask()
streams = [llm.stream("the sky", ignore_eos=True) for _ in range(3)]
until(3)
for moment in range(12):
    time.sleep(0.003 * moment)
    child = os.fork()
    if child == 0:
        os._exit(0 if ask() == expected and llm.stats().running == 0 else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, moment
assert llm.stats().running == 3
for stream in streams:
    stream.close()
assert ask() == expected
llm.close()
"""

STREAM_IN_A_CHILD = LOADING + """
stream = llm.stream("the sky", ignore_eos=True)
next(stream)
child = os.fork()
if child == 0:
    try:
        for chunk in stream:
            pass
        os._exit(4)
    except gollama.ClosedError as error:
        os._exit(0 if "in the parent process" in str(error) else 5)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
next(stream)
stream.close()
llm.close()
"""

CLOSE_IN_A_CHILD = LOADING + """
stream = llm.stream("the sky", ignore_eos=True)
next(stream)
for moment in range(40):
    child = os.fork()
    if child == 0:
        llm.close()
        os._exit(0 if llm.closed else 6)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, (moment, status)
next(stream)
llm.close()
"""

# what other threads hold at the fork, a lock or an object in the midst of a call, must not stop the child
OTHERS_IN_A_CHILD = LOADING + """
messages = [{{"role": "user", "content": "the blue sky " * 50}}]
def always(work):
    while not llm.closed:
        try:
            work()
        except gollama.ClosedError:
            pass
vector, prompt = llm.embed("the sky").tolist(), llm.render_chat(messages).text
works = [lambda: llm.embed(["the blue sky " * 20] * 4), lambda: llm.render_chat(messages)]
for work in works:
    threading.Thread(target=always, args=(work,)).start()
for moment in range(30):
    time.sleep(0.001 * moment)
    child = os.fork()
    if child == 0:
        same = llm.embed("the sky").tolist() == vector and llm.render_chat(messages).text == prompt
        llm.close()
        os._exit(0 if same else 7)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, (moment, status)
llm.close()
"""

# ggml has a lock for everybody, and holds it for a moment of each graph: one fork in four hundred came in such a moment
LOCKED_IN_A_CHILD = LOADING + """
import signal
from gollama.lowlevel import ffi, lib
params = ffi.new("struct ggml_init_params *", {{"mem_size": 1024, "no_alloc": True}})
def always():
    while not llm.closed:
        lib.ggml_free(lib.ggml_init(params[0]))
for _ in range(4):
    threading.Thread(target=always).start()
for moment in range(2000):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        lib.ggml_free(lib.ggml_init(params[0]))
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, (moment, status)
llm.close()
"""


@pytest.mark.parametrize("code", [FORKS, STREAM_IN_A_CHILD, CLOSE_IN_A_CHILD, OTHERS_IN_A_CHILD, LOCKED_IN_A_CHILD],
                         ids=["generate", "stream", "close", "embed and chat", "a lock of ggml"])
def test_fork_while_another_thread_computes(tiny_path: Path, code: str) -> None:
    result = run(code.format(path=str(tiny_path)))
    assert result.returncode == 0, result.stderr


EXITS = {
    "a list in a daemon": "threading.Thread(target=lambda: llm.generate(['the'] * 9, ignore_eos=True), daemon=True).start(); until(4)",
    "a list in a thread": "threading.Thread(target=lambda: llm.generate(['the'] * 9, max_tokens=300, ignore_eos=True)).start(); until(4)",
    "streams": "streams = [llm.stream('the', ignore_eos=True) for _ in range(9)]; next(streams[0])",
    "streams of asyncio": """
async def main():
    streams = [gollama.AsyncLLM(llm).stream('the', ignore_eos=True) for _ in range(9)]
    await streams[0].__anext__()
asyncio.run(main())
""",
    "an exception in the midst": """
async def main():
    many = [gollama.AsyncLLM(llm).generate('the', ignore_eos=True) for _ in range(9)]
    async with asyncio.timeout(0.2):
        await asyncio.gather(*many)
try:
    asyncio.run(main())
except TimeoutError:
    pass
""",
}


@pytest.mark.parametrize("way", EXITS)
def test_the_interpreter_exits_in_silence(tiny_path: Path, way: str) -> None:
    if way == "an exception in the midst" and sys.version_info < (3, 11):
        pytest.skip("asyncio.timeout came with Python 3.11")
    result = run(LOADING.format(path=str(tiny_path)) + EXITS[way])
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
