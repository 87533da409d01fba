"""LLM on real models: generating, streaming, stopping, seeds, grammars."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import gollama
from gollama import (
    LLM,
    ClosedError,
    ContextOverflowError,
    GrammarError,
    LoadOptions,
    OptionError,
    SamplingParams,
    TextError,
    UnknownOptionError,
)

PROMPT = "The capital of France is"


def test_the_answer_is_sensible(llm: LLM) -> None:
    # Gemma here is the base model, of 270 million parameters
    assert {"smol": "Paris", "gemm": "France"}[llm.model.path.name[:4].lower()] in llm.generate(PROMPT, max_tokens=8, temperature=0).text


def test_a_completion_is_whole(smollm2: LLM) -> None:
    completion = smollm2.generate(PROMPT, max_tokens=12, temperature=0, ignore_eos=True)
    assert completion.finish_reason == "length"
    assert len(completion.tokens) == completion.usage.completion_tokens == 12
    assert completion.usage.prompt_tokens == len(smollm2.tokenize(PROMPT))
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + 12
    assert completion.timings.prompt_tokens_per_second > 0 and completion.timings.decode_tokens_per_second > 0
    assert completion.timings.time_to_first_token >= completion.timings.prompt_seconds > 0
    assert smollm2.model.detokenize(completion.tokens) == completion.text


def test_timings_tell_of_devices_while_a_monitor_runs(smollm2: LLM) -> None:
    cpu = gollama.devices()[-1]
    with gollama.DeviceMonitor([cpu], interval=0.01):
        watched = smollm2.generate("The sky is", max_tokens=4).timings
    assert [use.device for use in watched.devices] == ["CPU"] and 0 < watched.devices[0].peak_memory <= cpu.memory_total
    assert smollm2.generate("The sky is", max_tokens=1).timings.devices == ()


def test_a_list_of_prompts_gives_a_list(smollm2: LLM) -> None:
    prompts = [PROMPT, "1, 2, 3,"]
    single = [smollm2.generate(prompt, max_tokens=5, temperature=0).text for prompt in prompts]
    assert [completion.text for completion in smollm2.generate(prompts, max_tokens=5, temperature=0)] == single
    assert smollm2.generate([]) == []


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 2), temperature=st.floats(0, 2), prompt=st.text(min_size=1, max_size=30))
def test_streamed_text_joined_is_the_unstreamed_text(llm: LLM, seed: int, temperature: float, prompt: str) -> None:
    assume(llm.tokenize(prompt))
    params = SamplingParams(seed=seed, temperature=temperature, max_tokens=12, cache_prompt=False)
    whole = llm.generate(prompt, params=params)
    chunks = list(llm.stream(prompt, params=params))
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert [token for chunk in chunks for token in chunk.tokens] == whole.tokens
    assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].finish_reason == whole.finish_reason and chunks[-1].usage == whole.usage


def test_the_text_is_the_bytes_of_the_tokens(gemma: LLM) -> None:
    # many tokens here are parts of characters
    completion = gemma.generate("Some emoji: 🦄🧬🪐🫠🦩", max_tokens=40, seed=4, temperature=1.5)
    data = b"".join(gemma.model.token_bytes(token, special=False) for token in completion.tokens)
    assert completion.text == data.decode("utf-8", "replace")


def test_the_same_seed_gives_the_same_text_and_zero_is_a_seed(smollm2: LLM) -> None:
    def texts(seed: int) -> list[str]:
        return [smollm2.generate("Once", max_tokens=16, seed=seed, temperature=1.5, cache_prompt=False).text for _ in range(2)]

    zero, one = texts(0), texts(1)
    assert zero[0] == zero[1] and one[0] == one[1] and zero[0] != one[0]


def test_no_seed_is_random_each_time(smollm2: LLM) -> None:
    assert len({smollm2.generate("Once", max_tokens=16, temperature=1.5).text for _ in range(4)}) > 1


def test_a_stop_string_may_span_tokens_and_is_not_shown(smollm2: LLM) -> None:
    free = smollm2.generate(PROMPT, max_tokens=20, temperature=0)
    stop = free.text[3:12]
    stopped = smollm2.generate(PROMPT, max_tokens=20, temperature=0, stop=["never this", stop])
    assert (stopped.text, stopped.finish_reason) == (free.text[:3], "stop")
    assert free.tokens[: len(stopped.tokens)] == stopped.tokens and len(stopped.tokens) < 20


def test_the_model_ends_by_itself_unless_told_not_to(smollm2: LLM) -> None:
    ended = smollm2.chat([{"role": "user", "content": "Say: ok"}], temperature=0, max_tokens=200)
    assert ended.finish_reason == "stop" and ended.usage.completion_tokens < 200
    longer = ended.usage.completion_tokens + 5
    going = smollm2.chat([{"role": "user", "content": "Say: ok"}], temperature=0, max_tokens=longer, ignore_eos=True)
    assert going.finish_reason == "length"


def test_logit_bias_bans_and_forces(smollm2: LLM) -> None:
    first = smollm2.generate(PROMPT, max_tokens=1, temperature=0).tokens[0]
    assert smollm2.generate(PROMPT, max_tokens=1, temperature=0, logit_bias={first: -float("inf")}).tokens[0] != first
    assert smollm2.generate(PROMPT, max_tokens=3, temperature=0, logit_bias={1000: 1000.0}).tokens == [1000] * 3


def test_penalties_and_bias_work_together(smollm2: LLM) -> None:
    # a bias that makes one token come always, against a penalty that forbids its repetition
    tokens = smollm2.generate(PROMPT, max_tokens=6, temperature=0, logit_bias={1000: 50.0}, presence_penalty=200.0).tokens
    assert tokens.count(1000) == 1


def test_every_sampler_runs(smollm2: LLM) -> None:
    for options in ({"typical_p": 0.9}, {"top_n_sigma": 1.0}, {"dry_multiplier": 0.8}, {"xtc_probability": 0.5}, {"mirostat": 1},
                    {"mirostat": 2}, {"dynamic_temperature_range": 0.5}, {"repeat_penalty": 1.3}, {"frequency_penalty": 0.5},
                    {"top_k": 0, "top_p": 1.0, "min_p": 0.0}):
        assert smollm2.generate(PROMPT, max_tokens=4, seed=1, **options).usage.completion_tokens > 0


def test_a_grammar_is_followed(smollm2: LLM) -> None:
    completion = smollm2.generate("Is water wet? Answer:", grammar='root ::= " yes" | " no"', max_tokens=10)
    assert completion.text in (" yes", " no") and completion.finish_reason == "stop"


def test_a_wrong_grammar_leaves_the_model_usable(smollm2: LLM) -> None:
    with pytest.raises(GrammarError, match="does not parse"):
        smollm2.generate(PROMPT, grammar="root ::= (")
    assert smollm2.generate(PROMPT, max_tokens=1)


def test_a_prompt_longer_than_the_context_is_refused(smollm2: LLM) -> None:
    with pytest.raises(ContextOverflowError, match=r"the prompt has \d+ tokens and the context 2048"):
        smollm2.generate("word " * 3000)
    assert smollm2.generate(PROMPT, max_tokens=1)


def test_the_full_context_ends_the_answer(tiny_llm: LLM) -> None:
    size = tiny_llm.context_size
    completion = tiny_llm.generate("the sky", ignore_eos=True)
    assert completion.finish_reason == "length" and completion.usage.total_tokens == size


def test_a_long_prompt_is_processed_in_batches(smollm2: LLM) -> None:
    prompt = "Berlin is the capital of Germany. Rome is the capital of Italy. " * 20 + PROMPT
    with LLM("smollm2", context_size=2048, batch_size=64, micro_batch_size=64) as narrow:
        assert len(narrow.tokenize(prompt)) > 3 * 64
        assert narrow.generate(prompt, max_tokens=2, temperature=0).text == " Paris."
    assert smollm2.generate(prompt, max_tokens=2, temperature=0).text == " Paris."


@pytest.mark.parametrize("prompt", ["", "\ud800", "a\udfffb"])
def test_a_prompt_that_is_no_text_is_refused(llm: LLM, prompt: str) -> None:
    with pytest.raises(TextError):
        llm.generate(prompt)


def test_a_prompt_that_the_vocabulary_has_no_tokens_for_is_refused(smollm2: LLM) -> None:
    prompt = next(character for character in map(chr, range(32)) if not smollm2.tokenize(character))
    with pytest.raises(TextError, match="has no tokens for the prompt"):
        smollm2.generate(prompt)


def test_a_prompt_of_another_kind_is_refused(smollm2: LLM) -> None:
    wrong: tuple[Any, ...] = (None, 7, b"bytes", [None], [b"a"])
    for prompt in wrong:
        with pytest.raises(TextError, match="must be a str"):
            smollm2.generate(prompt)


def test_nul_bytes_in_a_prompt_are_text(llm: LLM) -> None:
    assert llm.generate("a\0b", max_tokens=2).usage.completion_tokens >= 0


def test_wrong_options_are_refused_before_anything_runs(smollm2: LLM) -> None:
    with pytest.raises(UnknownOptionError, match="did you mean 'max_tokens'"):
        smollm2.generate(PROMPT, max_token=3)
    for options in ({"max_tokens": 0}, {"max_tokens": -1}, {"temperature": float("nan")}):
        with pytest.raises(OptionError):
            smollm2.generate(PROMPT, **options)
    with pytest.raises(UnknownOptionError, match="did you mean 'context_size'"):
        LLM("smollm2", contextsize=3)


def test_a_closed_llm_says_so(tiny_path: Path) -> None:
    llm = LLM(tiny_path, context_size=64)
    llm.close()
    llm.close()
    conversation = [{"role": "user", "content": "a"}]
    for call in (lambda: llm.generate("a"), lambda: llm.stream("a"), lambda: llm.tokenize("a"), lambda: llm.chat(conversation)):
        with pytest.raises(ClosedError):
            call()


def test_closing_ends_a_stream_in_another_thread(tiny_path: Path) -> None:
    llm = LLM(tiny_path, context_size=8192)
    reasons: list[str | None] = []
    started = threading.Event()

    def work() -> None:
        try:
            for chunk in llm.stream("the", ignore_eos=True):
                started.set()
                reasons.append(chunk.finish_reason)
        except ClosedError:
            reasons.append("closed")

    worker = threading.Thread(target=work)
    worker.start()
    started.wait(30)
    llm.close()
    worker.join(30)
    assert not worker.is_alive() and reasons[-1] in ("cancelled", "closed")


def test_cancel_ends_a_long_prompt_at_once(smollm2: LLM) -> None:
    results: list[gollama.Completion] = []
    worker = threading.Thread(target=lambda: results.append(smollm2.generate("word " * 1900, max_tokens=5)))
    worker.start()
    time.sleep(0.5)
    smollm2.cancel()
    worker.join(60)
    assert results[0].finish_reason == "cancelled" and results[0].text == "" and results[0].usage.completion_tokens == 0
    assert "Paris" in smollm2.generate(PROMPT, max_tokens=8, temperature=0).text


def test_ctrl_c_ends_a_long_prompt_and_the_model_goes_on(smollm2: LLM) -> None:
    timer = threading.Timer(0.5, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        smollm2.generate("word " * 1900, max_tokens=5)
    timer.join()
    assert "Paris" in smollm2.generate(PROMPT, max_tokens=8, temperature=0).text


def test_another_exception_of_a_signal_handler_ends_a_long_prompt_too(smollm2: LLM) -> None:
    class Alarm(Exception):
        pass

    def ring(*details: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(Alarm):
            smollm2.generate("word " * 1900, max_tokens=5)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert "Paris" in smollm2.generate(PROMPT, max_tokens=8, temperature=0).text


def test_closing_inside_its_own_loop_ends_the_stream_as_cancelled(tiny_path: Path) -> None:
    llm = LLM(tiny_path, context_size=256)
    reasons = []
    for chunk in llm.stream("the", ignore_eos=True):
        llm.close()
        reasons.append(chunk.finish_reason)
    assert reasons[-1] == "cancelled"


def test_a_stream_may_be_read_by_one_thread_after_the_other(tiny_path: Path) -> None:
    with LLM(tiny_path, context_size=256) as llm, ThreadPoolExecutor(1) as pool:
        chunks = llm.stream("the", max_tokens=8, ignore_eos=True)
        pool.submit(next, chunks).result()
        next(chunks)
        list(chunks)
        assert pool.submit(llm.generate, "the", max_tokens=2).result().usage.completion_tokens <= 2


def test_leaving_a_stream_early_frees_the_model(smollm2: LLM) -> None:
    for chunk in smollm2.stream(PROMPT, ignore_eos=True):
        if chunk.text:
            break
    assert smollm2.generate(PROMPT, max_tokens=2)


def test_a_generation_inside_another_ones_loop_runs_beside_it(smollm2: LLM) -> None:
    whole = smollm2.generate(PROMPT, max_tokens=10, temperature=0).text
    text = ""
    for chunk in smollm2.stream(PROMPT, max_tokens=10, temperature=0):
        text += chunk.text
        assert smollm2.generate("One, two,", max_tokens=2, temperature=0).usage.completion_tokens == 2
    assert text == whole


def test_threads_share_one_model(smollm2: LLM) -> None:
    expected = smollm2.generate(PROMPT, max_tokens=8, temperature=0).text
    results: list[str] = []

    def work() -> None:
        results.append(smollm2.generate(PROMPT, max_tokens=8, temperature=0).text)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert results == [expected] * 6


def test_options_may_be_passed_whole(tiny_path: Path) -> None:
    with LLM(tiny_path, options=LoadOptions(context_size=64), threads=1) as llm:
        assert llm.options == LoadOptions(context_size=64, threads=1)
        assert llm.model.path == tiny_path


def test_a_lazy_grammar_applies_from_its_trigger_on(smollm2: LLM) -> None:
    free = smollm2.generate("One, two, three,", max_tokens=12, temperature=0).text
    assert " five," in free
    grammar = 'root ::= " five" "!"+'
    bound = smollm2.generate("One, two, three,", max_tokens=12, temperature=0, grammar=grammar, grammar_triggers=" five").text
    assert bound.startswith(free[: free.index(" five")] + " five!!")


def test_triggers_without_a_grammar_are_refused(smollm2: LLM) -> None:
    with pytest.raises(OptionError, match="no grammar"):
        smollm2.generate("a", grammar_triggers=["b"])
