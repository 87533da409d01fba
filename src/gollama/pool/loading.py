"""What a pool does with llama.cpp: find a model's file, measure what it needs, load it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from gollama import models
from gollama.backends import Estimate
from gollama.backends.estimating import HOST
from gollama.llm import LLM
from gollama.model import existing_file
from gollama.options import LoadOptions
from gollama.pool.records import Amounts, Need

MIB = 2**20

Progress = Callable[[float], bool]  # gets the share that is done; False: stop
Limits = Callable[[Amounts], Mapping[str, int]]  # of the devices with so many bytes free


class Loader(Protocol):
    """What the pool does, slow and with errors of its own. The tests have one that loads nothing."""

    def fetch(self, name: str, on_progress: Progress) -> tuple[Path, Any]:
        """The model's file, and something that is the same as long as the file is."""

    def measure(self, path: Path, options: LoadOptions, limits: Limits, alone: bool) -> Need:
        """What it needs with as many of its sequences as the limits allow; `alone`: and as many as there is memory for now."""

    def load(self, path: Path, options: LoadOptions, on_progress: Progress) -> tuple[Any, Amounts, Amounts]:
        """The model, what it takes now, and with all its sequences. `on_progress` returning False stops it."""

    def unload(self, llm: Any) -> None: ...


class LlmLoader:
    """LLMs."""

    def fetch(self, name: str, on_progress: Progress) -> tuple[Path, Any]:
        path = existing_file(models.resolve(name, lambda done, size: on_progress(done / size if size else 0.0)))
        found = path.stat()
        return path, (path, found.st_size, found.st_mtime_ns)

    def measure(self, path: Path, options: LoadOptions, limits: Limits, alone: bool) -> Need:
        draft = options.speculative
        draft_path = None if draft is None or draft == "ngram" else models.resolve(draft)

        def need(sequences: int) -> Need:
            estimate = LLM.estimate(path, sequences=sequences, options=options)
            others = [] if draft_path is None else [LLM.estimate(draft_path, sequences=sequences, options=options)]
            return _need([estimate, *others], options)

        def allows(found: Need) -> bool:
            known = limits(found.free)
            return all(amount <= known[device] for device, amount in found.amounts.items()) and not (alone and found.problem)

        whole = need(options.max_sequences)
        if allows(whole) or options.max_sequences == 1:
            return whole
        return _most(need, allows, need(1), options.max_sequences - 1)

    def load(self, path: Path, options: LoadOptions, on_progress: Progress) -> tuple[LLM, Amounts, Amounts]:
        llm = LLM(path, options=options, on_progress=on_progress)
        try:
            # one that does not continue text makes its contexts as it needs them
            rows = llm.memory() if llm.model.is_generative else ()
        except BaseException:
            llm.close()
            raise
        most = Counter({HOST: options.prefix_cache * MIB})
        # with a context for one sequence it begins
        most.update({row.device: row.needed + (options.max_sequences - 1) * row.context for row in rows})
        return llm, {row.device: row.needed for row in rows}, most

    def unload(self, llm: LLM) -> None:
        llm.close()


def _need(estimates: list[Estimate], options: LoadOptions) -> Need:
    amounts: Counter[str] = Counter({HOST: options.prefix_cache * MIB})
    for estimate in estimates:
        amounts.update({row.device: row.needed for row in estimate.devices})
    free = {row.device: row.memory_free for estimate in estimates for row in estimate.devices}
    problem = next((estimate.problem for estimate in estimates if estimate.problem), None)
    return Need(dict(amounts), estimates[0].sequences, free, problem)


def _most(need: Callable[[int], Need], allows: Callable[[Need], bool], best: Need, most: int) -> Need:
    """The need with the most sequences that is allowed, or with one. Each takes a measurement, which halves what is left to try."""
    least = 2
    while least <= most and allows(best):
        middle = (least + most + 1) // 2
        found = need(middle)
        if allows(found):
            best, least = found, middle + 1
        else:
            most = middle - 1
    return best


def with_sequences(options: LoadOptions, need: Need) -> LoadOptions:
    return replace(options, max_sequences=need.sequences)
