"""What is known of a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from starlette.types import Scope

from gollama.results import Timings, Usage

RECORD = "gollama.record"  # of the scope
CLIENT_GONE = 499  # nginx's word for it, in the log only


@dataclass(slots=True)
class RequestRecord:
    """What is known of a request so far. Handlers add to it; no text of a prompt or an answer belongs here."""

    id: str
    method: str
    path: str
    client: str
    started: float  # time.perf_counter()
    status: int = 0
    route: str = "other"
    model: str | None = None
    key: str | None = None  # the id of the API key that was used
    stream: bool = False
    load_seconds: float = 0.0  # until its model was there
    usages: list[Usage] = field(default_factory=list)
    timings: list[Timings] = field(default_factory=list)
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)  # to be added to the response

    def note(self, usage: Usage | None, timings: Timings | None) -> None:
        """An answer has ended."""
        if usage is not None:
            self.usages.append(usage)
        if timings is not None:
            self.timings.append(timings)

    def as_dict(self, seconds: float) -> dict[str, Any]:
        known: dict[str, Any] = {
            "id": self.id, "client": self.client, "method": self.method, "path": self.path, "status": self.status,
            "seconds": round(seconds, 6), "model": self.model, "key": self.key, "stream": self.stream or None}
        if self.usages:
            known |= {"prompt_tokens": sum(one.prompt_tokens for one in self.usages),
                      "completion_tokens": sum(one.completion_tokens for one in self.usages),
                      "cached_tokens": sum(one.cached_tokens for one in self.usages)}
        if self.timings:
            known |= {"queue_seconds": round(max(one.queue_seconds for one in self.timings), 6),
                      "time_to_first_token": round(max(one.time_to_first_token for one in self.timings), 6)}
        return {name: value for name, value in known.items() if value is not None}


def record_of(scope: Scope) -> RequestRecord:
    """The record of the request that is being answered."""
    found: RequestRecord = scope[RECORD]
    return found
