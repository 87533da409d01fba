"""The option records: ranges, kinds, unknown names."""

from __future__ import annotations

import dataclasses
import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gollama import GollamaError, LoadOptions, OptionError, SamplingParams, UnknownOptionError
from gollama._options import record


@pytest.mark.parametrize(("name", "value"), [
    ("temperature", math.nan), ("temperature", math.inf), ("temperature", -0.1), ("temperature", "hot"), ("temperature", True),
    ("temperature", 1e300), ("temperature", 10**400), ("stop", 5), ("logit_bias", {2**40: 1.0}), ("repeat_last_n", 2**30),
    ("max_tokens", 0), ("max_tokens", -1), ("max_tokens", 1.5), ("top_k", -1), ("top_k", 2**31),
    ("top_p", 1.1), ("min_p", -0.5), ("repeat_penalty", 0), ("mirostat", 3), ("seed", -1), ("seed", 2**32 - 1), ("seed", "x"),
    ("stop", ""), ("stop", [""]), ("stop", [1]), ("logit_bias", [1]), ("logit_bias", {"a": 1.0}), ("logit_bias", {1: math.nan}),
    ("logit_bias", {1: math.inf}), ("ignore_eos", 1), ("grammar", b"root"),
])
def test_a_wrong_sampling_value_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=name):
        SamplingParams(**{name: value})


@pytest.mark.parametrize(("name", "value"), [
    ("context_size", 0), ("context_size", -5), ("batch_size", 0), ("threads", 0), ("threads", 513), ("gpu_layers", -1),
    ("use_mmap", "yes"), ("flash_attention", "maybe"),
])
def test_a_wrong_load_value_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=name):
        LoadOptions(**{name: value})


def test_a_grammar_must_be_able_to_end() -> None:
    with pytest.raises(OptionError, match="exclude each other"):
        SamplingParams(grammar='root ::= "a"', ignore_eos=True)


def test_option_errors_are_value_errors_of_gollama() -> None:
    with pytest.raises(ValueError) as caught:
        SamplingParams(temperature=-1)
    assert isinstance(caught.value, GollamaError)


def test_an_unknown_option_names_the_likely_one() -> None:
    with pytest.raises(UnknownOptionError, match="did you mean 'temperature'"):
        record(SamplingParams, None, {"temperatur": 1}, "params")


def test_options_passed_whole_may_be_changed_one_by_one() -> None:
    whole = SamplingParams(temperature=0.5, top_k=3)
    assert record(SamplingParams, whole, {"top_k": 7}, "params") == SamplingParams(temperature=0.5, top_k=7)


def test_a_record_of_another_kind_is_refused() -> None:
    with pytest.raises(OptionError, match="params must be a SamplingParams"):
        record(SamplingParams, LoadOptions(), {}, "params")


def test_seed_zero_is_a_seed() -> None:
    assert SamplingParams(seed=0).seed == 0


def test_one_stop_string_is_a_list_of_one() -> None:
    assert SamplingParams(stop="END").stop == ("END",)


def test_records_cannot_be_changed() -> None:
    params = SamplingParams(logit_bias={1: 2.0})
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.top_k = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        params.logit_bias[1] = 0.0  # type: ignore[index]


def test_numbers_of_numpy_are_numbers() -> None:
    import numpy

    params = SamplingParams(top_k=numpy.int64(5), temperature=numpy.float32(0.5), max_tokens=numpy.int32(4))
    assert (params.top_k, params.temperature, params.max_tokens) == (5, 0.5, 4)
    assert type(params.top_k) is int


@given(st.integers(0, 2**31 - 1), st.floats(0, 1), st.floats(0, 100), st.one_of(st.none(), st.integers(0, 2**32 - 2)))
def test_equal_options_are_equal_records(top_k: int, top_p: float, temperature: float, seed: int | None) -> None:
    first, second = (SamplingParams(top_k=top_k, top_p=top_p, temperature=temperature, seed=seed) for _ in range(2))
    assert first == second and hash(first) == hash(second)


def test_every_option_has_a_help_text() -> None:
    own = {"stop", "logit_bias", "dry_sequence_breakers", "grammar_triggers", "chat_template"}
    for kind in (LoadOptions, SamplingParams):
        assert not [field.name for field in dataclasses.fields(kind) if field.name not in own and not field.metadata.get("help")]


def test_sampling_params_may_be_pickled() -> None:
    params = SamplingParams(temperature=0.5, logit_bias={3: -1.0}, stop=["a"])
    assert pickle.loads(pickle.dumps(params)) == params


def test_load_options_can_be_pickled() -> None:
    options = LoadOptions(context_size=512, tensor_overrides={r"\.ffn": "CPU"}, devices=[0])
    assert pickle.loads(pickle.dumps(options)) == options


@pytest.mark.parametrize("template", [5, True, ["{{ 1 }}"], b"x"])
def test_a_template_of_another_kind_is_told(template: object) -> None:
    with pytest.raises(OptionError, match="chat_template must be"):
        LoadOptions(chat_template=template)
