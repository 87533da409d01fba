"""Who asks."""

from __future__ import annotations

import contextvars
from dataclasses import dataclass

from gollama.errors import OptionError

INFERENCE, ADMIN, METRICS = "inference", "admin", "metrics"
SCOPES = (INFERENCE, ADMIN, METRICS)


@dataclass(frozen=True)
class Limits:
    """What one key may use; None: as much as it likes. A token of a prompt counts as one of an answer, cached or not."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None  # days of UTC

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not (isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**53):
                raise OptionError(f"{name} must be a whole number of at least 1, not {value!r}")

    def otherwise(self, others: Limits) -> Limits:
        """These, and where there is none the others'."""
        return Limits(*(own if own is not None else other for own, other in zip(vars(self).values(), vars(others).values())))


@dataclass(frozen=True)
class Principal:
    """A key, or an identity that somebody else vouches for. `models` are those that it may use; None: all."""

    id: str
    name: str
    scopes: frozenset[str]
    models: frozenset[str] | None = None
    limits: Limits = Limits()

    def may_use(self, model: str) -> bool:
        return self.models is None or model in self.models


# whose request the running task answers; None: nobody is asked
current: contextvars.ContextVar[Principal | None] = contextvars.ContextVar("gollama_principal", default=None)


def permitted(names: dict[str, str]) -> dict[str, str]:
    """Of the models by their names, those that whoever asks now may use."""
    principal = current.get()
    if principal is None or principal.models is None:
        return names
    return {name: source for name, source in names.items() if name in principal.models}


def checked_scopes(scopes: object) -> frozenset[str]:
    """OptionError for one that does not exist, or none."""
    found = frozenset(scopes) if isinstance(scopes, (list, tuple, set, frozenset)) else frozenset()
    if not found or not found <= set(SCOPES):
        raise OptionError(f"scopes must be some of {', '.join(SCOPES)}, not {scopes!r}")
    return found
