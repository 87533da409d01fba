"""Defaults read through the door equal those that the headers' own initialisers give a C++ program."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gollama import SamplingParams, _native
from gollama.lowlevel import ffi, lib

PROGRAM = r"""
#include "sampling.h"
#include <cstdio>
int main() {
    common_params_sampling s;
    printf("{\"seed\": %u, \"top_k\": %d, \"top_p\": %.9g, \"min_p\": %.9g, \"typical_p\": %.9g, \"temperature\": %.9g,",
           s.seed, s.top_k, s.top_p, s.min_p, s.typ_p, s.temp);
    printf("\"dynamic_temperature_range\": %.9g, \"dynamic_temperature_exponent\": %.9g, \"top_n_sigma\": %.9g,",
           s.dynatemp_range, s.dynatemp_exponent, s.top_n_sigma);
    printf("\"xtc_probability\": %.9g, \"xtc_threshold\": %.9g, \"repeat_last_n\": %d, \"repeat_penalty\": %.9g,",
           s.xtc_probability, s.xtc_threshold, s.penalty_last_n, s.penalty_repeat);
    printf("\"frequency_penalty\": %.9g, \"presence_penalty\": %.9g, \"dry_multiplier\": %.9g, \"dry_base\": %.9g,",
           s.penalty_freq, s.penalty_present, s.dry_multiplier, s.dry_base);
    printf("\"dry_allowed_length\": %d, \"dry_penalty_last_n\": %d, \"mirostat\": %d, \"mirostat_tau\": %.9g, \"mirostat_eta\": %.9g,",
           s.dry_allowed_length, s.dry_penalty_last_n, s.mirostat, s.mirostat_tau, s.mirostat_eta);
    printf("\"ignore_eos\": %s, \"breakers\": %zu, \"sizes\": [%zu, %zu, %zu, %zu]}", s.ignore_eos ? "true" : "false",
           s.dry_sequence_breakers.size(), sizeof(llama_model_params), sizeof(llama_context_params),
           sizeof(llama_model_quantize_params), sizeof(llama_batch));
    FILE * raw = fopen("raw", "wb");
    llama_model_params m = llama_model_default_params();
    llama_context_params c = llama_context_default_params();
    fwrite(&m, sizeof(m), 1, raw);
    fwrite(&c, sizeof(c), 1, raw);
}
"""


@pytest.fixture(scope="module")
def compiled(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], bytes]:
    import gollama

    folder = tmp_path_factory.mktemp("defaults")
    (folder / "defaults.cpp").write_text(PROGRAM)
    lib_folder = Path(gollama.__file__).parent / "lib"
    includes = [f"-I{source_tree / part}" for part in ("include", "ggml/include", "common", "vendor")]
    libraries = [str(lib_folder / name) for name in reversed(_native.build()["load_order"])]
    subprocess.run(["c++", "-std=c++17", *includes, "defaults.cpp", *libraries, f"-Wl,-rpath,{lib_folder}", "-o", "defaults"],
                   cwd=folder, check=True)
    output = subprocess.run(["./defaults"], cwd=folder, check=True, capture_output=True, text=True).stdout
    return json.loads(output), (folder / "raw").read_bytes()


def test_sampling_defaults(compiled: tuple[dict[str, Any], bytes]) -> None:
    theirs = compiled[0]
    ours = _native.sampling_defaults()
    breakers = ours.pop("dry_sequence_breakers")
    assert len(breakers) == theirs["breakers"]
    assert {name: pytest.approx(theirs[name], rel=1e-6) for name in ours} == ours


def test_the_python_records_state_llama_cpps_defaults() -> None:
    theirs = _native.sampling_defaults()
    ours = SamplingParams()
    assert theirs.pop("seed") == lib.LLAMA_DEFAULT_SEED and ours.seed is None
    assert {name: getattr(ours, name) for name in theirs} == {
        name: value if isinstance(value, tuple) else pytest.approx(value, rel=1e-6) for name, value in theirs.items()}


def test_struct_sizes(compiled: tuple[dict[str, Any], bytes]) -> None:
    names = ("struct llama_model_params", "struct llama_context_params", "llama_model_quantize_params", "llama_batch")
    assert [ffi.sizeof(name) for name in names] == compiled[0]["sizes"]


def fields(struct: Any) -> dict[str, Any]:
    return {name: getattr(struct, name) for name, field in ffi.typeof(struct).fields if field.type.kind in ("primitive", "enum")}


def test_model_and_context_defaults(compiled: tuple[dict[str, Any], bytes]) -> None:
    raw = compiled[1]
    model, context = ffi.new("struct llama_model_params *"), ffi.new("struct llama_context_params *")
    ffi.memmove(model, raw, ffi.sizeof(model[0]))
    ffi.memmove(context, raw[ffi.sizeof(model[0]) :], ffi.sizeof(context[0]))
    assert fields(lib.llama_model_default_params()) == fields(model[0])
    assert fields(lib.llama_context_default_params()) == fields(context[0])
    assert len(fields(context[0])) > 25
