"""Load and render the chat templates named on stdin, one JSON text a line; the caller sees whether we live.

Argument: a model file without a template. Prints for each what became of it, and how many bytes of memory were taken at most so far.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import gollama
from gollama import _native

MOST_MEMORY = 4 * 2**30  # so that nobody else suffers
MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Bye <b> 'x'"}]
HARMLESS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
RENDERED = "[user]Hi[assistant]Hello[user]Bye <b> 'x'"


def outcome(model: gollama.Model, template: str) -> str:
    templates = None
    try:
        templates = _native.ChatTemplatesHandle(model._handle, template)
        prompt = templates.render(MESSAGES, {}).prompt
        return "rendered: " + prompt[:200]
    except gollama.GollamaError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        if templates is not None:
            templates.close()


def most_memory() -> int:
    """The most bytes of memory this program ever had; ru_maxrss would also count those of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def main(path: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    with gollama.Model(path) as model:
        for line in sys.stdin:
            result = outcome(model, json.loads(line))
            assert outcome(model, HARMLESS) == f"rendered: {RENDERED}"
            print(json.dumps([result, most_memory()]), flush=True)


main(sys.argv[1])
