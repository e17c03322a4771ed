# SPDX-License-Identifier: Apache-2.0
"""Small templates that show one habit of Jinja each; rendered with the variables of chat_oracle.py."""

EXPRESSIONS = r"""
1 + 1
7 // 2
-7 // 2
7 % 3
-7 % 3
2 ** 10
7 / 2
1.5 * 2
1e3
10 - 2 - 3
2 ** 3 ** 2
'a' ~ 1 ~ none ~ true
'a' + 'b'
'ab' * 3
[1, 2] + [3]
(1, 2)
(1,)
[1, 'a', none, true, 1.0, {'k': [1]}]
{'a': 1, 'b': 'x'}
'it\'s'
"say \"hi\""
'tab\tnew\nline'
not true
not 0 and 1
0 or 'x'
1 and 'y'
none or []
1 < 2 < 3
1 < 3 < 2
1 == 1.0
'a' < 'b'
'a' in 'cat'
'z' not in 'cat'
1 in [1, 2]
'k' in {'k': 1}
x is defined
missing is defined
missing is undefined
none is none
1 is number
true is boolean
1 is boolean
'a' is string
[] is sequence
'a' is iterable
{} is mapping
[] is mapping
3 is odd
4 is even
6 is divisibleby 3
1 is eq 1
1 is not eq 2
'a' is in 'abc'
'A' is upper
'a' is lower
2 is integer
2.0 is float
'yes' if 1 else 'no'
'yes' if 0
'abc'[0]
'abc'[-1]
'abcdef'[1:3]
'abcdef'[::-1]
'abcdef'[::2]
[1, 2, 3][1:]
[1, 2, 3][-2:]
[1, 2, 3][5:]
{'a': {'b': 1}}.a.b
{'a': {'b': 1}}['a']['b']
{'a': 1}.missing is defined
'  x '.strip()
'xxaxx'.strip('x')
'  x '.lstrip() ~ '|'
'  x '.rstrip() ~ '|'
'a,b,,c'.split(',')
' a  b '.split()
'a b c'.split(' ', 1)
'a-b-c'.rsplit('-', 1)
'abc'.startswith('ab')
'abc'.endswith('bc')
'aBc'.upper()
'aBc'.lower()
'abc def'.title()
'abc def'.capitalize()
'aXbX'.replace('X', '-')
'aXbX'.replace('X', '-', 1)
'abcabc'.find('c')
'abcabc'.count('b')
', '.join(['a', 'b'])
'{} and {}'.format(1, 'b')
'%s=%d' % ('a', 3)
{'a': 1, 'b': 2}.items() | list
{'a': 1, 'b': 2}.keys() | list
{'a': 1, 'b': 2}.values() | list
{'a': 1}.get('a')
{'a': 1}.get('z')
{'a': 1}.get('z', 'd')
' x ' | trim
'abc' | length
[1, 2] | length
{'a': 1} | count
[3, 1, 2] | sort
[3, 1, 2] | sort(reverse=true)
['b', 'A', 'c'] | sort
[1, 2, 3] | first
[1, 2, 3] | last
[] | first
[1, 2, 3] | join
[1, 2, 3] | join(', ')
[{'n': 1}, {'n': 2}] | map(attribute='n') | list
['a', 'b'] | map('upper') | list
[1, 2, 3, 4] | select('odd') | list
[1, 2, 3, 4] | reject('odd') | list
[0, 1, '', 'a'] | select | list
[{'n': 1}, {'n': 2}] | selectattr('n', 'equalto', 2) | list
[{'n': 1}, {'m': 2}] | selectattr('n') | list
[{'n': 1}, {'n': 0}] | rejectattr('n') | list
[1, 1, 2] | unique | list
[1, 2, 3] | reverse | list
'abc' | reverse
[1, 2, 3] | sum
[1, 2, 3] | min
[1, 2, 3] | max
'3' | int + 1
'x' | int
'x' | int(7)
'1.5' | float
3.7 | int
3.14159 | round(2)
2.5 | round
-3 | abs
5 | string ~ '!'
'abc' | list
'a b' | upper
'A b' | lower
'a b' | title
'a b' | capitalize
'a.b' | replace('.', '-')
missing | default('d')
none | default('d')
none | default('d', true)
'' | default('d', true)
'a\nb' | indent(2)
'a\nb' | indent(2, true)
{'b': 1, 'a': 2} | dictsort
{'a': 1} | items | list
{'a': 1, 'b': [1, 2.5, none, true]} | tojson
{'a': [1, 2]} | tojson(indent=2)
'é<>&"' | tojson
'<b>' | escape
[1, [2]] | string
'a b c' | wordcount
[1, 2, 3, 4, 5] | batch(2) | list
[1, 2, 3] | slice(2) | list
'x' | safe
range(3) | list
range(1, 7, 2) | list
range(3, 0, -1) | list
dict(a=1, b=2)
1.0
100000000000000000.0
1e16
0.1 + 0.2
-0.0
1 / 3
true
none
missing
missing.x
missing()
1 / 0
'a' + 1
1 + none
[1][3]
raise_exception('stop')
'abc' | nofilter
x is notest
(1 if true else 2) + 3
[x for x in y]
"a" "b"
1 +
{{
"""

STATEMENTS = [
    "{% for i in [1, 2, 3] %}{{ i }}{% endfor %}",
    "{% for i in [] %}x{% else %}empty{% endfor %}",
    "{% for i in [1, 2, 3] if i != 2 %}{{ loop.index }}:{{ i }} {% endfor %}",
    "{% for i in 'ab' %}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{% endfor %}",
    "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for a, b in [[1, 2], [3, 4]] %}{{ a + b }} {% endfor %}",
    "{% for i in [1, 2, 3] %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }} {% endfor %}",
    "{% for i in [1, 2, 3] %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in [[1], [2, [3]]] recursive %}{% if i is iterable %}({{ loop(i) }}){% else %}{{ i }}{% endif %}{% endfor %}",
    "{% for i in 3 %}{{ i }}{% endfor %}",
    "{% if x %}a{% elif 1 %}b{% else %}c{% endif %}",
    "{% if missing %}a{% else %}b{% endif %}",
    "{% set a = 1 %}{{ a }}",
    "{% set a, b = 1, 2 %}{{ b }}{{ a }}",
    "{% set a %}x{{ 1 }}y{% endset %}[{{ a }}]",
    "{% set a | upper %}xy{% endset %}{{ a }}",
    "{% set a = 1 %}{% for i in [1, 2] %}{% set a = a + i %}{% endfor %}{{ a }}",
    "{% set n = namespace(a=1) %}{% for i in [1, 2] %}{% set n.a = n.a + i %}{% endfor %}{{ n.a }}",
    "{% macro f(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(1, 3) }}{{ f(b=5, a=4) }}",
    "{% macro f() %}[{{ caller() }}]{% endmacro %}{% call f() %}in{% endcall %}",
    "{% macro f(x) %}{% if x > 0 %}{{ x }}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, a=2) }}",
    "{% filter upper %}abc{% endfilter %}",
    "{% with a = 1 %}{{ a }}{% endwith %}{{ a is defined }}",
    "{% raw %}{{ x }}{% endraw %}",
    "a{# comment #}b",
    "  {%- if 1 -%}  x  {%- endif -%}  y",
    "  {% if 1 %}\n  x\n  {% endif %}\n  y\n",
    "a\n{% if 1 %}\nb\n{% endif %}\nc",
    "{{ 1 }}\n\n{{ 2 }}\n",
    "x {{- 1 -}} y",
    "{%+ if 1 %}x{% endif %}",
    "   {#- c -#}   z",
    "{% set l = [1] %}{% set _ = l.append(2) %}{{ l }}",
    "{% set d = {'a': 1} %}{% set _ = d.update({'b': 2}) %}{{ d }}",
    "{% set j = joiner(', ') %}{% for i in [1, 2] %}{{ j() }}{{ i }}{% endfor %}",
    "{% generation %}x{% endgeneration %}",
    "{% if %}",
    "{% for i in [1] %}",
    "{% endif %}",
    "{{ 1 ",
    "{% unknown %}",
    "{# open",
    "plain text, no template",
    "",
    "{{ '{{' }}",
    "{{ \"%}\" }}",
]

SNIPPETS = ["{{ " + line + " }}" for line in EXPRESSIONS.strip().splitlines()] + STATEMENTS
