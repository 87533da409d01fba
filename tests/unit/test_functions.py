"""Python functions as tools."""

from __future__ import annotations

import asyncio
import functools
from typing import Annotated, Any, Literal

import pydantic
import pytest

from gollama import SchemaError
from gollama.chat.functions import Function


class Place(pydantic.BaseModel):
    city: str
    country: str = "IT"


def weather(place: Place, days: int = 3, *, unit: Literal["c", "f"] = "c",
            note: Annotated[str, pydantic.Field(description="its own")] = "") -> str:
    """Tell the weather.

    For some days from now on.

    Args:
        place: Where.
        days: How many days.
        unit: Celsius or Fahrenheit.
        note: not this one
    """
    return f"{place.city} {place.country} {days} {unit} {note}"


def numpy_style(count: int) -> int:
    """Count.

    Parameters
    ----------
    count : int
        How often.
    """
    return count


def sphinx_style(count: int) -> int:
    """Count.

    :param count: How often.
    """
    return count


def bare(anything, more=None):  # type: ignore[no-untyped-def]
    return anything, more


def positional(first: int, second: str = "b", /, third: bool = False) -> tuple[int, str, bool]:
    return first, second, third


async def later(value: int) -> int:
    """Come later."""
    return value + 1


class Robot:
    speed = 2

    def move(self, steps: int) -> int:
        """Move on."""
        return steps * self.speed

    def __call__(self, word: str) -> str:
        """Say it."""
        return word

    @staticmethod
    def beep(times: int) -> str:
        return "beep" * times


def test_name_description_and_parameters_come_from_the_function() -> None:
    tool = Function.of(weather)
    assert (tool.name, tool.description) == ("weather", "Tell the weather.\nFor some days from now on.")
    properties = tool.parameters["properties"]
    assert {name: rules["description"] for name, rules in properties.items()} == {
        "place": "Where.", "days": "How many days.", "unit": "Celsius or Fahrenheit.", "note": "its own"}
    assert tool.parameters["required"] == ["place"]
    assert properties["unit"]["enum"] == ["c", "f"] and properties["days"]["type"] == "integer"
    assert tool.schema.grammar_schema["additionalProperties"] is False


@pytest.mark.parametrize("function", [numpy_style, sphinx_style])
def test_other_styles_of_docstrings_are_read(function: Any) -> None:
    tool = Function.of(function)
    assert tool.description == "Count." and tool.parameters["properties"]["count"]["description"] == "How often."


def test_a_call_converts_its_arguments_and_fills_in_defaults() -> None:
    assert Function.of(weather).call({"place": {"city": "Rome"}, "unit": "f"}) == "Rome IT 3 f "


@pytest.mark.parametrize(("given", "message"), [
    ({}, "the arguments of weather are wrong: place: "),
    ({"place": {"city": 1}}, "the arguments of weather are wrong: place.city: Input should be a valid string"),
    ({"place": {"city": "x"}, "unit": "k"}, "unit: Input should be 'c' or 'f'"),
    ({"place": {"city": "x"}, "day": 1}, "day: Unexpected"),
    ({"place": {"city": "x"}, "note": {1}}, "the arguments of weather: is not JSON"),
    ([1], "the arguments of weather must be a dict, not list"),
])
def test_a_wrong_argument_is_named(given: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        Function.of(weather).call(given)


def test_what_the_function_raises_comes_through() -> None:
    def divide(by: int) -> float:
        return 1 / by

    with pytest.raises(ZeroDivisionError):
        Function.of(divide).call({"by": 0})


def test_a_parameter_without_a_hint_takes_anything() -> None:
    tool = Function.of(bare)
    assert tool.call({"anything": [1, {"a": None}]}) == ([1, {"a": None}], None)
    assert tool.description == ""


def test_positional_parameters_have_names_all_the_same() -> None:
    assert Function.of(positional).call({"first": 1, "third": True}) == (1, "b", True)


def test_an_async_function_gives_a_coroutine() -> None:
    tool = Function.of(later)
    assert tool.is_async and asyncio.run(tool.call({"value": 1})) == 2
    assert not Function.of(weather).is_async


def test_methods_partials_and_callable_objects() -> None:
    robot = Robot()
    assert Function.of(robot.move).call({"steps": 3}) == 6
    assert "self" not in Function.of(robot.move).parameters["properties"]
    assert Function.of(Robot.beep).call({"times": 2}) == "beepbeep"
    assert Function.of(robot, name="say").call({"word": "hi"}) == "hi"
    assert Function.of(functools.partial(weather, unit="f")).call({"place": {"city": "Rome"}}) == "Rome IT 3 f "


def test_names_that_pydantic_has_a_use_for_are_names_like_others() -> None:
    def odd(schema: str, json: int, model_config: bool, copy: str = "", self_: int = 0) -> tuple[Any, ...]:
        return schema, json, model_config, copy, self_

    assert Function.of(odd).call({"schema": "s", "json": 1, "model_config": True}) == ("s", 1, True, "", 0)


@pytest.mark.parametrize(("function", "message"), [
    (lambda *values: values, r"\*values has no names that a model could be told"),
    (lambda **values: values, r"\*\*values has no names"),
    (5, "a tool is a function, not 5"),
])
def test_what_cannot_be_told_to_a_model_is_refused(function: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        Function.of(function, name="f")


def test_a_name_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(SchemaError, match="'<lambda>' cannot be a tool's name"):
        Function.of(lambda: 1)
    assert Function.of(lambda: 1, name="one", description="One.").description == "One."


def test_a_hint_that_cannot_be_enforced_is_refused_by_the_functions_name() -> None:
    def pick(tags: set[str]) -> None: ...

    def broken(value: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(SchemaError, match=r"pick\.properties\.tags\.uniqueItems: is not supported"):
        Function.of(pick)
    with pytest.raises(SchemaError, match="broken: the hints of its parameters cannot be read: .*Missing"):
        Function.of(broken)
