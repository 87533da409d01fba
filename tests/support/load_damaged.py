"""Load the model files named on stdin, one path a line, and say what became of each; the caller sees whether we live.

For a file that loads, a few tokens are generated too.
"""

import sys

import gollama


def outcome(path: str) -> str:
    try:
        with gollama.LLM(path, context_size=64, threads=1) as llm:
            llm.generate("the sky", max_tokens=3, temperature=0)
            return "loaded"
    except gollama.GollamaError as error:
        return f"{type(error).__name__}: {error}"


for line in sys.stdin:
    print(ascii(outcome(line.strip())), flush=True)
