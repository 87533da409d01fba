"""The rows of the comparison: what is measured, on whom, against which bar. One function each, from a Bench to lines of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import workloads
from benchmarks.figures import Bar, Line, alone, batch_rate, compared, one_after_another_rate, own_cost, spans
from benchmarks.native_tools import BATCHED, BENCH, NativeTools
from benchmarks.process import Contender, interleave
from benchmarks.workloads import CONTEXT_SIZE, THREADS

PROMPT = 64  # tokens
STEPS = 128  # of one stream, as `llama-bench -n 128`
PREFIX, TAIL = 1000, 16
MEMORY_ROUNDS = 3  # memory hardly varies


@dataclass(frozen=True)
class Bench:
    """One model and everybody who can be compared on it. `peers`: kind to the Python that has it."""

    model: str
    path: Path
    rounds: int
    generated: int
    native: NativeTools | None = None
    peers: dict[str, str] = field(default_factory=dict)
    builds: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def start(self, kind: str, **options: Any) -> Iterator[Contender]:
        """A loaded and warm contender."""
        options = {"context_size": CONTEXT_SIZE, "threads": THREADS, **options}
        python = {"python": self.peers[kind]} if kind in self.peers else {}
        with Contender(kind, self.path, options, **python) as contender:
            contender.run([workloads.prompt(PROMPT, -1)], 8)
            self.builds[kind] = contender.about
            yield contender

    def gollama(self, sequences: int = 1, **options: Any) -> AbstractContextManager[Contender]:
        return self.start("gollama_engine", max_sequences=sequences, **options)


def one_stream(bench: Bench) -> list[Line]:
    """One token of prompt and 128 steps: the same positions as llama-bench's."""

    def rate(contender: Contender, _: int) -> float:
        return one_after_another_rate(spans(contender.run([workloads.prompt(1)], STEPS + 1)))

    with ExitStack() as stack:
        measures: dict[str, Callable[[int], float]] = {
            "gollama": partial(rate, stack.enter_context(bench.gollama())),
            "bare loop": partial(rate, stack.enter_context(bench.start("bare")))}
        if bench.native:
            tools = bench.native
            measures[BENCH] = lambda _: tools.decode_rate(bench.path, STEPS)
        figures = interleave(bench.rounds, measures)
    return [compared(bench.model, f"one stream, decode {STEPS}, tokens/s", figures["gollama"], name, figures.get(name), Bar(0.98))
            for name in ("bare loop", BENCH)]


def at_once(sequences: int, peer_bars: dict[str, dict[str, float]], bench: Bench) -> list[Line]:
    """Requests that come at the same time. `peer_bars`: which bindings take part, and their bars by model."""

    def rate(contender: Contender, how: Callable[[Any], float], number: int) -> float:
        return how(spans(contender.run(workloads.prompts(sequences, PROMPT, number), bench.generated + 1)))

    unified = f"{BATCHED} -kvu"
    with ExitStack() as stack:
        measures: dict[str, Callable[[int], float]] = {"gollama": partial(rate, stack.enter_context(bench.gollama(sequences)), batch_rate)}
        if bench.native:
            for name in (BATCHED, unified):
                measures[name] = partial(_native_rate, bench, sequences, name == unified)
        for kind in peer_bars:
            if kind in bench.peers:
                batches = kind != "llama_cpp_python"
                contender = stack.enter_context(bench.start(kind, **({"max_sequences": sequences} if batches else {})))
                measures[kind] = partial(rate, contender, batch_rate if batches else one_after_another_rate)
        figures = interleave(bench.rounds, measures)
    bars = {BATCHED: Bar(0.95), unified: None, **{kind: _bar(bench, by_model) for kind, by_model in peer_bars.items()}}
    return [compared(bench.model, f"{sequences} at once, decode {bench.generated} each, tokens/s", figures["gollama"],
                     kind.replace("_", "-"), figures.get(kind), bar) for kind, bar in bars.items()]


def _native_rate(bench: Bench, sequences: int, unified: bool, _: int) -> float:
    assert bench.native
    return bench.native.batch(bench.path, sequences, PROMPT, bench.generated, unified=unified)[0]


def _bar(bench: Bench, by_model: dict[str, float]) -> Bar | None:
    """The bar for this model; a model without one of its own has that of "", or none."""
    limit = by_model.get(bench.model, by_model.get(""))
    return None if limit is None else Bar(limit)


def step_cost(bench: Bench) -> list[Line]:
    lines = []
    with bench.gollama(16) as engine:
        for sequences, limit in ((1, 60), (16, 150)):

            def cost(number: int, sequences: int = sequences) -> float:
                return own_cost(engine.run(workloads.prompts(sequences, PROMPT, number), bench.generated)["counters"])

            figures = interleave(bench.rounds, {"gollama": cost})["gollama"]
            lines.append(alone(bench.model, f"own cost of a step of {sequences}, µs", figures, Bar(limit, at_most=True)))
    return lines


def prefix(bench: Bench) -> list[Line]:
    """Two requests that differ in their last 16 tokens; each round has a prefix of its own."""
    with bench.gollama(2) as engine:

        def both(number: int) -> tuple[float, float, int]:
            shared = workloads.prompt(PREFIX, number)
            first, second = (engine.run([shared + workloads.prompt(TAIL, tail)], 1)["requests"][0] for tail in (-1, -2))
            return first["first"], second["first"], second["cached"]

        figures = interleave(bench.rounds, {"gollama": both})["gollama"]
    note = f"{min(cached for _, _, cached in figures)} tokens reused"
    return [compared(bench.model, f"{PREFIX} tokens of prefix again: time to first token, s", [second for _, second, _ in figures],
                     "first time", [first for first, _, _ in figures], Bar(0.06, at_most=True), note)]


def sampling(what: str, extra: dict[str, Any], limit: float, bench: Bench) -> list[Line]:
    """One stream with and without an option, in the same process."""
    with bench.gollama() as engine:

        def rate(more: dict[str, Any], _: int) -> float:
            return one_after_another_rate(spans(engine.run([workloads.JSON_PROMPT], STEPS + 1, **more)))

        figures = interleave(bench.rounds, {what: partial(rate, extra), "plain": partial(rate, {})})
    return [compared(bench.model, f"decode {STEPS} with {what}, tokens/s", figures[what], "plain", figures["plain"], Bar(limit))]


def ngram(bench: Bench) -> list[Line]:
    def copy(engine: Contender, _: int) -> dict[str, Any]:
        return engine.run([workloads.COPY_PROMPT], STEPS + 1)

    with bench.gollama() as plain, bench.gollama(speculative="ngram") as guessing:
        answers = interleave(bench.rounds, {"ngram": partial(copy, guessing), "plain": partial(copy, plain)})
    rates = {name: [one_after_another_rate(spans(answer)) for answer in given] for name, given in answers.items()}
    same = sum(a["tokens"] == b["tokens"] for a, b in zip(answers["ngram"], answers["plain"], strict=True))
    bar = _bar(bench, {"smollm2": 1.3, "gemma3:270m": 1.6})
    return [compared(bench.model, f"copy a text, decode {STEPS} with n-gram speculation, tokens/s", rates["ngram"], "plain", rates["plain"],
                     bar, f"same text in {same} of {bench.rounds}")]


def memory(bench: Bench) -> list[Line]:
    """Peak memory of processes that do the batch of 16 once."""

    def ours(number: int) -> float:
        with bench.gollama(16) as engine:
            engine.run(workloads.prompts(16, PROMPT, number), bench.generated + 1)
            return engine.close() / 1e6

    def theirs(_: int) -> float:
        assert bench.native
        return bench.native.batch(bench.path, 16, PROMPT, bench.generated)[1] / 1e6

    measures = {"gollama": ours, **({BATCHED: theirs} if bench.native else {})}
    figures = interleave(min(bench.rounds, MEMORY_ROUNDS), measures)
    return [compared(bench.model, "16 at once, peak memory, MB", figures["gollama"], BATCHED, figures.get(BATCHED), Bar(1.1, at_most=True))]


ROWS: dict[str, Callable[[Bench], list[Line]]] = {
    "one-stream": one_stream,
    "batch-8": partial(at_once, 8, {"llama_cpp_python": {"smollm2": 1.6, "gemma3:270m": 2.0}, "xllamacpp": {"": 1.05}}),
    "batch-16": partial(at_once, 16, {}),
    "step-cost": step_cost,
    "prefix": prefix,
    "logprobs": partial(sampling, "top-20 logprobs", {"logprobs": 20}, 0.95),
    "grammar": partial(sampling, "a JSON grammar", {"grammar": workloads.JSON_GRAMMAR}, 0.85),
    "ngram": ngram,
    "memory": memory,
}
