"""Sizes and times as people write and read them."""

from __future__ import annotations

import re
import time

import typer

_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_TIMES = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def size(text: str) -> int:
    """Bytes: `20GB`, `1.5GiB`, `0`."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?) ?([KMGT]?i?B?)", text, re.IGNORECASE)
    unit = match[2].upper() if match else ""
    unit += "B" if unit and not unit.endswith("B") else ""
    if match is None or unit not in _SIZES:
        raise typer.BadParameter(f"{text!r} is no size such as 20GB or 500MiB")
    return int(float(match[1]) * _SIZES[unit])


def duration(text: str) -> float:
    """Seconds: `30d`, `12h`, `2w`, `90m`."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)([mhdw])", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no time such as 30d, 12h, 2w or 90m")
    return float(match[1]) * _TIMES[match[2]]


def bytes_text(number: int | None) -> str:
    if number is None:
        return "?"
    return f"{number / 1e9:.1f} GB" if number >= 10**9 else f"{number / 1e6:.0f} MB" if number >= 10**6 else f"{number / 1e3:.0f} kB"


def mib_text(number: int | None) -> str:
    return "?" if number is None else f"{number / 2**20:.0f} MiB"


def ago(moment: float | None) -> str:
    """How long since, in the one unit that fits."""
    if moment is None:
        return "never"
    seconds = max(time.time() - moment, 0)
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        number = int(seconds // length)
        if number:
            return f"{number} {unit}{'s' * (number > 1)} ago"
    return "just now"
