"""gollama's chats as a contender: one after another, with a schema or without."""

from __future__ import annotations

from typing import Any

import gollama


class Contender:
    def __init__(self, path: str, **options: Any) -> None:
        self._llm = gollama.LLM(path, max_sequences=1, **options)
        self.about = f"gollama {gollama.__version__}"

    def run(self, prompts: list[str], count: int, schema: dict[str, Any] | None = None) -> dict[str, Any]:
        """At most `count` tokens each; without a schema so many."""
        requests = []
        for prompt in prompts:
            message = {"role": "user", "content": prompt}
            reply = self._llm.chat([message], schema=schema, max_tokens=count, temperature=0, ignore_eos=schema is None)
            first = reply.timings.time_to_first_token
            requests.append({"first": first, "end": first + reply.timings.decode_seconds, "tokens": reply.usage.completion_tokens})
        return {"requests": requests}
