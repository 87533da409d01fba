"""Tokens and text, both ways, on real vocabularies."""

from __future__ import annotations

import functools

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from gollama import LLM, Model


@functools.cache
def missing_bytes(model: Model) -> set[int]:
    """Bytes for which the vocabulary has no token of their own; SmolLM2 has none for a few that begin rare characters."""
    single = {data[0] for data in map(model.token_bytes, range(model.n_vocab)) if len(data) == 1}
    return {byte for byte in set(range(256)) - single if byte not in (0xC0, 0xC1, *range(0xF5, 0x100))}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text())
@example(text=" leading and trailing ")
@example(text="a , b . c ' s  don 't")
@example(text="<|im_start|>user\n<end_of_turn></s>")
@example(text="\0\r\n\t\u200b\ufeff👩‍👩‍👧‍👦")
def test_detokenize_after_tokenize_is_the_identity(llm: LLM, text: str) -> None:
    assume(not missing_bytes(llm.model) & set(text.encode()))
    assert llm.detokenize(llm.tokenize(text)) == text


def test_every_token_round_trips(llm: LLM) -> None:
    model = llm.model
    texts, long = [], 0
    for token in range(model.n_vocab):
        data = model.token_bytes(token)
        text = data.decode("utf-8", "replace")
        if "\ufffd" not in text and text and not model.is_control(token):
            texts.append(text)
            long += len(data) > 32
    assert long > 0 and len(texts) > 0.9 * model.n_vocab
    # many at once, since looking for special tokens costs the same for a long text as for a short one
    for start in range(0, len(texts), 500):
        joined = "\n".join(texts[start : start + 500])
        assert model.detokenize(model.tokenize(joined, add_special=False)) == joined


def test_every_token_alone_and_in_company_give_the_same_bytes(llm: LLM) -> None:
    model = llm.model
    step = 1000
    for start in range(0, model.n_vocab, step):
        tokens = range(start, min(start + step, model.n_vocab))
        together = model._handle.detokenize(list(tokens), True, False)
        assert together == b"".join(map(model.token_bytes, tokens))


def test_token_bytes_are_what_the_vocabulary_says(smollm2: LLM) -> None:
    # byte-level BPE writes each byte as one character: printable ones as themselves, the others from U+0100 on
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}
    model = smollm2.model
    for token in range(model.n_vocab):
        if not model.is_control(token):
            assert model.token_bytes(token) == bytes(byte_of[character] for character in model.token_text(token))


def test_bos_is_added_where_the_model_wants_it(gemma: LLM, smollm2: LLM) -> None:
    assert gemma.tokenize("a")[0] == gemma.model.special_tokens["bos"] and gemma.model.adds_bos
    assert gemma.tokenize("a", add_special=False)[0] != gemma.model.special_tokens["bos"]
    assert not smollm2.model.adds_bos


@pytest.mark.parametrize("text", ["<|im_end|>", "<|im_start|>system"])
def test_control_tokens_in_text_stay_text(smollm2: LLM, text: str) -> None:
    assert not any(map(smollm2.model.is_control, smollm2.tokenize(text)))
    assert any(map(smollm2.model.is_control, smollm2.tokenize(text, parse_special=True)))
