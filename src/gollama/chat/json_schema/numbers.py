"""Whole numbers with bounds, and other numbers, whose bounds no grammar of the converter can hold."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from gollama.chat.json_schema.document import Place, Unsatisfiable
from gollama.chat.json_schema.facts import Places

MOST_INT64 = 2**63 - 2  # the converter takes the very least and the very most 64-bit integer for no bound
MOST_DIGITS = 10**16 - 1  # as many as the converter's own rule for integers has
MOST_LISTED = 1000

REFUSED = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf", "divisibleBy")


def integer_schema(places: Places) -> dict[str, Any]:
    """With both bounds where the converter's rule for one admits numbers beyond it: a minimum over 99, a maximum below 0."""
    step, low, high = _step(places), _low(places), _high(places)
    least = None if low is None else math.floor(low[0]) + 1 if low[1] else math.ceil(low[0])
    most = None if high is None else math.ceil(high[0]) - 1 if high[1] else math.floor(high[0])
    if least is not None and most is not None and least > most:
        raise places[0].error("no whole number is between the bounds", kind=Unsatisfiable)
    if step != 1:
        return _multiples(places, step, least, most)
    if least is None and most is None:
        return {"type": "integer"}
    if most is None and least is not None and -MOST_DIGITS <= least < 100:
        return {"type": "integer", "minimum": least}
    if least is None and most is not None and 0 <= most <= MOST_DIGITS:
        return {"type": "integer", "maximum": most}
    if least is None:
        least = -MOST_DIGITS if most is None or most >= -MOST_DIGITS else -MOST_INT64
    if most is None:
        most = MOST_DIGITS if least <= MOST_DIGITS else MOST_INT64
    least, most = max(least, -MOST_INT64), min(most, MOST_INT64)
    if least > most:
        raise places[0].error("has bounds beyond 64-bit numbers")
    return {"type": "integer", "minimum": least, "maximum": most}


def number_schema(places: Places) -> dict[str, Any]:
    """Any number; with a whole `multipleOf` the whole ones, as a multiple is one."""
    for place in places:
        if place.has("multipleOf") and _multiple(place).denominator == 1:
            return integer_schema(places)
    for place in places:
        for keyword in REFUSED:
            if place.has(keyword):
                raise place.error("is not supported for numbers, only for integers", keyword)
    return {"type": "number"}


def admits_number(value: float, places: Places) -> bool:
    low, high = _low(places), _high(places)
    if low is not None and (value < low[0] or (low[1] and value == low[0])):
        return False
    if high is not None and (value > high[0] or (high[1] and value == high[0])):
        return False
    multiples = [place for place in places if place.has("multipleOf")]
    # validators divide either exactly or in floating point
    return all(Fraction(str(value)) % _multiple(place) == 0 and float(value / place.schema["multipleOf"]).is_integer()
               for place in multiples)


def _low(places: Places) -> tuple[float, bool] | None:
    """The highest of the lower bounds, and whether it is itself excluded."""
    found = [(place.number("minimum"), place.schema.get("exclusiveMinimum") is True) for place in places if place.has("minimum")]
    found += [(place.number("exclusiveMinimum"), True) for place in places if _is_number(place, "exclusiveMinimum")]
    return max(found, default=None)


def _high(places: Places) -> tuple[float, bool] | None:
    found = [(place.number("maximum"), place.schema.get("exclusiveMaximum") is True) for place in places if place.has("maximum")]
    found += [(place.number("exclusiveMaximum"), True) for place in places if _is_number(place, "exclusiveMaximum")]
    return min(found, key=lambda bound: (bound[0], not bound[1]), default=None)


def _is_number(place: Place, keyword: str) -> bool:
    """Draft 4 has booleans here, which say how `minimum` and `maximum` are meant."""
    return place.has(keyword) and not isinstance(place.schema[keyword], bool)


def _multiple(place: Place) -> Fraction:
    value = place.number("multipleOf")
    if value <= 0:
        raise place.error("must be more than 0", "multipleOf")
    return Fraction(str(value))


def _step(places: Places) -> int:
    """What the whole numbers that meet every `multipleOf` are the multiples of."""
    for place in places:
        if place.has("divisibleBy"):
            raise place.error("is not supported", "divisibleBy")
    return math.lcm(*(_multiple(place).numerator for place in places if place.has("multipleOf")))


def _multiples(places: Places, step: int, least: int | None, most: int | None) -> dict[str, Any]:
    place = next(place for place in places if place.has("multipleOf"))
    if least is None or most is None or (most - least) // step >= MOST_LISTED:
        raise place.error(f"is not supported without bounds that leave no more than {MOST_LISTED} numbers", "multipleOf")
    values = [number * step for number in range(-(-least // step), most // step + 1)]
    if not values:
        raise place.error("no number between the bounds is a multiple of it", "multipleOf", kind=Unsatisfiable)
    if max(map(abs, values)) > MOST_INT64:
        raise place.error("is not supported beyond 64-bit numbers", "multipleOf")
    return {"enum": values} if len(values) > 1 else {"const": values[0]}
