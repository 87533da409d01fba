"""Tools for templates that know none.

Jinja to be put in front of such a template: it tells of the tools in the system message, or in front of the first one, and writes calls
and their results as text. From there on llama.cpp finds the format by itself, as it does for templates that have one.
"""

_SYSTEM = "{%- set messages = [{'role': 'system', 'content': said.head}] + said.messages -%}"
_USER = r"""{%- set messages = [{'role': said.messages[0].role, 'content': said.head ~ '\n\n' ~ said.messages[0].content}]
    + said.messages[1:] -%}"""

_PRELUDE = r"""
{%- if tools -%}
{%- set said = namespace(head='', messages=[], results='', content='') -%}
{%- set said.head = 'You can call these functions:\n<tools>' -%}
{%- for tool in tools -%}
{%- set said.head = said.head ~ '\n' ~ (tool.function | tojson) -%}
{%- endfor -%}
{%- set said.head = said.head ~ '\n</tools>\nTo call one, write its name and arguments as JSON between <tool_call> and </tool_call>:\n'
    ~ '<tool_call>\n{"name": "the name", "arguments": {"an argument": "its value"}}\n</tool_call>' -%}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{%- set said.results = said.results ~ '<tool_response>\n' ~ message.content ~ '\n</tool_response>\n' -%}
{%- elif message.role == 'system' and loop.first -%}
{%- set said.head = message.content ~ '\n\n' ~ said.head -%}
{%- elif message.role == 'user' -%}
{%- set said.messages = said.messages + [{'role': 'user', 'content': said.results ~ message.content}] -%}
{%- set said.results = '' -%}
{%- else -%}
{%- if said.results -%}
{%- set said.messages = said.messages + [{'role': 'user', 'content': said.results}] -%}
{%- set said.results = '' -%}
{%- endif -%}
{%- set said.content = message.content or '' -%}
{%- if message.tool_calls -%}
{%- for call in message.tool_calls -%}
{%- set said.content = said.content ~ '<tool_call>\n{"name": "' ~ call.function.name ~ '", "arguments": '
    ~ (call.function.arguments | tojson) ~ '}\n</tool_call>\n' -%}
{%- endfor -%}
{%- endif -%}
{%- set said.messages = said.messages + [{'role': message.role, 'content': said.content}] -%}
{%- endif -%}
{%- endfor -%}
{%- if said.results -%}
{%- set said.messages = said.messages + [{'role': 'user', 'content': said.results}] -%}
{%- endif -%}
HEAD
{%- endif -%}
""".strip()

# for templates that have a system message, and for those that refuse one
TOOL_PRELUDES = _PRELUDE.replace("HEAD", _SYSTEM), _PRELUDE.replace("HEAD", _USER)
