"""Model, Context and Sampler by themselves."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy
import pytest

import gollama
from gollama import (
    CancelledError,
    ClosedError,
    Context,
    ContextOverflowError,
    GrammarError,
    LoadOptions,
    Model,
    OptionError,
    Sampler,
    TextError,
)
from tests.support import tiny


def test_sizes_are_those_that_were_written(tiny_model: Model) -> None:
    assert (tiny_model.n_layer, tiny_model.n_embd, tiny_model.n_head, tiny_model.n_head_kv) == (2, 32, 4, 4)
    assert (tiny_model.n_ctx_train, tiny_model.n_vocab, tiny_model.n_swa) == (128, 259 + len(tiny.WORDS), 0)
    assert tiny_model.architecture == "llama" and tiny_model.vocabulary_type == "SPM"
    assert tiny_model.is_generative and not tiny_model.is_recurrent
    assert tiny_model.metadata["general.name"] == "tiny"


def test_sizes_are_told_when_only_the_vocabulary_is_loaded(tiny_path: Path) -> None:
    with Model(tiny_path, vocab_only=True) as model:
        assert (model.n_layer, model.n_embd, model.n_head, model.n_ctx_train) == (2, 32, 4, 128)


def test_special_tokens(tiny_model: Model) -> None:
    assert tiny_model.special_tokens["bos"] == 1 and tiny_model.special_tokens["eos"] == 2
    assert tiny_model.is_end_of_generation(2) and tiny_model.is_control(1)
    assert tiny_model.control_tokens == {1: "<s>", 2: "</s>"}


def test_a_long_token_keeps_its_text(tiny_model: Model) -> None:
    token = 259 + tiny.WORDS.index(tiny.LONG_TOKEN)
    text = tiny.LONG_TOKEN.replace("▁", " ").encode()
    assert len(text) > 64 and tiny_model.token_bytes(token) == text
    assert tiny_model.token_text(token) == tiny.LONG_TOKEN


def test_special_tokens_are_parsed_only_when_asked(tiny_model: Model) -> None:
    assert 2 not in tiny_model.tokenize("</s>")
    assert 2 in tiny_model.tokenize("</s>", parse_special=True)


def test_nul_bytes_are_text(tiny_model: Model) -> None:
    assert tiny_model.detokenize(tiny_model.tokenize("a\0b")) == "a\0b"


@pytest.mark.parametrize("token", [-1, 10**6])
def test_a_token_that_is_not_there_is_refused(tiny_model: Model, token: int) -> None:
    for call in (tiny_model.token_bytes, tiny_model.is_control, tiny_model.token_text):
        with pytest.raises(OptionError, match=f"token {token} is not in the vocabulary"):
            call(token)
    with pytest.raises(OptionError):
        tiny_model.detokenize([1, token])


def test_lone_surrogates_are_refused_with_their_place(tiny_model: Model) -> None:
    with pytest.raises(TextError, match=r"lone surrogate U\+D83D at index 2"):
        tiny_model.tokenize("ab\ud83d")


def test_decode_and_logits(tiny_model: Model) -> None:
    with Context(tiny_model, LoadOptions(context_size=128)) as context:
        with pytest.raises(OptionError, match="no logits"):
            context.logits()
        context.decode(tiny_model.tokenize("the sky"))
        logits = context.logits()
        assert logits.shape == (tiny_model.n_vocab,) and logits.dtype == numpy.float32 and numpy.isfinite(logits).all()
        assert not logits.flags.writeable


def test_sampling_greedily_takes_the_largest_logit(tiny_model: Model) -> None:
    tokens = tiny_model.tokenize("the sky")
    with Context(tiny_model) as context, Sampler(tiny_model, temperature=0) as sampler:
        context.decode(tokens)
        best = int(context.logits().argmax())
        context.clear()
        assert context.step(tokens, 0, sampler).token == best


@pytest.mark.parametrize("token", [-1, 10**6, 2**40, "a"])
def test_a_sampler_is_told_of_tokens_that_there_are(tiny_model: Model, token: Any) -> None:
    with Sampler(tiny_model, temperature=0) as sampler:
        with pytest.raises(OptionError, match="token"):
            sampler.accept([5, token])
        sampler.accept([5])


def test_decoding_in_parts_gives_what_one_batch_gives(tiny_model: Model) -> None:
    tokens = tiny_model.tokenize("the sky the blue sky")
    with Context(tiny_model) as context:
        context.decode(tokens)
        whole = context.logits()
        context.clear()
        for token in tokens:
            context.decode([token])
        assert context.n_tokens == len(tokens)
        numpy.testing.assert_allclose(context.logits(), whole, rtol=1e-3, atol=1e-3)


def test_truncate_forgets(tiny_model: Model) -> None:
    with Context(tiny_model) as context:
        context.decode([5, 6, 7, 8])
        assert context.truncate(2) and context.n_tokens == 2
        context.clear()
        assert context.n_tokens == 0


def test_more_tokens_than_fit_are_refused_and_nothing_is_computed(tiny_model: Model) -> None:
    with Context(tiny_model, LoadOptions(context_size=256)) as context:
        with pytest.raises(ContextOverflowError, match="300 tokens do not fit behind 0 in a context of 256"):
            context.decode([5] * 300)
        assert context.n_tokens == 0
        context.decode([5] * 256)


def test_a_step_wider_than_a_batch_is_refused(tiny_model: Model) -> None:
    with Context(tiny_model, LoadOptions(batch_size=32, micro_batch_size=32)) as context, Sampler(tiny_model) as sampler:
        with pytest.raises(OptionError, match="1 to 32 tokens"):
            context.step([5] * 33, 0, sampler)
        context.decode([5] * 100)
        assert context.n_tokens == 100


def test_a_sampler_of_another_model_is_refused(tiny_model: Model, tiny_path: Path) -> None:
    with Model(tiny_path) as other, Context(tiny_model) as context, Sampler(other) as sampler:
        with pytest.raises(OptionError, match="belongs to another model"):
            context.step([5], 0, sampler)


def test_a_position_that_does_not_follow_is_refused(tiny_model: Model) -> None:
    with Context(tiny_model) as context, Sampler(tiny_model) as sampler:
        context.decode([5, 6])
        for position in (0, 50, -1):
            with pytest.raises(OptionError):
                context.step([7], position, sampler)
        assert context.step([7], 2, sampler).token >= 0


def test_a_token_outside_the_vocabulary_is_refused_in_c_too(tiny_model: Model) -> None:
    with Context(tiny_model) as context:
        with pytest.raises(OptionError, match="token 99999 is not in the vocabulary"):
            context.decode([99999])
        context.decode([5])


def test_a_cancelled_step_says_so_and_the_context_goes_on(tiny_model: Model) -> None:
    with Context(tiny_model) as context:
        context.cancel()
        with pytest.raises(CancelledError):
            context.decode([5, 6])
        context.clear()
        context.decode([5, 6])
        context.cancel()
        context.resume()
        context.decode([7])


@pytest.mark.parametrize(("grammar", "message"), [
    ('root ::= "a', "does not parse"), ("root ::= missing", "'missing' and does not define"),
    ('other ::= "a"', "no rule named 'root'"), ("root ::= root \"a\"", "left recursion"), ("\0", "NUL"), ("", "no rule named 'root'"),
    ("root ::= " + "(" * 100_000, "nested"), ('root ::= "\\"" ' + "(" * 100_000, "nested"),
])
def test_a_wrong_grammar_is_told(tiny_model: Model, grammar: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((GrammarError, TextError), match=message):
        Sampler(tiny_model, grammar=grammar)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("grammar", "message"), [
    ('root ::= "a"{5,2}', "at least 5 times and at most 2"), ('root ::= ("a"{3 ,#\r1})', "at least 3 times and at most 1"),
    ('root ::= ("a" # \r' + "(" * 200_000 + '"b"' + ")" * 200_000 + ")", "nested deeper than 200"),
], ids=["backwards", "backwards-spaced", "deep-behind-a-comment"])
def test_a_grammar_that_llama_cpp_does_not_survive_is_refused(tiny_model: Model, grammar: str, message: str) -> None:
    with pytest.raises(GrammarError, match=message):
        Sampler(tiny_model, grammar=grammar)


def test_braces_in_texts_classes_and_comments_repeat_nothing(tiny_model: Model) -> None:
    Sampler(tiny_model, grammar='root ::= "{5,2}\\"{5,2}" [{5,2}] "a"{2,5} "b"{007,8} "c"{3,} # {5,2}\n').close()


def test_a_token_that_the_grammar_forbids_is_refused(tiny_model: Model) -> None:
    with Sampler(tiny_model, grammar='root ::= "a"') as sampler, pytest.raises(GrammarError):
        sampler.accept([259], generated=True)


def test_a_bias_for_a_token_that_is_not_there_is_refused(tiny_model: Model) -> None:
    with pytest.raises(OptionError, match="logit_bias names token 99999"):
        Sampler(tiny_model, logit_bias={99999: 1.0})


def test_seeds(tiny_model: Model) -> None:
    with Sampler(tiny_model, seed=0) as zero, Sampler(tiny_model) as first, Sampler(tiny_model) as second:
        assert zero.seed == 0
        assert first.seed != second.seed


def test_a_sampler_describes_its_chain(tiny_model: Model) -> None:
    with Sampler(tiny_model, temperature=0.5) as sampler:
        assert "top-k" in repr(sampler) and "dist" in repr(sampler)


def test_closed_objects_say_so(tiny_path: Path) -> None:
    model = Model(tiny_path)
    context, sampler = Context(model), Sampler(model)
    model.close()
    for call in (lambda: model.tokenize("a"), lambda: context.decode([1]), lambda: sampler.reset(), lambda: model.description):
        with pytest.raises(ClosedError, match="is closed"):
            call()
    assert context.closed and sampler.closed


def test_progress_is_reported_and_its_exception_stops_the_load(tiny_path: Path) -> None:
    shares: list[float] = []
    Model(tiny_path, on_progress=shares.append).close()
    assert shares == sorted(shares) and shares[-1] == 1.0

    def fail(share: float) -> None:
        raise KeyError("from the callback")

    with pytest.raises(KeyError, match="from the callback"):
        Model(tiny_path, on_progress=fail)
    with pytest.raises(CancelledError):
        Model(tiny_path, on_progress=lambda share: False)


def test_llama_cpps_log_goes_to_the_logger(tiny_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.INFO, "gollama"):
        Model(tiny_path).close()
    assert any("llama" in record.message for record in caplog.records)
    assert all(record.name == "gollama" and "\n" not in record.message for record in caplog.records)
    caplog.clear()
    Model(tiny_path).close()
    assert [record for record in caplog.records if record.levelno < logging.WARNING] == []
    assert capfd.readouterr() == ("", "")


def test_a_context_of_a_vocabulary_alone_is_refused(tiny_path: Path) -> None:
    with Model(tiny_path, vocab_only=True) as model, pytest.raises(OptionError, match="only the vocabulary"):
        Context(model)


def test_no_context_passes_the_positions_that_a_model_learned(tmp_path: Path) -> None:
    with gollama.LLM(tiny.write_gpt2(tmp_path / "gpt2.gguf", context=32), context_size=64, threads=1) as llm:
        assert llm.model.n_positions == llm.context_size == 32
        assert llm.generate("the sky", ignore_eos=True).usage.total_tokens == 32
        with pytest.raises(ContextOverflowError):
            llm.generate("the sky is blue " * 8)
        with pytest.raises(ContextOverflowError), Context(llm.model) as context:
            context.decode([5] * 40)


def test_numbers_beyond_what_c_takes_are_option_errors(tiny_model: Model) -> None:
    with Context(tiny_model) as context, pytest.raises(OptionError, match="no 32-bit number"):
        context.decode([2**40])


def test_the_version_is_told() -> None:
    info = gollama.version_info()
    assert info.llama_cpp == "v0.4.0" and info.cpu_variant and info.gollama == gollama.__version__
