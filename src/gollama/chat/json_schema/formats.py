"""The formats of strings: those that a pattern enforces, and those that are refused.

A pattern here may admit less than its format does, never more. All others are annotations, as JSON Schema has it: OpenAPI's `int32`
and `password`, `binary`, names of one's own.
"""

from __future__ import annotations

from gollama.chat.json_schema.document import Place

HEX = "[0-9a-f]"
# no 29 to 31 where a month may lack it, no year that Python's datetime lacks
DATE = "[1-9][0-9]{3}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9]"
TIME = rf"{CLOCK}:[0-5][0-9](\.[0-9]{{3}})?(Z|[+-]{CLOCK})"
OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9][0-9]|[0-9])"
WORD = "[A-Za-z0-9]+"
HOST = rf"{WORD}(-{WORD})*(\.{WORD}(-{WORD})*)*\.[A-Za-z]{{2,10}}"

PATTERNS = {
    "date": DATE,
    "time": TIME,
    "date-time": f"{DATE}T{TIME}",
    "duration": "P([0-9]{1,4}D|([0-9]{1,4}D)?T([0-9]{1,4}H([0-9]{1,4}M([0-9]{1,4}S)?)?|[0-9]{1,4}M([0-9]{1,4}S)?|[0-9]{1,4}S))",
    "ipv4": rf"{OCTET}(\.{OCTET}){{3}}",
    "email": rf"{WORD}([._+-]{WORD})*@{HOST}",
    "uuid": f"{HEX}{{8}}(-{HEX}{{4}}){{3}}-{HEX}{{12}}",
    **{f"uuid{version}": f"{HEX}{{8}}-{HEX}{{4}}-{version}{HEX}{{3}}-[89ab]{HEX}{{3}}-{HEX}{{12}}" for version in range(1, 9)},
}
REFUSED = frozenset((
    "hostname", "idn-hostname", "idn-email", "ipv6", "uri", "uri-reference", "uri-template", "iri", "iri-reference", "json-pointer",
    "relative-json-pointer", "regex",  # JSON Schema's
    "ipvanyaddress", "ipvanyinterface", "ipvanynetwork", "ipv4interface", "ipv4network", "ipv6interface", "ipv6network", "json-string",
    "multi-host-uri", "file-path", "directory-path", "base64url",  # pydantic's
))


def is_enforced_or_refused(place: Place) -> bool:
    """Whether a place's `format` says something about strings, rather than being an annotation."""
    return place.text("format") in PATTERNS or place.text("format") in REFUSED


def format_pattern(place: Place) -> str | None:
    """An anchored pattern for a place's `format`; None for an annotation."""
    name = place.text("format")
    if name in REFUSED:
        raise place.error(f"{name!r} is not supported", "format")
    return f"^{PATTERNS[name]}$" if name in PATTERNS else None
