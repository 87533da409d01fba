"""/v1/completions by OpenAI's client."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest

from gollama import AsyncLLM

PROMPTS = ["The capital of France is", "One, two, three,"]
GREEDY: Any = {"model": "smollm2", "temperature": 0, "max_tokens": 6}


@pytest.mark.parametrize("as_tokens", [False, True])
def test_texts_and_tokens_are_continued(client: openai.OpenAI, llm: AsyncLLM, as_tokens: bool) -> None:
    prompts: Any = [llm.tokenize(prompt) for prompt in PROMPTS] if as_tokens else PROMPTS
    one = client.completions.create(prompt=prompts[0], **GREEDY)
    both = client.completions.create(prompt=prompts, **GREEDY)
    alone = [llm.sync.generate(prompt, temperature=0, max_tokens=6).text for prompt in PROMPTS]
    assert one.choices[0].text == alone[0] and [choice.text for choice in both.choices] == alone
    assert [choice.index for choice in both.choices] == [0, 1]
    assert both.usage is not None and both.usage.prompt_tokens == sum(len(llm.tokenize(prompt)) for prompt in PROMPTS)


def test_streams_of_several_prompts_joined_are_the_answers(client: openai.OpenAI) -> None:
    whole = client.completions.create(prompt=PROMPTS, n=2, seed=4, model="smollm2", max_tokens=6)
    texts = ["", "", "", ""]
    for chunk in client.completions.create(prompt=PROMPTS, n=2, seed=4, model="smollm2", max_tokens=6, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in whole.choices] and [choice.index for choice in whole.choices] == [0, 1, 2, 3]


def test_echo_says_the_prompt_first(client: openai.OpenAI) -> None:
    plain = client.completions.create(prompt=PROMPTS[0], **GREEDY).choices[0].text
    assert client.completions.create(prompt=PROMPTS[0], echo=True, **GREEDY).choices[0].text == PROMPTS[0] + plain
    parts = client.completions.create(prompt=PROMPTS[0], echo=True, stream=True, **GREEDY)
    assert "".join(part.choices[0].text for part in parts) == PROMPTS[0] + plain


def test_log_probabilities_of_prompt_and_answer(client: openai.OpenAI, llm: AsyncLLM) -> None:
    choice = client.completions.create(prompt=PROMPTS[0], echo=True, logprobs=2, **GREEDY).choices[0]
    found = choice.logprobs
    assert found is not None and found.tokens and found.token_logprobs and found.text_offset and found.top_logprobs
    assert "".join(found.tokens) == choice.text and found.token_logprobs[0] is None
    assert [choice.text[offset:].startswith(token) for offset, token in zip(found.text_offset, found.tokens)] == [True] * len(found.tokens)
    scored = llm.sync.score(PROMPTS[0]).tokens
    assert found.token_logprobs[1 : 1 + len(scored)] == pytest.approx([one.logprob for one in scored], abs=0.05)


def test_no_tokens_but_the_prompt_s_scores(client: openai.OpenAI) -> None:
    reply = client.completions.create(prompt=PROMPTS[0], echo=True, logprobs=0, **{**GREEDY, "max_tokens": 0})
    assert reply.choices[0].text == PROMPTS[0] and reply.usage is not None and reply.usage.completion_tokens == 0
    assert reply.choices[0].logprobs is not None and len(reply.choices[0].logprobs.tokens or []) == reply.usage.prompt_tokens


def test_the_likeliest_of_several(client: openai.OpenAI) -> None:
    options: Any = {"prompt": PROMPTS[1], "model": "smollm2", "seed": 5, "max_tokens": 5, "temperature": 1.5, "logprobs": 0}
    tried = client.completions.create(n=4, **options).choices

    def likelihood(choice: Any) -> float:
        return float(sum(choice.logprobs.token_logprobs)) / len(choice.logprobs.token_logprobs)

    assert client.completions.create(best_of=4, n=1, **options).choices[0].text == max(tried, key=likelihood).text


@pytest.mark.parametrize(("fields", "param"), [
    ({"best_of": 1, "n": 2}, "best_of"), ({"best_of": 3, "stream": True}, "best_of"), ({"suffix": "end"}, "suffix"),
    ({"prompt": []}, "prompt"), ({"prompt": ""}, "prompt"), ({"prompt": [10**9]}, "prompt"), ({"max_tokens": 0}, "max_tokens"),
    ({"prompt": [PROMPTS[0], 3]}, "prompt"),
])
def test_what_cannot_be(client: openai.OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(**{"prompt": PROMPTS[0], **GREEDY, **fields})
    assert error.value.param is not None and error.value.param.startswith(param)


def test_no_tokens_are_none_of_completion_s(http: httpx2.Client) -> None:
    """llama-server's route has no scores of the prompt, so that there would be nothing to tell."""
    error = http.post("/completion", json={"prompt": "a", "max_tokens": 0}).json()["error"]
    assert (error["param"], error["code"]) == ("max_tokens", "invalid_value")
