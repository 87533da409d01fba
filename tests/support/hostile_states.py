"""Damage a state file in many ways that its digest does not tell, load each, and use it; the caller sees whether we live.

Arguments: model, state file, prompt's tokens as JSON, seed, count. Prints what became of each, and at last that the model
still answers.
"""

from __future__ import annotations

import json
import random
import resource
import sys
from pathlib import Path
from typing import Any

import gollama
from gollama import states

HEAD = 256  # bytes at either end of the memory, where llama.cpp keeps counts, positions and types
MOST_MEMORY = 4 * 2**30


def damaged(data: bytes, choose: random.Random) -> bytes:
    """The file with a prefix changed, and its digest made to fit."""
    header, _, rest = data[len(states.MAGIC) :].partition(b"\n")
    entries: list[dict[str, Any]] = json.loads(header)["prefixes"]
    place = choose.randrange(len(entries))
    entry = entries[place]
    start = sum(4 * one["tokens"] + one["bytes"] for one in entries[:place])
    middle, end = start + 4 * entry["tokens"], start + 4 * entry["tokens"] + entry["bytes"]
    tokens, memory = bytearray(rest[start:middle]), bytearray(rest[middle:end])
    kind = choose.random()
    if kind < 0.6:
        for _ in range(choose.randint(1, 4)):
            edge = choose.randrange(min(HEAD, len(memory)))
            index = choose.choice([edge, len(memory) - 1 - edge, choose.randrange(len(memory))])
            memory[index] = choose.choice([0, 1, 127, 128, 255, memory[index] ^ 1 << choose.randrange(8)])
    elif kind < 0.75:
        del memory[choose.randrange(len(memory)) :]
    elif kind < 0.85:
        memory += choose.randbytes(choose.randint(1, 300))
    else:
        entry["first"] = choose.choice([0, 1, 50, 2**31, 2**62])
        entry["sequences"] = choose.choice([1, 2, 7, 100, 256])
        entry["partial"] = choose.choice([entry["partial"], 0, 1, 7, 8, 12, 2**31, 2**62, entry["bytes"] - 1])
    entry["bytes"] = len(memory)
    entry["sha256"] = states.digest(entry, tokens, memory)
    top = {**json.loads(header), "prefixes": entries}
    return states.MAGIC + json.dumps(top).encode() + b"\n" + rest[:start] + tokens + memory + rest[end:]


def main(model: str, file: str, prompt: str, seed: str, count: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))  # so that nobody else suffers
    data, tokens, choose = Path(file).read_bytes(), json.loads(prompt), random.Random(int(seed))
    with gollama.LLM(model, context_size=512, threads=1, max_sequences=2) as llm:
        for number in range(int(count)):
            llm.clear_cache()
            Path(file).write_bytes(damaged(data, choose))
            print(number, end=" ", flush=True)
            try:
                llm.load_state(file)
                completions = llm.generate([tokens, [*tokens, 5, 6]], max_tokens=2, temperature=0)
                print("cached", [completion.usage.cached_tokens for completion in completions], flush=True)
            except gollama.GollamaError as error:
                print(type(error).__name__, str(error)[:80], flush=True)
        llm.clear_cache()
        assert llm.generate(tokens, max_tokens=4, ignore_eos=True, cache_prompt=False).usage.completion_tokens == 4
    print("alive", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
