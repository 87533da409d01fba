"""Conversations for every chat template: requests in the form of gollama.h, the messages among the options."""

from __future__ import annotations

from typing import Any

from gollama import _native

NOON = 1705320000  # of 15 January 2024, UTC: the same day nearly everywhere
# templates that ask for these two would otherwise get the day of the call
DATES = {"datetime": "Jan 15 2024", "date_string": "15 Jan 2024"}


def _tool(name: str, description: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [
    _tool("get_weather", "The weather in a city", {
        "city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}}, ["city"]),
    _tool("add", "Adds two numbers", {"a": {"type": "integer"}, "b": {"type": "number", "description": "The second"}}, ["a", "b"]),
]
UNTYPED = _tool("set_unit", "Sets the unit", {"unit": {"enum": ["celsius", "fahrenheit"]}}, [])  # some templates want a type
SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}, "sure": {"type": "boolean"}}, "required": ["answer"]}

SYSTEM = {"role": "system", "content": "Be brief."}
QUESTION = {"role": "user", "content": "What's the weather in Zürich?\n\n– \"now\""}
THANKS = {"role": "user", "content": "Thanks! And tomorrow?"}
ANSWER = {"role": "assistant", "content": "It is sunny, 21 °C."}
THOUGHT_ANSWER = {**ANSWER, "reasoning_content": "The tool said sunny."}
# an id of nine letters and digits, as Mistral's templates ask for
CALL = {"role": "assistant", "content": "", "tool_calls": [
    {"id": "abc123def", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Zürich", "unit": "celsius"}'}}]}
THOUGHT_CALL = {**CALL, "reasoning_content": "I need the weather tool."}
RESULT = {"role": "tool", "tool_call_id": "abc123def", "name": "get_weather", "content": '{"sky": "sunny", "degrees": 21}'}


def _request(*messages: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"messages": list(messages), "reasoning_format": "auto", "now": NOON, "template_kwargs": DATES, **options}


# requests with the same options stand side by side: what is remembered of one must not change the next
REQUESTS: dict[str, dict[str, Any]] = {
    "plain": _request(QUESTION),
    "system": _request(SYSTEM, QUESTION),
    "developer": _request({"role": "developer", "content": "Be brief."}, QUESTION),
    "turns": _request(SYSTEM, QUESTION, ANSWER, THANKS),
    "thought turns": _request(QUESTION, THOUGHT_ANSWER, THANKS),
    "parts": _request({"role": "user", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]}),
    "ends with an answer": _request(QUESTION, ANSWER),
    "no generation prompt": _request(QUESTION, add_generation_prompt=False),
    "no thinking": _request(QUESTION, enable_thinking=False),
    "no thinking, thought turns": _request(QUESTION, THOUGHT_ANSWER, THANKS, enable_thinking=False),
    "reasoning unparsed": _request(QUESTION, reasoning_format="none"),
    "reasoning as deepseek": _request(QUESTION, THOUGHT_ANSWER, THANKS, reasoning_format="deepseek"),
    "effort": _request(QUESTION, template_kwargs={**DATES, "reasoning_effort": "high", "custom_instructions": "Rhyme."}),
    "tools": _request(QUESTION, tools=TOOLS),
    "tool result": _request(QUESTION, CALL, RESULT, tools=TOOLS),
    "thought tool result": _request(QUESTION, THOUGHT_CALL, RESULT, tools=TOOLS),
    "tool turns": _request(SYSTEM, QUESTION, CALL, RESULT, ANSWER, THANKS, tools=TOOLS),
    "tools, no thinking": _request(SYSTEM, QUESTION, tools=TOOLS, enable_thinking=False),
    "tools, required": _request(QUESTION, tools=TOOLS, tool_choice="required"),
    "tools, none": _request(QUESTION, tools=TOOLS, tool_choice="none"),
    "tools, parallel": _request(QUESTION, tools=TOOLS, parallel_tool_calls=True),
    "tools, one call": _request(QUESTION, tools=TOOLS, parallel_tool_calls=False),
    "untyped tool": _request(QUESTION, tools=[UNTYPED]),
    "tool result without tools": _request(QUESTION, CALL, RESULT),
    "schema": _request(QUESTION, json_schema=SCHEMA),
    "schema, no thinking": _request(QUESTION, json_schema=SCHEMA, enable_thinking=False),
    "grammar": _request(QUESTION, grammar='root ::= "yes" | "no"'),
    "grammar with tools": _request(QUESTION, grammar='root ::= "yes" | "no"', tools=TOOLS),
    "continued": _request(QUESTION, {"role": "assistant", "content": "It is"}, continue_final_message=True),
    "continued reasoning": _request(QUESTION, {"role": "assistant", "content": "", "reasoning_content": "The tool"},
                                    continue_final_message="reasoning_content"),
    "continued behind reasoning": _request(QUESTION, THOUGHT_ANSWER, continue_final_message="content"),
}


def rendered(handle: _native.ChatTemplatesHandle, request: dict[str, Any]) -> _native.Rendered:
    return handle.render(request["messages"], {name: value for name, value in request.items() if name != "messages"})
