"""What the contenders are given: prompts, texts, a grammar."""

from __future__ import annotations

CONTEXT_SIZE = 4096
THREADS = 2
FIRST_TOKEN = 1000  # an ordinary token in every vocabulary here
ORDINARY_TOKENS = 40000


def prompt(length: int, number: int = 0) -> list[int]:
    """Token ids; those of another number begin with another one, so that nothing of one is reused for the other."""
    start = FIRST_TOKEN + number * 7919 % ORDINARY_TOKENS  # a prime step: far apart, and every start comes once
    return [FIRST_TOKEN + (start - FIRST_TOKEN + index) % ORDINARY_TOKENS for index in range(length)]


def prompts(count: int, length: int, round_number: int) -> list[list[int]]:
    """Distinct prompts, also from those of the rounds before."""
    return [prompt(length, round_number * count + index) for index in range(count)]


JSON_PROMPT = "The people of the village, as a JSON list of objects with name, age, trade and a list of children:\n"

# any JSON objects, in a list that goes on: what is measured must not end early
JSON_GRAMMAR = r'''
root   ::= "[" object more
more   ::= "," ws object more
object ::= "{" ws pair ("," ws pair)* "}" ws
pair   ::= string ":" ws value
value  ::= object | array | string | number | ("true" | "false" | "null") ws
array  ::= "[" ws (value ("," ws value)*)? "]" ws
string ::= "\"" char* "\"" ws
char   ::= [^"\\\x00-\x1f] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})
number ::= "-"? ("0" | [1-9] [0-9]{0,15}) ("." [0-9]{1,15})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
'''

_LIST = """\
1. The lighthouse keeper climbed the narrow stairs every evening at six.
2. He carried a lamp, a loaf of bread and a book with a green cover.
3. At the top he cleaned the glass, lit the flame and wrote down the hour.
4. Ships from the north passed on the left side of the rock.
5. Ships from the south passed on the right, close to the old pier.
6. When the fog came he rang the bell twice a minute until the morning.
7. Nobody in the village had ever seen him sleep.
8. On Sundays the baker's daughter rowed over with a basket of apples.
9. They drank tea, talked about the weather and watched the gulls.
"""

# small models follow this one: their next 128 tokens lie within the copy (they keep the book green, which changes nothing here)
COPY_PROMPT = (f"Rewrite this text and change only one thing: the cover is red, not green.\n\nThe text:\n{_LIST}\n"
               'The text again, with "green" changed to "red":\n1.')
