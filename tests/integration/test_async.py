"""AsyncLLM: many tasks, cancellation, several event loops."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import gollama
from gollama import LLM, AsyncLLM, CancelledError, ClosedError, ContextOverflowError, GrammarError, UnknownOptionError
from tests.support.answers import assert_same_or_tied, wait_until

PROMPTS = ["The capital of France is", "One, two, three,", "def fibonacci(n):", "Once upon a time", "The sky is", "Roses are red,"]


@pytest.fixture(scope="module")
def sync() -> Iterator[LLM]:
    with LLM("smollm2", context_size=1024, threads=1, max_sequences=8) as llm:
        yield llm


@pytest.fixture
def llm(sync: LLM) -> Iterator[AsyncLLM]:
    yield AsyncLLM(sync)
    wait_until(lambda: sync.stats().running == sync.stats().waiting == 0)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main, 120))


async def freed(llm: AsyncLLM) -> None:
    while llm.stats().running or llm.stats().waiting:
        await asyncio.sleep(0.005)


def test_gathered_answers_are_those_of_each_alone(llm: AsyncLLM, sync: LLM) -> None:
    async def main() -> list[list[int]]:
        options: dict[str, Any] = {"max_tokens": 10, "temperature": 0, "ignore_eos": True}
        return [one.tokens for one in await asyncio.gather(*(llm.generate(prompt, **options) for prompt in PROMPTS))]

    before = sync.stats().steps
    together = run(main())
    assert sync.stats().steps - before < 3 * 10
    for prompt, tokens in zip(PROMPTS, together):
        alone = sync.generate(prompt, max_tokens=10, temperature=0, ignore_eos=True, cache_prompt=False).tokens
        assert_same_or_tied(sync.model, sync.tokenize(prompt), alone, tokens)


def test_a_list_a_chat_and_tokens_are_prompts_too(llm: AsyncLLM) -> None:
    async def main() -> None:
        options: dict[str, Any] = {"max_tokens": 3, "ignore_eos": True}
        several, chat, one = await asyncio.gather(
            llm.generate(PROMPTS, **options), llm.chat([{"role": "user", "content": "Hello"}], **options),
            llm.generate(llm.tokenize(PROMPTS[0]), **options))
        assert [completion.usage.completion_tokens for completion in (*several, chat, one)] == [3] * 8

    run(main())


def test_a_stream_joined_is_the_answer(llm: AsyncLLM) -> None:
    async def main() -> None:
        options: dict[str, Any] = {"max_tokens": 12, "seed": 3, "cache_prompt": False}
        whole = await llm.generate(PROMPTS[0], **options)
        chunks = [chunk async for chunk in llm.stream(PROMPTS[0], **options)]
        assert "".join(chunk.text for chunk in chunks) == whole.text and chunks[-1].finish_reason == whole.finish_reason
        spoken = [chunk.text async for chunk in llm.stream_chat([{"role": "user", "content": "Say: ok"}], max_tokens=5)]
        assert "".join(spoken)

    run(main())


def test_a_stream_read_in_larger_pieces_is_the_answer(llm: AsyncLLM) -> None:
    async def main() -> None:
        options: dict[str, Any] = {"max_tokens": 24, "seed": 3, "cache_prompt": False, "n": 2, "logprobs": 1, "ignore_eos": True}
        whole = await llm.generate(PROMPTS[0], **options)
        texts, tokens, pieces = ["", ""], [0, 0], 0
        stream = await llm.open_stream(PROMPTS[0], **options)
        while chunks := await stream.read():
            pieces += 1
            for chunk in chunks:
                texts[chunk.index] += chunk.text
                tokens[chunk.index] += len(chunk.logprobs or ())
            await asyncio.sleep(0.05)  # so that several come together
        assert texts == [choice.text for choice in whole.choices] and tokens == [24, 24] and pieces < 24
        spoken = await llm.open_stream_chat([{"role": "user", "content": "Say: ok"}], max_tokens=5)
        assert [chunk.completion for chunk in await spoken.read() + [one for _ in range(9) for one in await spoken.read()]][-1]
        assert await spoken.read() == []

    run(main())


def test_what_fails_in_a_stream_is_raised_once_what_came_before_was_read(llm: AsyncLLM) -> None:
    async def main() -> None:
        failing = await llm.open_stream(PROMPTS[0], max_tokens=1)
        while not failing._inbox._items:
            await asyncio.sleep(0.01)
        failing._inbox._items.insert(1, ClosedError("gone"))
        assert (await failing.read())[0].text
        with pytest.raises(ClosedError, match="gone"):
            await failing.read()

    run(main())


def test_the_event_loop_goes_on_while_it_computes(llm: AsyncLLM) -> None:
    async def main() -> int:
        ticks = 0
        task = asyncio.create_task(llm.generate("word " * 600, max_tokens=2, cache_prompt=False))
        while not task.done():
            ticks += 1
            await asyncio.sleep(0.005)
        return ticks

    assert run(main()) > 10


def test_cancelling_a_task_frees_its_sequence(llm: AsyncLLM) -> None:
    async def main() -> None:
        tasks = [asyncio.create_task(llm.generate(prompt, ignore_eos=True)) for prompt in PROMPTS]
        while llm.stats().running < len(PROMPTS):
            await asyncio.sleep(0.005)
        for task in tasks:
            task.cancel()
        assert all(isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*tasks, return_exceptions=True))
        await freed(llm)

    run(main())


def test_cancelling_one_leaves_the_others(llm: AsyncLLM) -> None:
    async def main() -> None:
        doomed = asyncio.create_task(llm.generate(PROMPTS[0], ignore_eos=True))
        others = [asyncio.create_task(llm.generate(prompt, max_tokens=12, ignore_eos=True)) for prompt in PROMPTS[1:]]
        while llm.stats().running < len(PROMPTS):
            await asyncio.sleep(0.001)
        doomed.cancel()
        assert [one.usage.completion_tokens for one in await asyncio.gather(*others)] == [12] * 5
        assert doomed.cancelled()

    run(main())


def test_cancelling_a_stream_s_task_frees_its_sequence(llm: AsyncLLM) -> None:
    async def read() -> None:
        async for _ in llm.stream(PROMPTS[0], ignore_eos=True):
            pass

    async def main() -> None:
        task = asyncio.create_task(read())
        while not llm.stats().running:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await freed(llm)

    run(main())


def test_aclose_with_and_forgetting_end_a_stream(llm: AsyncLLM) -> None:
    async def main() -> None:
        stream = llm.stream(PROMPTS[0], ignore_eos=True)
        await stream.__anext__()
        await stream.aclose()
        await stream.aclose()
        assert [chunk async for chunk in stream] == []
        await freed(llm)
        async with llm.stream(PROMPTS[1], ignore_eos=True) as stream:
            await stream.__anext__()
        await freed(llm)
        del stream
        await llm.stream(PROMPTS[2], ignore_eos=True).__anext__()
        await freed(llm)

    run(main())


def test_asyncio_timeout_ends_a_generation(llm: AsyncLLM) -> None:
    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(llm.generate(PROMPTS, ignore_eos=True), 0.3)
        await freed(llm)

    run(main())


def test_a_timeout_of_its_own_gives_what_there_is(llm: AsyncLLM) -> None:
    completion = run(llm.generate(PROMPTS[0], ignore_eos=True, timeout=0.3))
    assert completion.finish_reason == "timeout" and completion.tokens


def test_two_event_loops_at_once(llm: AsyncLLM) -> None:
    async def main() -> list[int]:
        streams = [llm.stream(prompt, max_tokens=8, ignore_eos=True) for prompt in PROMPTS[:3]]

        async def count(stream: Any) -> int:
            return sum([len(chunk.tokens) async for chunk in stream])

        completions = await asyncio.gather(*(llm.generate(prompt, max_tokens=8, ignore_eos=True) for prompt in PROMPTS[3:]))
        return [*(await asyncio.gather(*map(count, streams))), *(one.usage.completion_tokens for one in completions)]

    with ThreadPoolExecutor(2) as pool:
        assert [one.result(120) for one in [pool.submit(run, main()) for _ in range(2)]] == [[8] * 6] * 2


def test_a_loop_that_ends_leaves_nothing_running(llm: AsyncLLM, sync: LLM) -> None:
    async def main() -> None:
        streams = [llm.stream(prompt, ignore_eos=True) for prompt in PROMPTS]
        await streams[0].__anext__()
        tasks.append(asyncio.create_task(llm.generate(PROMPTS[0], ignore_eos=True)))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[Any]] = []

    asyncio.run(main())
    wait_until(lambda: sync.stats().running == 0)


@pytest.mark.parametrize(("options", "error"), [({"max_token": 3}, UnknownOptionError), ({"grammar": "root ::= ("}, GrammarError)])
def test_wrong_options_raise(llm: AsyncLLM, options: dict[str, Any], error: type[Exception]) -> None:
    async def main() -> None:
        with pytest.raises(error):
            await llm.generate("a", **options)
        with pytest.raises(error):
            llm.stream("a", **options)

    run(main())


def test_a_prompt_that_is_too_long_raises(llm: AsyncLLM) -> None:
    with pytest.raises(ContextOverflowError):
        run(llm.generate("word " * 2000))


def test_scores_embeddings_and_states(llm: AsyncLLM, sync: LLM, tmp_path: Path) -> None:
    async def main() -> None:
        score, perplexity = await asyncio.gather(llm.score(PROMPTS[0]), llm.perplexity("word " * 40, window=16))
        assert score.tokens == sync.score(PROMPTS[0]).tokens and perplexity.value > 1
        assert (await llm.embed(PROMPTS)).shape == (6, sync.model.n_embd)
        assert await llm.save_state(tmp_path / "state") > 0
        await llm.clear_cache()
        assert await llm.load_state(tmp_path / "state") > 0

    run(main())


def test_a_cancelled_task_s_embeddings_end(llm: AsyncLLM) -> None:
    async def main() -> None:
        endless = [" ".join(["word"] * 100)] * 10_000
        task = asyncio.create_task(llm.embed(endless))
        await asyncio.sleep(0.5)
        task.cancel()
        assert (await llm.embed("word")).shape[0] == 1  # which waits for its end
        assert task.cancelled()
        (stop := threading.Event()).set()
        with pytest.raises(CancelledError):
            await llm.embed("word", stop=stop)

    run(main())


def test_closing_ends_what_runs(tiny_path: Path) -> None:
    async def main() -> None:
        async with await AsyncLLM.load(tiny_path, context_size=32768, threads=1, max_sequences=2) as llm:
            tasks = [asyncio.create_task(llm.generate("the", ignore_eos=True)) for _ in range(4)]
            stream = llm.stream("the", ignore_eos=True)
            while llm.stats().running < 2:
                await asyncio.sleep(0.001)
            await llm.close()
            assert [one.finish_reason for one in await asyncio.gather(*tasks)] == ["cancelled"] * 4
            assert [chunk async for chunk in stream][-1].finish_reason == "cancelled"
        assert llm.closed
        with pytest.raises(ClosedError):
            await llm.generate("the")

    run(main())


def test_loading_fails_as_it_does_in_llm(tmp_path: Path) -> None:
    with pytest.raises(gollama.ModelNotFoundError):
        run(AsyncLLM.load(tmp_path / "none.gguf"))


def test_a_cancelled_load_leaves_nothing_behind() -> None:
    def open_ones() -> int:
        return sum(isinstance(one, LLM) and hasattr(one, "model") and not one.closed for one in gc.get_objects())

    shares: list[float] = []

    async def main(share: float) -> None:
        def on_progress(loaded: float) -> None:
            shares.append(loaded)
            if loaded >= share:
                loop.call_soon_threadsafe(task.cancel)
                time.sleep(0.02)

        loop = asyncio.get_running_loop()
        task = asyncio.create_task(AsyncLLM.load("smollm2", context_size=512, threads=1, on_progress=on_progress))
        with pytest.raises(asyncio.CancelledError):
            await task
        await loop.shutdown_default_executor()  # the thread that loads has ended
        for _ in range(200):
            if (left := open_ones()) == before:
                break
            await asyncio.sleep(0.05)
        assert left == before

    before = open_ones()
    run(main(0.0))
    assert max(shares) < 1
    run(main(1.0))  # too late to stop it, so that it is closed


def test_both_have_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(LLM) <= public(AsyncLLM)
    assert public(AsyncLLM) - public(LLM) == {"load", "open_stream", "open_stream_chat"}
