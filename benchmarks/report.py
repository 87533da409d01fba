"""The table, the JSON and the plot of a comparison."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.figures import Line

NOT_GIVEN = "not given"
COLOURS = {True: "#2a9d62", False: "#d1495b", None: "#8d99ae"}  # bar met, not met, no bar
ROW, LEFT, WIDTH, RIGHT = 22, 520, 420, 130  # pixels


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def table(lines: Sequence[Line]) -> str:
    rows = ["| model | what | gollama | against | theirs | ratio | bar | met |", "|---|---|---|---|---|---|---|---|"]
    for line in lines:
        theirs = NOT_GIVEN if line.against and line.other is None else number(line.other)
        ratio = "–" if line.ratio is None else f"{line.ratio:.3f}"
        met = {True: "yes", False: "no", None: "–"}[line.met]
        what = f"{line.what} ({line.note})" if line.note else line.what
        cells = (line.model, what, number(line.figure), line.against or "–", theirs, ratio, line.bar or "–", met)
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


def write_json(file: Path, facts: dict[str, Any], lines: Sequence[Line]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**facts, "rows": [line.record() for line in lines]}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def plot(lines: Sequence[Line]) -> str:
    """An SVG of the ratios, the bars as black marks. The same lines give the same bytes."""
    drawn = [line for line in lines if line.ratio is not None]
    most = max([1.2, *(line.ratio or 0 for line in drawn), *(line.bar.limit for line in drawn if line.bar)]) * 1.02
    height = ROW * (len(drawn) + 2)
    size = f'width="{LEFT + WIDTH + RIGHT}" height="{height}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
             f'<rect {size} fill="white"/>',
             f'<text x="{LEFT}" y="15">gollama over the other; the black mark is the bar, green meets it</text>']
    one = LEFT + WIDTH / most
    parts.append(f'<line x1="{one:.1f}" x2="{one:.1f}" y1="{ROW}" y2="{height - ROW}" stroke="#bbb" stroke-dasharray="3 3"/>'
                 f'<text x="{one:.1f}" y="{height - 7}" text-anchor="middle" fill="#777">1</text>')
    for index, line in enumerate(drawn):
        parts.append(_bar(line, ROW * (index + 1), most))
    return "\n".join([*parts, "</svg>", ""])


def _bar(line: Line, top: int, most: float) -> str:
    assert line.ratio is not None
    name = escape(f"{line.model}: {line.what.rsplit(', ', 1)[0]} / {line.against}")
    text = f'{line.ratio:.2f}{f" ({line.bar})" if line.bar else ""}'
    parts = [f'<text x="{LEFT - 8}" y="{top + 15}" text-anchor="end">{name}</text>',
             f'<rect x="{LEFT}" y="{top + 4}" width="{WIDTH * line.ratio / most:.1f}" height="{ROW - 8}" fill="{COLOURS[line.met]}"/>',
             f'<text x="{LEFT + WIDTH + 8}" y="{top + 15}">{escape(text)}</text>']
    if line.bar:
        x = LEFT + WIDTH * line.bar.limit / most
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top + 1}" y2="{top + ROW - 1}" stroke="black" stroke-width="2"/>')
    return "".join(parts)
