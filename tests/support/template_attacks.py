"""Chat templates that hang or kill a process that runs them without limits, by what they attack; and how each ends."""

from __future__ import annotations

from collections.abc import Mapping

NS = "{% set ns = namespace(a=[], p=1, x='x') %}"
LONG, MEMORY, DEEP, NESTED, TEXT = ("computes for too long", "takes too much memory", "recurses too deeply", "nested too deeply",
                                    "far more text than it is given")
FAILS = ""  # any ChatError
ENDS = None  # either way

LOOPS = {
    "nested": ("{% for a in range(30000) %}" * 4 + "{% endfor %}" * 4, LONG),
    "nested over one list": ("{% set r = range(1000) %}" + "{% for a in r %}" * 9 + "x" + "{% endfor %}" * 9, LONG),
    "one, huge": ("{% for a in range(10000000000) %}{% endfor %}", FAILS),
    "continue": ("{% set r = range(3000) %}" + "{% for a in r %}" * 3 + "{% continue %}" + "{% endfor %}" * 3, LONG),
    "selected": ("{% for a in range(100000) if a > 2000000 %}{% endfor %}" * 100, LONG),
    "many variables": ("".join(f"{{% set v{i} = 1 %}}" for i in range(900)) + "{% for a in range(100000) %}{% endfor %}", LONG),
    "too many variables": ("".join(f"{{% set v{i} = 1 %}}" for i in range(20000)), "more than 1000 variables"),
    "comments": ("{% for i in range(100000) %}" + "{# x #}" * 1000 + "{% endfor %}", FAILS),
    "a list that grows": ("{% set l = [1] %}{% for i in range(10) %}{% for x in l %}{% set _ = l.append(1) %}{% endfor %}{% endfor %}",
                          ENDS),
}
RECURSION = {
    "macro": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", DEEP),
    "default": ("{% macro f(x=f()) %}{% endmacro %}{{ f() }}", DEEP),
    "two macros": ("{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{% for x in [1] %}{% if x %}{{ f() }}{% endif %}{% endfor %}"
                   "{% endmacro %}{{ f() }}", DEEP),
    "call block": ("{% macro f() %}{% call f() %}x{% endcall %}{% endmacro %}{{ f() }}", DEEP),
    "caller": ("{% macro f() %}{{ caller() }}{% endmacro %}{% macro g() %}{% call f() %}{{ g() }}{% endcall %}{% endmacro %}"
               "{{ g() }}", DEEP),
    "test": ("{% macro f() %}{{ 1 is eq(f()) }}{% endmacro %}{{ f() }}", DEEP),
    "filter": ("{% macro f() %}{% filter replace('a', f()) %}a{% endfilter %}{% endmacro %}{{ f() }}", DEEP),
    "set block": ("{% macro f() %}{% set x %}{{ f() }}{% endset %}{% endmacro %}{{ f() }}", DEEP),
    "twice each": ("{% macro f(n) %}{% if n > 0 %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(200) }}", LONG),
    "by the clock": ("{% macro f() %}{{ f() }}{% endmacro %}{% if strftime_now('%S') %}{{ f() }}{% endif %}", DEEP),
    "behind a text that llama.cpp changes": (
        "<|channel|>{% macro f() %}{{ f() }}{% endmacro %}{%- if \"<|channel|>analysis<|message|>\" in message.content or "
        "\"<|channel|>final<|message|>\" in message.content %}{% else %}{{ f() }}{% endif %}", DEEP),
}
GROWTH = {
    **{name: ("{% set x = 'xxxxxxxxxxxxxxxxx' %}" + f"{{% set x = {code} %}}" * 60 + "{{ x|length }}", FAILS) for name, code in {
        "~": "x ~ x", "+": "x + x", "*": "x * 3", "format": "'{}{}'.format(x, x)", "replace": "x.replace('x', 'xx')",
        "join": "[x, x]|join", "list join": "[x, x]|join(x)", "json": "[x, x]|tojson", "string": "[x, x]|string",
        "indent": "x|indent(x|length, true)", "list": "[x] * 2", "strings in lists": "x|string ~ [x]"}.items()},
    "set block": ("{% set x = 'x' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 60, MEMORY),
    "macro": ("{% macro d(x) %}{{ x }}{{ x }}{% endmacro %}{% set x = 'x' %}" + "{% set x = d(x) %}" * 60, MEMORY),
    "filter block": ("{% set x = 'x' %}" + "{% set x %}{% filter replace('x', 'xx') %}{{ x }}{% endfilter %}{% endset %}" * 60, FAILS),
    "lists": ("{% set x = [1] %}" + "{% set x = x + x %}" * 60, MEMORY),
    "in a namespace": (NS + "{% for i in range(100) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}", MEMORY),
    "repeated": ("{{ 'x' * 1000000000000 }}", MEMORY),
    "repeated, the other way": ("{{ 9223372036854775807 * 'x' }}", MEMORY),
    "nothing, repeated": ("{{ '' * 1000000000000 }}", FAILS),
    "range": ("{{ range(1000000000000)|length }}", MEMORY),
    "range backwards": ("{{ range(0, -1000000000000, -1)|length }}", MEMORY),
    "range that overflows": ("{{ range(9223372036854775806, 9223372036854775807, 5)|length }}", "no numbers that large"),
    "ranges kept": ("{% set l = [] %}{% for i in range(10000) %}{% set _ = l.append(range(10000)) %}{% endfor %}", MEMORY),
    "texts kept": (NS + "{% set x = 'x' * 100000 %}{% for i in range(10000) %}{% set ns.a = ns.a + [x ~ i] %}{% endfor %}", FAILS),
    "short texts kept": ("{% set l = [] %}{% set x = 'x' * 250 %}{% for i in range(100000) %}{% set _ = l.append(x ~ i) %}"
                         "{% endfor %}", FAILS),
    "lists kept": ("{% set l = [] %}{% for i in range(100000) %}{% set _ = l.append([i]) %}{% endfor %}", FAILS),
    "dicts kept": ("{% set l = [] %}{% for i in range(100000) %}{% set _ = l.append({'a': i}) %}{% endfor %}", FAILS),
    "loops kept": ("{% set l = [] %}{% for i in range(100000) %}{% set _ = l.append(loop) %}{% endfor %}", FAILS),
    "callers kept": (NS + "{% macro m() %}{% set ns.f = caller %}{% endmacro %}{% for i in range(50000) %}{% call m() %}{% endcall %}"
                     "{% set g = ns.f %}{% endfor %}", FAILS),
    "cycles left behind": ("{% for i in range(20000) %}{% set a = ['x' * 10000] %}{% set _ = a.append(a) %}{% endfor %}", MEMORY),
    "output": ("{% set x = 'x' * 100000 %}{% for i in range(100000) %}{{ x }}{% endfor %}", MEMORY),
    "prompt": ("{% for m in messages %}{{ m.content * 3000 }}{% endfor %}", TEXT),
}
ONE_CALL = {
    "indent": ("{{ 'a\nb'|indent(1000000000000) }}", MEMORY), "negative indent": ("{{ 'a\nb'|indent(-1) }}", "no negative width"),
    "indent of many lines": ("{{ ('\n' * 100000)|indent(100000, true, true) }}", MEMORY),
    "indent by a text": ("{{ ('\n' * 10000)|indent('x' * 100000, true, true) }}", MEMORY),
    "json indent": ("{{ [1]|tojson(indent=1000000000) }}", "no indent that large"),
    "json indent of many": ("{{ range(100000)|list|tojson(indent=100000) }}", MEMORY),
    "json separators": ("{{ range(10000)|list|tojson(separators=['x' * 1000000, 'y']) }}", FAILS),
    "join": ("{{ range(100000)|join('x' * 1000000) }}", FAILS),
    "replace": ("{{ ('a' * 100000).replace('a', 'b' * 100000) }}", MEMORY),
    "replace nothing": ("{{ ('a' * 100000).replace('', 'b' * 100000) }}", MEMORY),
    "replace with shorter": ("{{ ('ab' * 2000000).replace('a', '')|length }}", LONG),
    "split": ("{{ ('a ' * 1000000).split(' ')|length }}", FAILS),
    "split again and again": ("{% set x = 'a ' * 100000 %}{% for i in range(10000) %}{% set y = x.split(' ') %}{% endfor %}", LONG),
    "search": ("{{ ('a' * 1000000 ~ 'b') in ('a' * 3000000) }}", LONG),
    "search by replace": ("{{ ('a' * 3000000).replace('a' * 1000000 ~ 'b', '')|length }}", LONG),
    "search in a list": ("{% set r = range(100000) %}{% for i in r %}{{ 'x' if (-1) in r }}{% endfor %}", LONG),
    "compare": ("{% set x = 'x' * 1000000 %}{% set l = [x ~ 'a'] %}" + "{% set l = l + l %}" * 14 + "{{ (x ~ 'b') in l }}", FAILS),
    "sort of long texts": ("{% set x = 'x' * 1000000 %}{% set l = [x ~ 'a', x ~ 'b'] %}" + "{% set l = l + l %}" * 12
                           + "{{ l|sort|length }}", LONG),
    "maximum of long texts": ("{% set x = 'x' * 1000000 %}{% set l = [x ~ 'a', x ~ 'b'] %}" + "{% set l = l + l %}" * 12
                              + "{{ l|max|length }}", LONG),
    "sort again and again": ("{% set l = range(100000) %}{% for i in l %}{% set y = l|sort %}{% endfor %}", LONG),
    "strip": ("{{ (' ' * 1000000)|trim|length }}", LONG), "strip of letters": ("{{ ('ab' * 1000000).strip('ab')|length }}", LONG),
    "long attribute": ("{% set x = 'x' * 1000000 %}{% set l = [{'a': 1}] %}" + "{% set l = l + l %}" * 18
                       + "{{ l|map(attribute=x)|list|length }}", FAILS),
    "long test": ("{% set x = 'x' * 1000000 %}{% set l = [{'a': x}] %}" + "{% set l = l + l %}" * 18
                  + "{{ l|selectattr('a', 'equalto', x)|list|length }}", FAILS),
    "letters": ("{% set x = 'x' * 1000000 %}{% for i in range(1000000) %}{% set y = x[i] %}{% endfor %}", LONG),
    "strftime": ("{{ strftime_now('%1000000000Y') }}", ENDS), "raise": ("{{ raise_exception('x' * 1000000) }}", FAILS),
}
TRAPS = {
    **{f"divisible: {code}": (f"{{{{ {code} }}}}", "cannot divide") for code in (
        "1 is divisibleby(0)", "-9223372036854775808 is divisibleby(-1)", "[1, 2]|select('divisibleby', 0)",
        "[{'a': 1}]|selectattr('a', 'divisibleby', 0)")},
    **{f"slice: {code}": (f"{{{{ {code} }}}}", "no step that large") for code in (
        "'abc'[0:-1:-9223372036854775808]", "[1, 2, 3][0:-1:-9223372036854775808]", "'abc'[0:3:9223372036854775807]",
        "[1, 2, 3].slice(0, -1, -9223372036854775808)")},
    **{f"sort: {name}": (f"{{% set l = {items} %}}" + "{% set l = l + l %}" * 8 + f"{{{{ l|{sort}|length }}}}", "cannot be sorted")
       for name, items, sort in (
           ("texts and numbers", "[9, 10, '1a', 'z', 3, 2.5, '0']", "sort"), ("nothing", "[none, 'a', 'b']", "sort"),
           ("not a number", "[1, 1.5 % 0, 2, 0.5]", "sort"), ("attributes", "[{'a': 9}, {'a': 10}, {'a': '1a'}]", "sort(attribute='a')"),
           ("items", "[[9], [10], ['1a']]", "sort(attribute=0)"))},
    "dictsort": ("{{ {1: 2, 'a': 3, '10': 2, 9: 1}|dictsort }}", "cannot be sorted"),
    "numbers": ("{{ 1 % 0 }}{{ 1 / 0 }}{{ 1.5 % 0 }}{{ -9223372036854775808|abs }}{{ [1][-9223372036854775808] }}{{ 'a'[1:-1] }}", ENDS),
    "pop": ("{{ [1].pop(-9223372036854775808) }}", FAILS), "base": ("{{ 'zz'|int(base=99) }}", FAILS),
    "range by nothing": ("{{ range(0, 10, 0) }}", FAILS),
}
TWICE = "{% set x = ('a', 'b') %}{% set y = ('a', 'b') %}" + "{% set x = (x, x) %}{% set y = (y, y) %}" * 60  # trees of 2^60 leaves
SHARED = {code: (TWICE + f"{{{{ {code} }}}}", LONG) for code in (
    "x", "x|string", "x|tojson", "x ~ 'a'", "x|upper", "x|trim", "x == y", "x in [y]", "x in messages[0]", "messages[0][x]", "{x: 1}",
    "[1]|join(x)", "'a'.split(x)", "'{}'.format(x)", "messages|sort(attribute=x)", "messages|map(attribute=x)",
    "raise_exception(x|string)")}
LOOPED = "{% set a = [] %}{% set _ = a.append(a) %}"
CYCLES = {
    **{code: (LOOPED + f"{{{{ {code} }}}}", NESTED) for code in ("a", "a|string", "a|tojson", "a == a", "a|upper", "a ~ 'x'", "a in [a]")},
    "by a method": ("{% set a = [] %}{% set _ = a.append(a.append) %}{{ a|string }}", NESTED),
    "by a key": (LOOPED + "{% set b = [] %}{% set _ = b.append(x=a) %}{% set d = {b.pop(): 1} %}", NESTED),
    "by a namespace": (NS + "{% set ns.x = ns %}{{ ns|tojson }}", NESTED),
    "by the messages": ("{% set m = messages[0] %}{% set m.x = messages %}{{ messages|tojson }}", NESTED),
    "never looked at": (LOOPED + "fine", ENDS),
}
LAST = "{% if messages|length == 3 and messages[2].content.startswith('Bye') %}"  # what llama.cpp tries out itself has none such
CHAINS = {name: (LAST + NS + code + "{% endif %}", ENDS) for name, code in {
    "lists": "{% for i in range(20000) %}{% set ns.a = [ns.a] %}{% endfor %}",
    "tuples": "{% for i in range(20000) %}{% set ns.a = (ns.a, 1) %}{% endfor %}",
    "dicts": "{% for i in range(20000) %}{% set ns.a = {'a': ns.a} %}{% endfor %}",
    "namespaces": "{% for i in range(20000) %}{% set ns.a = namespace(a=ns.a) %}{% endfor %}",
    "from above": "{% set top = [] %}{% set ns.a = top %}{% for i in range(20000) %}{% set n = [] %}{% set _ = ns.a.append(n) %}"
                  "{% set ns.a = n %}{% endfor %}",
    "methods": "{% for i in range(20000) %}{% set ns.a = [ns.a.append] %}{% endfor %}",
    "slices": "{% for i in range(20000) %}{% set ns.a = [ns.a, 1][::-1] %}{% endfor %}",
    "maps": "{% for i in range(20000) %}{% set ns.a = [{'a': ns.a}]|map(attribute='a')|list %}{% endfor %}",
    "items": "{% for i in range(15000) %}{% for x in {'a': ns.p}|items %}{% set ns.p = x %}{% endfor %}{% endfor %}",
    "loops": "{% for i in range(10000) %}{% for x in [ns.p, 1] %}{% if not loop.first %}{% set ns.p = loop %}{% endif %}{% endfor %}"
             "{% endfor %}",
    "callers": "{% macro m() %}{% set ns.f = caller %}{% endmacro %}{% for i in range(10000) %}{% call m() %}{% endcall %}"
               "{% set g = ns.f %}{% endfor %}",
}.items()}
# what llama.cpp does with outputs to find out how the model calls tools
ANALYSIS = {
    "brackets": ("{{ '[' * 12000 }}{% for m in messages %}{{ m.reasoning_content }}{{ m.content }}{% endfor %}", ENDS),
    "pairs": ("{% for m in messages %}{{ '[]' * 2000 }}{{ m.reasoning_content }}{{ '<a>' * 1000 }}{{ m.content }}{% endfor %}", ENDS),
    "long marks": ("{% for m in messages %}<" + "a" * 3000 + ">{{ m.reasoning_content }}</" + "a" * 3000 + ">{{ m.content }}"
                   "{% endfor %}", ENDS),
    "tools": ("{{ tools|tojson if tools }}{% for m in messages %}{{ m.content }}{% if m.tool_calls %}{{ '[' * 15000 }}"
              "{% for c in m.tool_calls %}{{ c.function.name }}{% for k, v in c.function.arguments|items %}"
              "<p={{ k }}>{{ v }}</p>{% endfor %}"
              "{% endfor %}{% endif %}"
              "{% endfor %}", ENDS),
    "deep JSON": ("{{ tools|tojson if tools }}{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}{{ '{\"a\":' * 2000 }}"
                  "{{ c.function|tojson }}{{ '}' * 2000 }}{% endfor %}{% endfor %}", ENDS),
}
SIZES = {
    "long": ("x" * 2_000_000, "more than 1048576 bytes"), "line ends": ("\r\n" * 400_000, TEXT), "many tags": ("{{1}}" * 200_000, TEXT),
    "a comment that is none": ("{#} {{ ' #}{{ " + "(" * 100_000 + " }}", "brackets nested deeper"),
    "long not": ("{{ " + "not " * 3900 + "x }}", ENDS), "long sum": ("{{ " + " ~ ".join(["'a'"] * 1900) + " }}", ENDS),
    "long calls": ("{{ x" + "()" * 1900 + " }}", FAILS), "long filter": ("{{ 'a'" + "|upper" * 1900 + " }}", ENDS),
}
GROUPS: dict[str, Mapping[str, tuple[str, str | None]]] = {
    "loops": LOOPS, "recursion": RECURSION, "growth": GROWTH, "one call": ONE_CALL, "traps": TRAPS, "shared": SHARED, "cycles": CYCLES,
    "chains": CHAINS, "analysis": ANALYSIS, "sizes": SIZES}
ALL = {f"{group}, {name}": attack for group, attacks in GROUPS.items() for name, attack in attacks.items()}
