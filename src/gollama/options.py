"""The options of loading and of sampling. Both are frozen, checked when made, and equal wherever they are used."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

from gollama._options import FLOAT32_MAX, INT32_MAX, check, described, option
from gollama.errors import OptionError

BACKENDS = ("cpu", "cuda", "hip", "metal", "sycl", "vulkan", "opencl")
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")  # what llama.cpp keeps keys and values in
MOST_SEQUENCES = 256  # LLAMA_MAX_SEQ
MOST_OVERRIDES = 1024
LONGEST_NAME = 128
HISTORY_MAX = 2**20  # llama.cpp allocates this much at once
SEED_MAX = 2**32 - 2  # llama.cpp takes 2**32 - 1 for "random"


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded and how its context is laid out.

    >>> LoadOptions(context_size=8192, threads=4).context_size
    8192
    """

    context_size: int | str | None = option(
        None, "tokens of prompt and answer together, for each generation; auto: as trained, or less where memory is short; "
        "None: as trained, at most 4096", int, least=1, words=("auto",), optional=True)
    batch_size: int = option(2048, "most tokens given to llama_decode at once", int, least=1)
    micro_batch_size: int = option(512, "most tokens computed at once; more needs more memory", int, least=1)
    threads: int | None = option(
        None, "threads for single tokens; None: the cores this process may use", int, least=1, most=512, optional=True)
    threads_batch: int | None = option(None, "threads for prompts; None: as many as `threads`", int, least=1, most=512, optional=True)
    backend: str = option("auto", "what to compute with; auto: the best that is installed and works here", str,
                          choices=("auto", *BACKENDS))
    devices: Sequence[int | str] | None = described(None, "numbers among the backend's devices, or their names; kept as a tuple; None: all")
    prefer_gpu: bool = option(True, "backend auto takes a GPU where there is one", bool)
    gpu_layers: int | str = option("auto", "layers kept on GPUs; auto: as many as fit their memory; all: all, or an error", int,
                                   least=0, words=("auto", "all"))
    gpu_memory: int | Sequence[int] | None = described(
        None, "MiB to take of each device at most, or one number for all; kept as a tuple; None: what is free, but a little")
    split_mode: str = option("layer", "how several GPUs share a model: none (only the main one), layer, row, tensor", str,
                             choices=("none", "layer", "row", "tensor"))
    tensor_split: Sequence[float] = described((), "a share for each device; kept as a tuple; none: by free memory")
    main_gpu: int = option(0, "the GPU, among those used, that computes what is not split", int, least=0)
    tensor_overrides: Mapping[str, str] = described(dict, "the device for tensors whose names a regular expression finds: experts on "
                                                    r'the CPU are {r"\.ffn_.*_exps\.": "CPU"}')
    cache_type_k: str = option("f16", "how the context keeps keys; less precise takes less memory", str, choices=CACHE_TYPES)
    cache_type_v: str = option("f16", "how it keeps values; below f16 it needs flash attention", str, choices=CACHE_TYPES)
    numa: str | None = option(None, "how to use the nodes of a NUMA machine, for the whole process; the first choice stays", str,
                              choices=("distribute", "isolate", "numactl"), optional=True)
    use_mmap: bool = option(True, "map the file into memory instead of reading it", bool)
    use_mlock: bool = option(False, "keep the model from being swapped out", bool)
    check_tensors: bool = option(False, "check every tensor's data while loading", bool)
    flash_attention: str = option("auto", "flash attention", str, choices=("auto", "on", "off"))
    chat_template: Any = None  # Jinja text, a file, or one of llama.cpp's names, in place of the model's own
    max_sequences: int = option(16, "most generations computed at once; memory for each is taken when it is first needed", int,
                                least=1, most=MOST_SEQUENCES)
    queue_size: int = option(1024, "most requests that wait for their turn; one more is a BusyError", int, least=1)
    speculative: str | None = option(
        None, "guess tokens ahead and check them in one step: 'ngram' from the text itself, or a small model's name or path; None: do not",
        str, optional=True)
    speculative_tokens: int = option(7, "most tokens guessed at once", int, least=1, most=64)
    speculative_match: int = option(3, "'ngram' guesses what followed the last time when so many tokens came", int, least=1, most=64)
    adapters: Mapping[str, str | os.PathLike[str]] = described(dict, "LoRA adapters (GGUF files) by the names that requests use")
    control_vectors: Mapping[str, str | os.PathLike[str]] = described(dict, "control vectors (GGUF files) likewise")
    prefix_cache: int = option(256, "MiB of memory for the beginnings of prompts that were computed before; 0: none", int, least=0)

    def __post_init__(self) -> None:
        check(self)
        object.__setattr__(self, "devices", _devices(self.devices))
        object.__setattr__(self, "gpu_memory", _amounts(self.gpu_memory))
        object.__setattr__(self, "tensor_split", _shares(self.tensor_split))
        object.__setattr__(self, "tensor_overrides", _overrides(self.tensor_overrides))
        if self.chat_template is not None and not isinstance(self.chat_template, (str, os.PathLike)):
            raise OptionError(f"chat_template must be Jinja text, a path or a name, not {self.chat_template!r}")
        object.__setattr__(self, "adapters", _files("adapters", self.adapters))
        object.__setattr__(self, "control_vectors", _files("control_vectors", self.control_vectors))

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return _remade(self)

    def __hash__(self) -> int:
        return hash(tuple(tuple(value.items()) if isinstance(value, Mapping) else value
                          for value in (getattr(self, name) for name in self.__dataclass_fields__)))


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are chosen and when to stop. The defaults are llama.cpp's.

    The samplers run in llama.cpp's order: penalties, DRY, top-n-sigma, top-k, typical, top-p, min-p, XTC, temperature.

    >>> SamplingParams(temperature=0, max_tokens=64).top_k
    40
    """

    max_tokens: int | None = option(
        None, "most tokens to generate; None: until the model stops or the context is full", int, least=1, optional=True)
    temperature: float = option(0.8, "0 takes the likeliest token each time; higher is more varied", float, least=0)
    top_k: int = option(40, "keep the k likeliest tokens; 0: all", int, least=0)
    top_p: float = option(0.95, "keep the likeliest tokens that together reach p; 1: all", float, least=0, most=1)
    min_p: float = option(0.05, "drop tokens less likely than p times the likeliest; 0: none", float, least=0, most=1)
    typical_p: float = option(1.0, "locally typical sampling; 1: off", float, least=0, most=1)
    top_n_sigma: float = option(-1.0, "keep tokens within n standard deviations of the best logit; negative: off", float)
    repeat_penalty: float = option(1.0, "divide the logits of tokens seen lately; 1: off", float, least=1e-6)
    repeat_last_n: int = option(64, "how many tokens back the penalties look; 0: off", int, least=0, most=HISTORY_MAX)
    presence_penalty: float = option(0.0, "taken from the logits of tokens seen lately; 0: off", float)
    frequency_penalty: float = option(0.0, "taken from the logits of tokens for each time seen lately; 0: off", float)
    dry_multiplier: float = option(0.0, "DRY, against repeated sequences; 0: off", float, least=0)
    dry_base: float = option(1.75, "DRY's base", float, least=0)
    dry_allowed_length: int = option(2, "DRY: longest repetition without a penalty", int, least=0)
    dry_penalty_last_n: int = option(64, "DRY: how many tokens back it looks; 0: off", int, least=0, most=HISTORY_MAX)
    dry_sequence_breakers: Sequence[str] = ("\n", ":", '"', "*")
    xtc_probability: float = option(0.0, "XTC: how often the likeliest tokens are dropped; 0: off", float, least=0, most=1)
    xtc_threshold: float = option(0.1, "XTC: least probability of a token that may be dropped", float, least=0, most=1)
    mirostat: int = option(0, "Mirostat 1 or 2 in place of the other samplers; 0: off", int, least=0, most=2)
    mirostat_tau: float = option(5.0, "Mirostat's target entropy", float, least=0)
    mirostat_eta: float = option(0.1, "Mirostat's learning rate", float, least=0)
    dynamic_temperature_range: float = option(0.0, "temperature varies by this much with the entropy; 0: off", float, least=0)
    dynamic_temperature_exponent: float = option(1.0, "how entropy maps to the dynamic temperature", float, least=0)
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = option(None, "same seed, same text; None: random each time", int, least=0, most=SEED_MAX, optional=True)
    stop: str | Sequence[str] = ()  # kept as a tuple
    ignore_eos: bool = option(False, "never let the model end by itself", bool)
    grammar: str | None = option(None, "GBNF grammar that the text must follow; its first rule is `root`", str, optional=True)
    grammar_triggers: str | Sequence[str] = ()  # texts from which on the grammar applies; kept as a tuple
    n: int = option(1, "how many answers to generate from one prompt", int, least=1, most=MOST_SEQUENCES)
    logprobs: int | None = option(
        None, "tell each token's log probability, and those of the k likeliest; 0: its own only", int, least=0, optional=True)
    prompt_logprobs: int | None = option(None, "the same for the tokens of the prompt", int, least=0, optional=True)
    cache_prompt: bool = option(True, "reuse what was computed of the prompt's beginning before; False computes all of it, which makes the "
                                "same seed the same text to the last bit", bool)
    overflow: str = option("error", "when the context is full: error (a prompt that does not fit is one, an answer ends), truncate (the "
                           "prompt loses its oldest tokens), shift (the answer pushes them out, too)", str,
                           choices=("error", "truncate", "shift"))
    keep: int = option(0, "how many of the prompt's first tokens overflow spares", int, least=0)
    adapters: Mapping[str, float] | None = described(
        None, "LoRA adapters by the names they were loaded under, each with its scale; {}: none; None: what set_adapters said")
    control_vectors: Mapping[str, float] | None = described(None, "control vectors likewise")

    def __post_init__(self) -> None:
        check(self)
        if self.grammar is not None and self.ignore_eos:
            raise OptionError("grammar and ignore_eos exclude each other: a grammar's text must be able to end")
        if self.grammar is None and self.grammar_triggers:
            raise OptionError("grammar_triggers say where a grammar begins, and there is no grammar")
        object.__setattr__(self, "stop", _texts("stop", self.stop))
        object.__setattr__(self, "grammar_triggers", _texts("grammar_triggers", self.grammar_triggers))
        object.__setattr__(self, "dry_sequence_breakers", _texts("dry_sequence_breakers", self.dry_sequence_breakers))
        object.__setattr__(self, "logit_bias", _biases(self.logit_bias))
        object.__setattr__(self, "adapters", adapter_scales("adapters", self.adapters))
        object.__setattr__(self, "control_vectors", adapter_scales("control_vectors", self.control_vectors))

    @property
    def needs_history(self) -> bool:
        """Whether the tokens of the prompt matter to how the next are chosen."""
        return bool(self.repeat_penalty != 1 or self.presence_penalty or self.frequency_penalty or self.dry_multiplier)

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return _remade(self)

    def __hash__(self) -> int:
        return hash(tuple(tuple(sorted(value.items())) if isinstance(value, Mapping) else value
                          for value in (getattr(self, name) for name in self.__dataclass_fields__)))


def _remade(record: Any) -> tuple[Any, tuple[()]]:
    """How a record is pickled: its read-only mappings cannot be."""
    values = {name: getattr(record, name) for name in record.__dataclass_fields__}
    kind: Callable[..., Any] = type(record)
    return partial(kind, **{name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}), ()


def adapter_name(what: str, name: Any) -> str:
    """OptionError for what cannot be the name of an adapter."""
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= LONGEST_NAME:
        raise OptionError(f"{what}: a name has 1 to {LONGEST_NAME} characters that can be printed, and is not {name!r:.100}")
    return name


def _files(field: str, value: Any) -> Mapping[str, str | os.PathLike[str]]:
    if not isinstance(value, Mapping) or not all(isinstance(path, (str, os.PathLike)) for path in value.values()):
        raise OptionError(f"{field} must map names to files, not be {value!r}")
    return MappingProxyType({adapter_name(field, name): path for name, path in value.items()})


def adapter_scales(field: str, value: Any) -> Mapping[str, float] | None:
    """Scales by name, checked."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise OptionError(f"{field} must map names to scales, not be {value!r}")
    for name, scale in value.items():
        adapter_name(field, name)
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not abs(scale) <= FLOAT32_MAX:
            raise OptionError(f"{field}: the scale of {name!r} must be a finite number, not {scale!r}")
    return MappingProxyType({name: float(scale) for name, scale in value.items()})


def _texts(name: str, value: str | Iterable[str]) -> tuple[str, ...]:
    if not isinstance(value, (str, Iterable)):
        raise OptionError(f"{name} must be a str or a list of str, not {value!r}")
    texts = (value,) if isinstance(value, str) else tuple(value)
    for text in texts:
        if not isinstance(text, str) or not text:
            raise OptionError(f"{name} must hold strings that are not empty, not {text!r}")
    return texts


def _biases(value: Any) -> Mapping[int, float]:
    if value is None:
        value = {}
    if not isinstance(value, Mapping):
        raise OptionError(f"logit_bias must map token ids to numbers, not be {value!r}")
    for token, bias in value.items():
        if isinstance(token, bool) or not isinstance(token, int):
            raise OptionError(f"logit_bias must map token ids to numbers; {token!r} is no token id")
        if not 0 <= token <= INT32_MAX:
            raise OptionError(f"logit_bias names {token}, which is no token id")
        if isinstance(bias, bool) or not isinstance(bias, (int, float)) or bias != bias or bias > FLOAT32_MAX:
            raise OptionError(f"logit_bias for token {token} must be a number or -inf (never), not {bias!r}")
    return MappingProxyType({token: float(max(bias, -FLOAT32_MAX) if isinstance(bias, int) else bias) for token, bias in value.items()})


def _listed(name: str, value: Any, what: str) -> tuple[Any, ...]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise OptionError(f"{name} must be a list of {what}, not {value!r}")
    return tuple(value)


def _devices(value: Any) -> tuple[int | str, ...] | None:
    if value is None:
        return None
    devices = _listed("devices", value, "numbers and names of devices")
    for device in devices:
        if isinstance(device, bool) or not isinstance(device, (int, str)) or device == "" or (isinstance(device, int) and device < 0):
            raise OptionError(f"devices must hold numbers and names of devices, not {device!r}")
    if not devices:
        raise OptionError("devices is empty: name some, or ask for backend='cpu'")
    if len(set(devices)) < len(devices):
        raise OptionError(f"devices names one twice: {devices}")
    return devices


def _amounts(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    amounts = (value,) if isinstance(value, int) else _listed("gpu_memory", value, "MiB, one for each device")
    for amount in amounts:
        if isinstance(amount, bool) or not isinstance(amount, int) or not 0 < amount <= INT32_MAX:
            raise OptionError(f"gpu_memory must be MiB, whole numbers of at least 1, not {amount!r}")
    return amounts or None


def _shares(value: Any) -> tuple[float, ...]:
    shares = _listed("tensor_split", value, "shares, one for each device")
    for share in shares:
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= FLOAT32_MAX:
            raise OptionError(f"tensor_split must hold numbers of at least 0, not {share!r}")
    if shares and not sum(shares) > 0:
        raise OptionError("tensor_split gives no device a share")
    return tuple(map(float, shares))


def _overrides(value: Any) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise OptionError(f"tensor_overrides must map regular expressions to names of devices, not be {value!r}")
    if len(value) > MOST_OVERRIDES:
        raise OptionError(f"tensor_overrides may hold {MOST_OVERRIDES} patterns, not {len(value)}")
    for pattern, device in value.items():
        for text in (pattern, device):
            if not isinstance(text, str) or not text or "\0" in text:
                raise OptionError(f"tensor_overrides must map regular expressions to names of devices; {text!r} is neither")
        try:
            re.compile(pattern)
        except re.error as error:
            raise OptionError(f"tensor_overrides: {pattern!r} is no regular expression: {error}") from None
    return MappingProxyType(dict(value))
