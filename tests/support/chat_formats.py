"""The table of docs/chat-formats.md, out of what was recorded of llama.cpp's own templates and tests.

    python -m tests.support.chat_formats
"""

from __future__ import annotations

from pathlib import Path

from tests.support import upstream_chat

PAGE = Path(__file__).parents[2] / "docs" / "chat-formats.md"
HEAD = "| template | tools | parallel calls | reasoning | rendered prompts | parsed answers |\n|---|---|---|---|---|---|\n"


def row(template: str) -> str:
    renderings = {name: line["rendering"] for (one, name), line in upstream_chat.renderings().items()
                  if one == template and "rendering" in line}
    required = renderings.get("tools, required", {"grammar": ""})
    tools = "own format" if required["grammar"] else "told by gollama"
    several, one_call = (renderings.get(f"tools, {name}", {}).get("grammar") for name in ("parallel", "one call"))
    parallel = "yes" if several != one_call else "–"
    thinking = "yes" if renderings["plain"]["supports_thinking"] else "–"
    cases = upstream_chat.cases().get(template, [])
    return f"| {template.removesuffix('.jinja')} | {tools} | {parallel} | {thinking} | {len(renderings)} | {len(cases) or '–'} |\n"


def table() -> str:
    return HEAD + "".join(map(row, upstream_chat.templates()))


if __name__ == "__main__":
    before, _, _ = PAGE.read_text(encoding="utf-8").partition(HEAD)
    PAGE.write_text(before + table(), encoding="utf-8")
