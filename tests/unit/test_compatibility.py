"""Whether a model fits and how fast it will be: the arithmetic, on figures that are known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gollama.backends import DeviceMemory, Estimate
from gollama.compatibility import quantizations
from gollama.compatibility import speed as speeds
from gollama.gguf import GGUFFile, RangeBytes, read
from tests.support import gguf_bytes as raw

GB = 10**9


def model(*tensors: tuple[str, int], **numbers: int) -> GGUFFile:
    """A header with tensors of so many numbers."""
    values = [raw.string("general.architecture", "x"), *(raw.uint32(f"x.{name}", number) for name, number in numbers.items())]
    infos, offset = [], 0
    for name, count in tensors:
        infos.append(raw.tensor(name, [count], offset=offset))
        offset += 4 * count
    content = raw.whole(values, infos, data=offset)
    return read(RangeBytes(lambda offset, length: content[offset : offset + length], len(content), "x"))


def estimated(*rows: DeviceMemory, sequences: int = 1) -> Estimate:
    return Estimate(rows, 0, 4096, sequences, None)


def row(device: str, weights: int, context: int = 0, compute: int = 0, free: int = 100 * GB) -> DeviceMemory:
    return DeviceMemory(device, weights, context, compute, free, free)


def test_of_a_mixture_the_experts_used_are_read() -> None:
    mixture = model(("token_embd.weight", 800), ("output.weight", 800), ("blk.0.ffn_up_exps.weight", 8000), ("blk.0.attn_q.weight", 400),
                    expert_count=8, expert_used_count=2)
    assert speeds.active_share([mixture]) == pytest.approx((800 + 2000 + 400) / 10_000)


def test_embeddings_that_are_the_output_are_read() -> None:
    assert speeds.active_share([model(("token_embd.weight", 800), ("blk.0.attn_q.weight", 800))]) == 1.0
    assert speeds.active_share([model(("token_embd.weight", 800), ("output.weight", 800))]) == 0.5


def test_the_time_is_the_sum_over_devices() -> None:
    found = estimated(row("CUDA0", 8 * GB, 2 * GB), row("host", 2 * GB))
    reached = speeds.speed(found, [model(("a", 8))], {"CUDA0": 900 * GB, "host": 20 * GB})
    assert reached.tokens_per_second == pytest.approx(speeds.EFFICIENCY / (9 / 900 + 2 / 20))
    assert reached.bytes_per_token == 11 * GB and reached.kind == "slow"


def test_sequences_share_the_weights_and_not_the_context() -> None:
    one, four = (speeds.speed(estimated(row("host", GB, count * GB), sequences=count), [model(("a", 8))], {"host": 20.0 * GB})
                 for count in (1, 4))
    assert one.tokens_per_second == four.tokens_per_second


def test_a_bandwidth_that_is_not_known_makes_the_speed_unknown() -> None:
    reached = speeds.speed(estimated(row("Vulkan0", GB), row("host", GB)), [model(("a", 8))], {"Vulkan0": None, "host": 20.0 * GB})
    assert (reached.kind, reached.tokens_per_second) == ("unknown", None)


@pytest.mark.parametrize(("rate", "kind"), [(100.0, "fluent"), (5.3, "fluent"), (5.2, "slow"), (1.0, "slow"), (0.99, "very slow"),
                                            (None, "unknown")])
def test_classes_of_speed(rate: float | None, kind: str) -> None:
    assert speeds.kind_of(rate) == kind


def test_the_bandwidth_of_this_machine_is_a_possible_one() -> None:
    assert 10**8 < speeds.host_bandwidth() < 10**13


SIZES: dict[str, int | None] = {f"m-{name}.gguf": size * GB for name, size in
                                (("Q2_K", 3), ("Q4_K_M", 5), ("Q5_K_M", 6), ("Q8_0", 9), ("F16", 16))}


def judged(free: int, rate: float | None, disk: int = 1000 * GB) -> tuple[quantizations.Quantization, ...]:
    return quantizations.judge(SIZES, 5 * GB, estimated(row("host", 5 * GB, GB, GB, free)), rate, disk)


def test_each_quantization_is_judged_by_its_size() -> None:
    found = judged(8 * GB, 10.0)
    assert [(each.quantization, each.fits) for each in found] == [("Q2_K", True), ("Q4_K_M", True), ("Q5_K_M", True), ("Q8_0", False),
                                                                  ("F16", False)]
    assert found[0].tokens_per_second == pytest.approx(10 * 5 / 3)
    assert [each.fits for each in judged(100 * GB, 10.0, disk=6 * GB)] == [True, True, True, False, False]


@pytest.mark.parametrize(("free", "rate", "recommended"), [
    (100 * GB, 10.0, "m-Q4_K_M.gguf"),  # what is preferred
    (6 * GB, 10.0, "m-Q2_K.gguf"),  # what fits
    (100 * GB, 4.0, "m-Q2_K.gguf"),  # what is fluent
    (100 * GB, 0.1, "m-Q2_K.gguf"),  # nothing is, so what is quickest
    (100 * GB, None, "m-Q4_K_M.gguf"),
    (GB, 10.0, None),
])
def test_what_is_recommended(free: int, rate: float | None, recommended: str | None) -> None:
    assert quantizations.recommend(judged(free, rate)) == recommended


@given(st.dictionaries(st.sampled_from(["a-Q2_K", "a-Q4_K_M", "a-Q8_0", "a"]), st.one_of(st.none(), st.integers(1, 20 * GB))),
       st.integers(0, 20 * GB), st.one_of(st.none(), st.floats(0.01, 1000)))
def test_what_is_recommended_fits(sizes: dict[str, int | None], free: int, rate: float | None) -> None:
    known = quantizations.judge(sizes, 5 * GB, estimated(row("host", 5 * GB, GB, GB, free)), rate, 1000 * GB)
    name = quantizations.recommend(known)
    assert (name is None) == (not any(each.fits for each in known)) and all(each.fits for each in known if each.name == name)
