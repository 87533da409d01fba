"""Which file of many is the model: by the quantization in its name, by the memory at hand, with all its parts. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from gollama.errors import ModelNotFoundError

# in order of preference; llama.cpp's -hf takes Q4_K_M too if nothing is said
PREFERRED = ("Q4_K_M", "Q4_K_XL", "Q4_K_L", "Q4_K_S", "Q4_K", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_1", "MXFP4",
             "Q5_K_M", "Q5_K_S", "Q5_0", "Q5_1", "Q6_K", "Q8_0",
             "Q3_K_L", "Q3_K_M", "IQ3_M", "Q3_K_S", "IQ3_XS", "IQ3_XXS", "Q2_K", "IQ2_M", "IQ2_XXS", "BF16", "F16", "F32")
SHARE = 0.9  # of the memory at hand that weights may take; the context needs the rest

_SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<end>\.gguf)", re.IGNORECASE)
_QUANTIZATION = re.compile(r"(?:I?Q\d+(?:_[A-Z0-9]+)*|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4|BF16|FP?16|FP?32)(?=$|[.\-_])", re.IGNORECASE)
MOST_PARTS = 1000


def quantization(name: str) -> str | None:
    """The quantization that a file's name tells, in capitals: the last such word of it, or of its folder."""
    stem = re.sub(r"\.gguf$", "", _whole(name).rpartition("/")[2], flags=re.IGNORECASE)
    found = _last(stem) or _last(name.rpartition("/")[0].rpartition("/")[2])
    return found.upper().replace("FP", "F") if found and found[0] in "Ff" else found.upper() if found else None


def _last(text: str) -> str | None:
    found = [match for match in _QUANTIZATION.finditer(text) if match.start() == 0 or text[match.start() - 1] in ".-_"]
    return found[-1][0] if found else None


def _whole(name: str) -> str:
    """The name without the number of a part."""
    found = _SPLIT.fullmatch(name)
    return found["stem"] + found["end"] if found else name


def parts(name: str) -> list[str] | None:
    """The names of all parts, in order, for the name of one part of a split file; None for one that is no part.

    ModelNotFoundError for numbers that cannot be.
    """
    found = _SPLIT.fullmatch(name)
    if not found:
        return None
    number, count = int(found["number"]), int(found["count"])
    if not 1 <= number <= count <= MOST_PARTS:
        raise ModelNotFoundError(f"{name!r} is part {number} of {count}, which cannot be ({MOST_PARTS} parts are the most)")
    return [f"{found['stem']}-{number:05d}-of-{found['count']}{found['end']}" for number in range(1, count + 1)]


def models(names: Iterable[str]) -> dict[str, list[str]]:
    """The models among a source's files: the name of each, without a part's number, and its files in order.

    Split ones that lack a part are left out, and so are projectors of images (mmproj), which are no models.
    """
    there = [name for name in names if name.lower().endswith(".gguf") and "mmproj" not in name.rpartition("/")[2].lower()]
    known = set(there)
    found: dict[str, list[str]] = {}
    for name in sorted(there):
        try:
            files = parts(name) or [name]
        except ModelNotFoundError:
            continue
        if files[0] == name and known.issuperset(files):
            found[_whole(name)] = files
    return found


def choose(sizes: Mapping[str, int | None], memory: int | None = None) -> str:
    """One of several models by the bytes of each: the most preferred quantization that fits into `memory`, or else the smallest.

    Names without a quantization come last. Without `memory`, or where sizes are unknown, preference alone decides. ModelNotFoundError
    if there are none.
    """
    if not sizes:
        raise ModelNotFoundError("there is no GGUF file")
    room = None if memory is None else int(memory * SHARE)
    fitting = [name for name, size in sizes.items() if room is None or size is None or size <= room]
    if fitting:
        return min(fitting, key=lambda name: (_rank(name), sizes[name] or 0, name))
    return min(sizes, key=lambda name: (sizes[name] or 0, name))


def _rank(name: str) -> int:
    known = quantization(name)
    return PREFERRED.index(known) if known in PREFERRED else len(PREFERRED) + (known is None)


def named(names: Iterable[str], wanted: str) -> list[str]:
    """The models whose quantization is the wanted one, in any case; else those whose name has it as a word (`UD-Q4_K_XL`)."""
    there = sorted(names)
    exact = [name for name in there if quantization(name) == wanted.upper()]
    if exact:
        # a word before it makes it another one: Q4_K_M is not UD-Q4_K_M where both are
        return sorted(exact, key=lambda name: ("UD-" in name.upper(), len(name), name))
    word = re.compile(rf"(?:^|[.\-/]){re.escape(wanted)}(?:$|[.\-/])", re.IGNORECASE)
    return [name for name in there if word.search(name)]
