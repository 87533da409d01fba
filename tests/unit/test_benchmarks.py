"""The arithmetic and the reports of the benchmarks; nothing here measures."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks import process, workloads
from benchmarks.figures import Bar, Span, alone, batch_rate, compared, one_after_another_rate, own_cost, spans
from benchmarks.native_tools import NativeTools, last_record
from benchmarks.report import plot, table, write_json
from benchmarks.rows import ROWS, Bench


def test_a_ratio_is_the_median_of_the_rounds_ratios_not_the_ratio_of_medians() -> None:
    line = compared("m", "w", [10, 20, 90], "other", [10, 40, 30], Bar(0.95))
    assert (line.figure, line.other, line.ratio, line.rounds) == (20, 30, 1.0, 3)


def test_rounds_of_two_lengths_are_an_error() -> None:
    with pytest.raises(ValueError):
        compared("m", "w", [1, 2], "other", [1], None)


@pytest.mark.parametrize(("bar", "below", "at", "above"), [(Bar(0.95), False, True, True), (Bar(0.95, at_most=True), True, True, False)])
def test_a_bar_is_met_at_its_limit_and_on_its_side(bar: Bar, below: bool, at: bool, above: bool) -> None:
    assert (bar.met(0.94), bar.met(0.95), bar.met(0.96)) == (below, at, above)


def test_a_line_alone_holds_its_figure_against_the_bar_and_one_of_two_its_ratio() -> None:
    assert alone("m", "cost, µs", [70, 50, 40], Bar(60, at_most=True)).met is True
    assert compared("m", "w", [100], "other", [200], Bar(60)).met is False


def test_who_is_not_given_meets_and_misses_nothing() -> None:
    line = compared("m", "w", [100], "xllamacpp", None, Bar(1.05))
    assert (line.other, line.ratio, line.met) == (None, None, None)


# ---- rates ----


def test_a_stream_counts_no_first_token_and_no_prompt() -> None:
    assert one_after_another_rate([Span(first=5, end=6, tokens=11)]) == 10


def test_requests_one_after_another_count_their_decoding_only() -> None:
    assert one_after_another_rate([Span(1, 2, 11), Span(9, 10, 31)]) == 20


def test_a_batch_that_starts_together_counts_every_token_but_the_first() -> None:
    assert batch_rate([Span(1, 3, 11)] * 8) == 8 * 10 / 2


def test_tokens_made_before_the_last_request_started_do_not_count() -> None:
    """One request alone for 5 steps of 1 s; then both in step: 10 steps of the second, 6 of the first."""
    assert batch_rate([Span(1, 12, 12), Span(6, 16, 11)]) == pytest.approx((6 + 10) / 10)


def test_a_request_that_ended_before_the_last_one_started_counts_nothing() -> None:
    assert batch_rate([Span(0, 1, 11), Span(2, 4, 21)]) == 10


def test_the_cost_of_a_step_is_what_neither_llama_decode_nor_the_samplers_took() -> None:
    assert own_cost({"steps": 100, "step_seconds": 1.0, "decode_seconds": 0.9, "sample_seconds": 0.095}) == pytest.approx(50)


def test_spans_are_read_from_an_answer() -> None:
    assert spans({"requests": [{"first": 1, "end": 2, "tokens": 3, "cached": 0}], "rss": 5}) == [Span(1, 2, 3)]


# ---- rounds ----


def test_who_goes_first_alternates_and_every_round_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PAUSE", 0)
    calls: list[tuple[str, int]] = []

    def note(name: str, number: int) -> int:
        calls.append((name, number))
        return number

    figures = process.interleave(3, {"a": lambda n: note("a", n), "b": lambda n: note("b", n)})
    assert calls == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
    assert figures == {"a": [0, 1, 2], "b": [0, 1, 2]}


def test_prompts_begin_differently_in_every_request_and_round() -> None:
    starts = [prompt[0] for number in range(20) for prompt in workloads.prompts(16, 64, number)]
    assert len(set(starts)) == len(starts) == 320
    assert all(len(prompt) == 64 for prompt in workloads.prompts(16, 64, 0))


def test_tokens_of_a_prompt_are_ordinary_ones() -> None:
    tokens = {token for number in range(-20, 400) for token in workloads.prompt(64, number)}
    assert min(tokens) >= workloads.FIRST_TOKEN and max(tokens) < workloads.FIRST_TOKEN + workloads.ORDINARY_TOKENS


def test_a_contender_that_dies_says_why() -> None:
    with pytest.raises(process.ContenderError, match=r"bare ended with code 1: [\s\S]*unexpected keyword argument 'colour'"):
        process.Contender("bare", Path("none.gguf"), {"colour": "red"})


def test_the_record_of_a_tool_is_the_last_json_line() -> None:
    assert last_record('loading\n{"speed_tg": 1}\n\n{"speed_tg": 2.5}\nbye\n') == {"speed_tg": 2.5}


def test_a_folder_without_the_tools_is_incomplete(tmp_path: Path) -> None:
    (tmp_path / "llama-bench").touch()
    assert not NativeTools(tmp_path).complete
    (tmp_path / "llama-batched-bench").touch()
    assert NativeTools(tmp_path).complete


# ---- reports ----

LINES = [
    compared("smollm2", "8 at once, tokens/s", [200.0], "llama-batched-bench", [210.0], Bar(0.95)),
    compared("smollm2", "8 at once, tokens/s", [200.0], "xllamacpp", None, Bar(1.05)),
    compared("smollm2", "8 at once, tokens/s", [200.0], "kvu & co", [400.0], None, note="same text"),
    alone("smollm2", "own cost of a step, µs", [75.0], Bar(60, at_most=True)),
]


def test_the_table() -> None:
    assert table(LINES).splitlines()[2:] == [
        "| smollm2 | 8 at once, tokens/s | 200 | llama-batched-bench | 210 | 0.952 | ≥ 0.95 | yes |",
        "| smollm2 | 8 at once, tokens/s | 200 | xllamacpp | not given | – | ≥ 1.05 | – |",
        "| smollm2 | 8 at once, tokens/s (same text) | 200 | kvu & co | 400 | 0.500 | – | – |",
        "| smollm2 | own cost of a step, µs | 75 | – | – | – | ≤ 60 | no |",
    ]


def test_the_json_has_the_facts_and_every_line(tmp_path: Path) -> None:
    file = tmp_path / "new" / "engine.json"
    write_json(file, {"llama_cpp": "v0"}, LINES)
    read = json.loads(file.read_text(encoding="utf-8"))
    assert read["llama_cpp"] == "v0" and [row["met"] for row in read["rows"]] == [True, None, None, False]
    assert read["rows"][0]["bar"] == "≥ 0.95"


def test_the_plot_draws_the_ratios_there_are_and_their_bars() -> None:
    namespace = "{http://www.w3.org/2000/svg}"
    drawing = ElementTree.fromstring(plot(LINES))
    assert len(drawing.findall(f"{namespace}rect")) == 1 + 2  # the ground, and a bar for each ratio
    assert len(drawing.findall(f"{namespace}line")) == 1 + 1  # the one, and the only bar of a line with a ratio
    texts = "".join(element.text or "" for element in drawing.findall(f"{namespace}text"))
    assert "0.95 (≥ 0.95)" in texts and "kvu & co" in texts and "xllamacpp" not in texts


def test_the_plot_of_the_same_lines_is_the_same() -> None:
    assert plot(LINES) == plot(list(LINES))


# ---- rows ----


class Fake:
    """A contender that starts every request at once and takes `pace` seconds a token; an option makes it twice as fast."""

    def __init__(self, pace: float) -> None:
        self.pace = pace
        self.seen: set[str] = set()

    def run(self, prompts: list[Any], count: int, **sampling: Any) -> dict[str, Any]:
        known = {str(prompt[:1000]) for prompt in prompts} & self.seen
        self.seen |= {str(prompt[:1000]) for prompt in prompts}
        first = 0.01 if known else 1.0
        end = first + (count - 1) * self.pace / (2 if sampling else 1)
        return {"requests": [{"first": first, "end": end, "tokens": count, "cached": 1000 if known else 0}] * len(prompts),
                "counters": {"steps": 10, "step_seconds": 1.0, "decode_seconds": 0.999, "sample_seconds": 0.0}, "tokens": [[1] * count]}

    def close(self) -> int:
        return 100_000_000


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """gollama and its speculation take 10 and 5 ms a token, everybody else 20."""

    @contextmanager
    def start(self: Bench, kind: str, **options: Any) -> Iterator[Fake]:
        yield Fake((0.005 if "speculative" in options else 0.01) if kind == "gollama_engine" else 0.02)

    monkeypatch.setattr(process, "PAUSE", 0)
    monkeypatch.setattr(Bench, "start", start)


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize(("row", "ratios", "met"), [
    ("one-stream", [2, None], [True, None]),
    ("batch-8", [None, None, 8 * 100 / 50, 2], [None, None, True, True]),
    ("batch-16", [None, None], [None, None]),
    ("prefix", [0.01], [True]),
    ("logprobs", [2], [True]),
    ("grammar", [2], [True]),
    ("ngram", [2], [True]),
    ("memory", [None], [None]),
])
def test_a_row_compares_those_there_are(row: str, ratios: list[float | None], met: list[bool | None]) -> None:
    peers = {"llama_cpp_python": "python", "xllamacpp": "python"}
    lines = ROWS[row](Bench("smollm2", Path("m.gguf"), 3, 64, None, peers))
    assert [line.ratio for line in lines] == [ratio if ratio is None else pytest.approx(ratio) for ratio in ratios]
    assert [line.met for line in lines] == met


@pytest.mark.usefixtures("fakes")
def test_the_cost_of_a_step_is_told_for_one_sequence_and_sixteen() -> None:
    lines = ROWS["step-cost"](Bench("m", Path("m.gguf"), 1, 64))
    assert [line.figure for line in lines] == pytest.approx([100, 100]) and [line.met for line in lines] == [False, True]


@pytest.mark.usefixtures("fakes")
def test_speculation_says_whether_the_text_stayed_the_same_and_a_prefix_what_was_reused() -> None:
    bench = Bench("unknown", Path("m.gguf"), 2, 64)
    (guess,), (prefix,) = ROWS["ngram"](bench), ROWS["prefix"](bench)
    assert (guess.note, guess.bar, prefix.note) == ("same text in 2 of 2", None, "1000 tokens reused")
