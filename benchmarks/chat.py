"""What chat costs: rendering a prompt and reading its answer, streaming a long call of a tool, keeping to a JSON schema.

    python -m benchmarks.chat [--rounds N] [--rows NAME ...] [--output docs/benchmarks/chat.json]

Prints a table of medians. Each row says what it is held against; what a row measures stands in its function.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import workloads
from benchmarks.figures import Bar, Line, alone, compared, one_after_another_rate, spans
from benchmarks.process import Contender, interleave
from benchmarks.report import table, write_json
from gollama import Model, _native, models
from gollama.chat import ReplyStream
from tools import natives

MODELS = ("smollm2", "gemma3:270m")
TEMPLATES = ("meta-llama-Llama-3.1-8B-Instruct", "Qwen3.5-4B", "deepseek-ai-DeepSeek-V3.1", "openai-gpt-oss-120b",
             "mistralai-Mistral-Nemo-Instruct-2407", "google-gemma-4-31B-it")
TURNS = 10
REPLY = "The lighthouse keeper climbed the narrow stairs every evening at six. " * 10
# how an answer begins that is no call: behind thinking, or by a mark
OPENINGS = {"Qwen3.5-4B": "Let me see.\n</think>\n\n", "deepseek-ai-DeepSeek-V3.1": "Let me see.</think>",
            "openai-gpt-oss-120b": "<|channel|>final<|message|>"}
REPEATS = 50  # within a round
PIECE = 4  # characters
SIZES = {"1k": 1024, "4k": 4096, "16k": 16384, "64k": 65536}
TOOL = {"type": "function", "function": {"name": "write", "description": "Writes a file", "parameters": {
    "type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}}}
# how three families write a call, with a place for the argument
CALLS = {
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": '<tool_call>\n{{"name": "write", "arguments": {{"text": "{}"}}}}\n</tool_call>',
    "Qwen3-Coder": "<tool_call>\n<function=write>\n<parameter=text>\n{}\n</parameter>\n</function>\n</tool_call>",
    "meta-llama-Llama-3.1-8B-Instruct": '{{"name": "write", "parameters": {{"text": "{}"}}}}',
}


def template(name: str) -> str:
    return (natives.source_tree() / "models" / "templates" / f"{name}.jinja").read_bytes().decode()


@contextmanager
def templates(name: str) -> Iterator[_native.ChatTemplatesHandle]:
    """The templates of a model of the catalog, or one of llama.cpp's by its file's name."""
    with ExitStack() as stack:
        if name in MODELS:
            model = stack.enter_context(Model(models.resolve(name), vocab_only=True))
            yield stack.enter_context(_native.ChatTemplatesHandle(model._handle))
        else:
            yield stack.enter_context(_native.ChatTemplatesHandle(None, template(name)))


def ten_turns(rounds: int) -> list[Line]:
    """Milliseconds for the prompt of a chat of ten turns and for reading the answer to it; no tokens, no model.

    Every chat is another one, as in use; the first of a template, which llama.cpp analyses then, is measured apart.
    """
    lines = []
    for name in (*MODELS, *TEMPLATES):
        first, later = [], []
        for number in range(rounds):
            with templates(name) as handle:
                answer = OPENINGS.get(name, "") + REPLY
                first.append(1000 * _turn(handle, answer, f"{number}"))
                later.append(1000 * statistics.median(_turn(handle, answer, f"{number} {again}") for again in range(REPEATS)))
        lines += [alone(name, f"{TURNS} turns, render and read the first time, ms", first),
                  alone(name, f"{TURNS} turns, render and read, ms", later)]
    return lines


def _turn(handle: _native.ChatTemplatesHandle, answer: str, mark: str) -> float:
    messages = [{"role": role, "content": f"{mark}: {workloads.COPY_PROMPT[:300]}"} for _ in range(TURNS) for role in ("user", "assistant")]
    start = time.perf_counter()
    rendered = handle.render([*messages, {"role": "user", "content": mark}], {})
    message = rendered.parser.parse(answer, partial=False)
    seconds = time.perf_counter() - start
    if message["content"].strip() != REPLY.strip():
        raise ValueError(f"the answer was read as {message}")
    return seconds


def streamed_call(rounds: int) -> list[Line]:
    """Microseconds a character for a call of a tool that comes in pieces of four characters: a long one costs no more of them.

    The first 2,000 or so cost less, since an answer so short is not shortened, and little of it is read again.
    """
    lines = []
    for name, call in CALLS.items():
        with templates(name) as handle:
            parser = handle.render([{"role": "user", "content": "Write a file."}], {"tools": [TOOL]}).parser
            figures = interleave(rounds, {label: partial(_stream, parser, call, size) for label, size in SIZES.items()})
        what = "stream a call with {} characters, µs/character"
        lines.append(alone(name, what.format("1k"), figures["1k"]))
        lines += [compared(name, what.format(label), figures[label], "4k", figures["4k"], Bar(1.25, at_most=True))
                  for label in ("16k", "64k")]
    return lines


def _stream(parser: _native.ChatParser, call: str, size: int, _: int) -> float:
    argument = (workloads.COPY_PROMPT.replace("\n", " ").replace('"', "") * (1 + size // 500))[:size]
    text = call.format(argument)
    stream = ReplyStream(parser)
    start = time.perf_counter()
    pieces = [stream.push(text[at:at + PIECE]) for at in range(0, len(text), PIECE)]
    last, reply = stream.finish()
    seconds = time.perf_counter() - start
    joined = "".join(one.arguments for delta in (*pieces, last) for one in delta.tool_calls)
    if reply.tool_calls[0].arguments != {"text": argument} or json.loads(joined) != {"text": argument}:
        raise ValueError(f"the call was read as {reply.tool_calls}")
    return 1e6 * seconds / len(text)


SCHEMAS: dict[str, dict[str, Any]] = {
    "small": {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}, "required": ["name", "age"]},
    "nested": {"type": "object", "required": ["name", "address", "children"], "properties": {
        "name": {"type": "string"}, "trade": {"enum": ["baker", "smith", "miller", "keeper"]},
        "address": {"type": "object", "required": ["street", "number"], "properties": {
            "street": {"type": "string"}, "number": {"type": "integer"}, "town": {"type": "string"}}},
        "children": {"type": "array", "minItems": 2, "items": {"type": "object", "required": ["name", "age"], "properties": {
            "name": {"type": "string"}, "age": {"type": "integer"}, "tall": {"type": "boolean"}}}}}},
    "recursive": {"$ref": "#/$defs/person", "$defs": {"person": {"type": "object", "required": ["name", "children"], "properties": {
        "name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/person"}}}}}},
}
PEOPLE = ("a baker", "a smith who is old", "a miller with two sons", "the keeper of a lighthouse", "a teacher", "a doctor from the north")
MOST = 96  # tokens of an answer


def schemas(rounds: int) -> list[Line]:
    """Tokens a second of chats whose answers keep to a schema, beside answers of as many tokens that need not."""
    prompts = [f"Describe {person} and the family, as JSON with name, age, address and children." for person in PEOPLE]
    lines = []
    with Contender("gollama_chat", models.resolve("smollm2"), workloads_options()) as engine:

        def rate(schema: dict[str, Any] | None, count: int, _: int) -> float:
            return one_after_another_rate(spans(engine.run(prompts, count, schema=schema)))

        for name, schema in SCHEMAS.items():
            lengths = [one.tokens for one in spans(engine.run(prompts, MOST, schema=schema))]
            count = round(statistics.mean(lengths))
            figures = interleave(rounds, {"schema": partial(rate, schema, MOST), "plain": partial(rate, None, count)})
            note = f"{min(lengths)} to {max(lengths)} tokens"
            lines.append(compared("smollm2", f"decode with a {name} schema, tokens/s", figures["schema"], "plain", figures["plain"],
                                  Bar(0.85), note))
    return lines


def workloads_options() -> dict[str, Any]:
    return {"context_size": workloads.CONTEXT_SIZE, "threads": workloads.THREADS}


ROWS: dict[str, Callable[[int], list[Line]]] = {"ten-turns": ten_turns, "streamed-call": streamed_call, "schemas": schemas}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    lines = []
    for name in arguments.rows:
        print(name, file=sys.stderr, flush=True)
        lines += ROWS[name](arguments.rounds)
    print(table(lines))
    if arguments.output:
        library = _native.library()
        facts: dict[str, Any] = {"machine": platform.machine(), "cpu_variant": library.cpu_variant, "llama_cpp": library.release,
                                 "rounds": arguments.rounds}
        write_json(arguments.output, facts, lines)


if __name__ == "__main__":
    main()
