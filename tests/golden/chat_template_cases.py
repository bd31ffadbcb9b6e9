"""Small templates, one for every feature of the language, in groups; make_chat_templates.py runs them through jinja2."""

VARIABLES = {
    "a": 7, "b": 2.5, "neg": -3, "zero": 0, "yes": True, "no": False, "nothing": None, "empty": "", "big": 9007199254740993,
    "s": "hello World", "pad": "  two  spaces \n", "u": "Grüße, ΑΣ ß ǆ 你好 🎉", "lines": "one\ntwo\r\n\nthree\x0bfour\u2028five",
    "words": "the quick  brown\tfox", "num": " 42 ", "html": "<a href=\"x\">&'</a>", "csv": "a,b,,c",
    "l": [3, 1, 2], "names": ["bob", "Alice", "carol", "alice"], "mixed": [1, "x", None, 2.0, True], "nested": [[1, 2], [3, [4, 5]]],
    "d": {"x": 1, "y": {"z": "deep"}, "items": [1, 2], "k\"q": "v'w", "ü": None},
    "users": [{"name": "bob", "age": 31, "city": "Rome", "on": True}, {"name": "Ann", "age": 25, "city": "paris", "on": False},
              {"name": "cy", "age": 31, "city": "Paris", "on": True}, {"name": "Di", "age": 4, "on": False}],
    "tree": [{"n": "a", "kids": [{"n": "b", "kids": []}, {"n": "c", "kids": [{"n": "d", "kids": []}]}]}, {"n": "e", "kids": []}],
}

# Groups of templates, one a line; "⏎" stands for a line break in the template.
GROUPS = {}

GROUPS["literals"] = r"""
{{ 1 }} {{ 1_000 }} {{ 0x1F }} {{ 0b101 }} {{ 0o17 }} {{ 00 }} {{ 1.5 }} {{ 1e3 }} {{ 1.5e-7 }} {{ 2E5 }} {{ 1_0.5_0 }}
{{ 1e16 }} {{ 1e15 }} {{ 123456789.123 }} {{ 0.1 + 0.2 }} {{ 1e-5 }} {{ 0.0001 }} {{ 1e22 }} {{ 5e-324 }} {{ 1.0 }}
{{ 'a' "b" 'c' }} {{ "it's" }} {{ 'say "x"' }} {{ '' }}
{{ 'a\nb\tc\\d\'e\"f\x41\u00e9\U0001F600\101\0' | tojson }}
{{ '\q\ é\é' }} {{ 'a\
b' }}
{{ 'é\u20ac' | length }}
{{ [] }} {{ [1, 2, 3] }} {{ [1, 2,] }} {{ () }} {{ (1,) }} {{ (1, 2) }} {{ 1, 2 }} {{ {} }} {{ {'a': 1, 'b': [2]} }} {{ {1: 2,} }}
{{ true }} {{ True }} {{ false }} {{ False }} {{ none }} {{ None }}
{{ {'a': 1, 'a': 2} }} {{ {1: 'int', 1.0: 'float', true: 'bool'} }} {{ {(1, 2): 3}[(1, 2)] }} {{ {none: 1} }}
{{ ['a\'b', "c\"d", 'e\'f"g', '\n\t\r\\', '\x7f\x80\xad\u200b\u3000', '\U0010ffff'] }}
{{ [1.5, 1e100, none, true, 'x', (1,), {'k': 'v'}] }}
{{ [undefined_name, {'a': undefined_name}] }}
{{ 12345678901234567 * 3 }}
{{ 'unclosed }}
{{ 'bad \x4' }}
{{ }}
{{ 1 2 }}
{{ (1 }}
{{ [1 }} {{ 2 ]
{{ {'a' 1} }}
{{ ) }}
{{ a ! b }}
{{ a $ b }}
{{ a = b }}
{{ true = 1 }}
"""

GROUPS["operators"] = r"""
{{ 1 + 2 }} {{ 7 - 10 }} {{ 3 * 4 }} {{ 7 / 2 }} {{ 6 / 3 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 ** 10 }}
{{ 7.5 // 2 }} {{ -7.5 // 2 }} {{ 7.5 % 2 }} {{ -7.5 % 2 }} {{ 2 ** -1 }} {{ 2 ** 0.5 }} {{ 1.5 + 1 }} {{ true + true }} {{ 10 - 2.5 }} {{ 3 * 1.5 }}
{{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ 2 * 3 + 4 * 5 }} {{ (2 + 3) * 4 }} {{ 10 - 4 - 3 }} {{ 100 // 7 // 2 }} {{ 1 - -1 }} {{ - 3 }} {{ +4 }} {{ -true }}
{{ 'a' + 'b' }} {{ 'ab' * 3 }} {{ 2 * 'xy' }} {{ 'x' * 0 }} {{ 'x' * -1 }} {{ [1] + [2, 3] }} {{ [0] * 3 }} {{ (1,) + (2,) }} {{ (1, 2) * 2 }}
{{ 1 ~ 2 ~ 'x' }} {{ none ~ true ~ 1.0 }} {{ 'a' ~ [1] ~ {'b': 2} }} {{ 1 ~ undefined_name ~ 2 }} {{ 1 + 2 ~ 3 + 4 }} {{ 2 * 3 ~ 4 }}
{{ 1 == 1 }} {{ 1 == 1.0 }} {{ 1 == true }} {{ 'a' == 'b' }} {{ 1 != 2 }} {{ [1, 2] == [1, 2] }} {{ (1,) == [1] }} {{ {'a': 1} == {'a': 1.0} }} {{ none == false }} {{ 'x' == none }}
{{ 1 < 2 }} {{ 2 <= 2 }} {{ 'a' < 'b' }} {{ 'B' < 'a' }} {{ [1, 2] < [1, 3] }} {{ (1,) < (1, 0) }} {{ 1 > 0.5 }} {{ 3 >= 4 }} {{ 'é' > 'z' }} {{ '🎉' > '你' }}
{{ 1 < 2 < 3 }} {{ 1 < 2 > 1 }} {{ 3 > 2 == 2 }} {{ 1 < 3 < 2 }} {{ 1 == 1 == 1 }} {{ 1 in [1] == true }}
{{ 1 in [1, 2] }} {{ 5 in l }} {{ 'ell' in s }} {{ '' in s }} {{ 'x' in d }} {{ 'z' not in d }} {{ 1.0 in l }} {{ none in mixed }} {{ 2 in (1, 2) }} {{ 'a' in undefined_name }} {{ 2 in range(3) }} {{ 'x' in d.keys() }} {{ 1 in d.values() }} {{ ('x', 1) in d.items() }}
{{ true and false }} {{ 1 and 2 }} {{ 0 and 2 }} {{ '' or 'x' }} {{ 'a' or 'b' }} {{ none or 0 }} {{ not 1 }} {{ not '' }} {{ not not a }} {{ not a == 7 }} {{ a and not no }} {{ 0 or '' or [] or none }}
{{ 'yes' if a else 'no' }} {{ 'yes' if zero else 'no' }} {{ 'only' if no }} {{ 1 if no else 2 if no else 3 }} {{ 1 if yes if yes else 2 }} {{ ('x' if no) is defined }} {{ [1 if yes else 2, 3] }}
{{ a if a > 5 else b }} {{ (a, b) if yes }} {{ 'a' 'b' if yes else 'c' }}
{{ 9223372036854775807 }} {{ big + 1 }} {{ big == big + 0.0 }} {{ big < 9007199254740993.0 }} {{ 9007199254740993 > 9007199254740992.0 }}
{{ 7 / 0 }}
{{ 7 // 0 }}
{{ 7 % 0 }}
{{ 7.0 / 0 }}
{{ 0 ** -1 }}
{{ 1 + 'a' }}
{{ 'a' + 1 }}
{{ 'a' - 'b' }}
{{ [1] + (2,) }}
{{ none + 1 }}
{{ 'a' * 1.5 }}
{{ -'a' }}
{{ -none }}
{{ +[] }}
{{ 1 < 'a' }}
{{ none < 1 }}
{{ {} < {} }}
{{ [1] < ['a'] }}
{{ 1 in 5 }}
{{ 1 in 'abc' }}
{{ [1] in {} }}
{{ undefined_name + 1 }}
{{ 1 - undefined_name }}
{{ undefined_name < 1 }}
{{ -undefined_name }}
{{ undefined_name == undefined_name }} {{ undefined_name == 1 }} {{ undefined_name != none }} {{ not undefined_name }} {{ undefined_name or 'x' }} {{ undefined_name in [1] }}
{{ 1e308 * 10 }} {{ -1e308 * 10 }} {{ 1e308 * 10 - 1e308 * 10 }}
{{ 10.0 ** 400 }}
"""

GROUPS["attributes and items"] = r"""
{{ d.x }} {{ d['x'] }} {{ d.y.z }} {{ d['y']['z'] }} {{ d['y'].z }}
{{ d['items'] }} {{ d.get('x') }} {{ d.get('q') }} {{ d.get('q', 5) }} {{ d.missing }} {{ d['missing'] }} {{ d.missing is defined }}
{{ l[0] }} {{ l[-1] }} {{ l[5] }} {{ l.0 }} {{ l['0'] }} {{ nested[1][1][0] }} {{ nested.1.0 }} {{ s[0] }} {{ s[-1] }} {{ s[99] }} {{ u[-1] }} {{ u[2] }} {{ l[true] }} {{ l[1.0] }} {{ l[none] }}
{{ l[1:] }} {{ l[:1] }} {{ l[:-1] }} {{ l[::-1] }} {{ l[::2] }} {{ l[-2:] }} {{ l[5:] }} {{ l[:] }} {{ l[2:0:-1] }} {{ l[none:2] }} {{ l[-100:100] }} {{ (1, 2, 3)[1:] }}
{{ s[1:4] }} {{ s[::-1] }} {{ s[-5:] }} {{ s[:-6] }} {{ s[::3] }} {{ u[1:5] }} {{ u[::-1] }} {{ u[-3:] }} {{ s[4:1] }} {{ s[10:4:-2] }}
{{ l[a] }} {{ l[a - 6] }} {{ d[s] }} {{ d['k"q'] }} {{ d.ü }}
{{ users[0].name }} {{ users[-1]['name'] }} {{ (users | first).age }} {{ 'abc'.upper() }} {{ 'a b'.split()[1] }} {{ [1, 2].index(2) }}
{{ s.__class__ }}|{{ s.__class__ is defined }} {{ d.__len__ }} {{ l.append }} {{ l.append is defined }} {{ s._x }} {{ d._y is defined }} {{ none.x }} {{ a.x }} {{ none['x'] }} {{ yes.foo }}
{{ s['upper']() }} {{ d['get']('x') }} {{ d['y']['keys']() | list }}
{{ range(3)[1] }} {{ range(10)[-1] }} {{ range(2, 9, 3)[9] }} {{ range(4).start }} {{ range(4).stop }} {{ range(4).step }}
{{ l.append(1) }}
{{ l.sort() }}
{{ d.update({}) }}
{{ d.pop('x') }}
{{ s.__class__() }}
{{ s.__class__.__mro__ }}
{{ undefined_name.x }}
{{ undefined_name['x'] }}
{{ d.missing.more }}
{{ d.missing[0] }}
{{ l[5].x }}
{{ none.x.y }}
{{ l[0:1:0] }}
{{ l['a':] }}
{{ nothing[1:] }}
{{ d[1:] }}
{{ undefined_name[1:] }}
{{ l[1:2, 3] }}
{{ l[] }}
{{ l[1,] }}
{{ d. }}
{{ d.1x }}
{{ x..y }}
{{ a() }}
{{ none() }}
{{ s.nothing() }}
{{ undefined_name() }}
"""

GROUPS["text methods"] = r"""
[{{ pad.strip() }}] [{{ pad.lstrip() }}] [{{ pad.rstrip() }}] [{{ 'xxaxx'.strip('x') }}] [{{ 'abcba'.lstrip('ab') }}] [{{ 'ßéß'.rstrip('ß') }}] [{{ '\u3000a\xa0'.strip() }}] [{{ pad.strip(none) }}]
{{ words.split() }} {{ csv.split(',') }} {{ csv.split(',', 1) }} {{ csv.split(',', maxsplit=2) }} {{ words.split(none, 1) }} {{ ''.split() }} {{ ''.split(',') }} {{ 'a--b--c'.split('--') }} {{ pad.split(' ') }} {{ csv.split(sep=',') }}
{{ csv.rsplit(',', 1) }} {{ words.rsplit(none, 2) }} {{ 'a'.rsplit(',') }} {{ ' a b '.rsplit(maxsplit=1) }} {{ 'aXbXc'.rsplit('X', 0) }} {{ 'x</think>y</think>z'.split('</think>')[-1] }}
{{ lines.splitlines() }} {{ lines.splitlines(true) }} {{ 'a\n'.splitlines() }} {{ ''.splitlines() }}
{{ s.startswith('he') }} {{ s.startswith('World') }} {{ s.startswith('World', 6) }} {{ s.startswith(('x', 'h')) }} {{ s.endswith('ld') }} {{ s.endswith('hello', 0, 5) }} {{ s.startswith('') }} {{ s.startswith('', 99) }}
{{ s.upper() }} {{ s.lower() }} {{ s.title() }} {{ s.capitalize() }} {{ u.upper() }} {{ u.lower() }} {{ u.title() }} {{ u.capitalize() }} {{ "they're bill's 3rd".title() }} {{ 'ΟΔΥΣΣΕΥΣ Σ'.lower() }} {{ 'ŉ ǰ ﬁ İ'.upper() }} {{ 'ŉ ǰ ﬁ İ'.lower() }} {{ 'ﬁx Ǆ'.title() }}
{{ s.replace('l', 'L') }} {{ s.replace('l', '', 2) }} {{ s.replace('', '-') }} {{ s.replace('zz', 'y') }} {{ u.replace('ß', 'ss') }} {{ 'aaa'.replace('aa', 'b') }} {{ 'abc'.replace('', '.', 2) }}
{{ s.find('o') }} {{ s.find('o', 5) }} {{ s.find('zz') }} {{ s.rfind('o') }} {{ s.index('W') }} {{ s.rindex('l') }} {{ u.find('ß') }} {{ u.rfind('ß') }} {{ s.find('') }} {{ s.find('h', 1) }} {{ s.rfind('l', 0, 4) }} {{ s.find('', 99) }} {{ s.find('d', -2) }}
{{ s.count('l') }} {{ 'aaaa'.count('aa') }} {{ s.count('') }} {{ u.count('ß') }} {{ s.count('o', 5) }}
{{ ','.join(['a', 'b']) }} {{ ''.join([]) }} {{ '-'.join('abc') }} {{ ', '.join(d.keys()) }} {{ ' '.join(names | map('upper')) }}
{{ '12'.isdigit() }} {{ '1a'.isdigit() }} {{ ''.isdigit() }} {{ '٣²'.isdigit() }} {{ '٣²'.isdecimal() }} {{ '½'.isnumeric() }} {{ 'aß你'.isalpha() }} {{ 'a1'.isalnum() }} {{ ' \t'.isspace() }} {{ 'ABC1'.isupper() }} {{ 'abc!'.islower() }} {{ '1'.islower() }} {{ 'ǅ'.isupper() }} {{ 'a\n'.isprintable() }} {{ 'é'.isascii() }}
[{{ 'ab'.center(5) }}] [{{ 'ab'.center(6, '*') }}] [{{ 'abc'.center(6, '*') }}] [{{ 'ab'.ljust(4) }}] [{{ 'ab'.rjust(4, '.') }}] {{ '-7'.zfill(4) }} {{ '7'.zfill(3) }} {{ 'abc'.zfill(2) }}
{{ 'a=b=c'.partition('=') }} {{ 'a=b=c'.rpartition('=') }} {{ 'abc'.partition('=') }} {{ 'abc'.rpartition('=') }} {{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x.py'.removesuffix('.py') }} {{ 'abc'.removeprefix('x') }}
{{ '{} {}'.format(1, 'x') }} {{ '{1}-{0}'.format('a', 'b') }} {{ '{n:>5}|{n:<5}|{n:^5}'.format(n='ab') }} {{ '{:05d} {:,} {:x} {:.2f} {:e} {:%} {:+d}'.format(42, 1234567, 255, 3.14159, 12345.678, 0.25, 7) }} {{ '{{}} {0!r}'.format('q') }} {{ '{0.name} {0[age]}'.format(users[0]) }} {{ '{:{w}}'.format('a', w=4) ~ '|' }} {{ '{a}'.format_map({'a': 5}) }}
{{ '{:*^9}|{:<4}|{:>6.1f}|{:#x}|{:b}|{!s:>3}'.format('mid', true, 2.25, 255, 5, none) }}
{{ '%s is %d and %.1f%% %r' % ('x', 3.9, 99.55, 'q') }} {{ '%05d|%-5s|%5s|%+d|%x|%X|%o|%e|%g' % (42, 'ab', 'cd', 5, 255, 255, 8, 1234.5, 0.0001) }} {{ '%s' % 'one' }} {{ '%(k)s %(n)03d' % {'k': 'v', 'n': 7} }} {{ '%s' % [1, 2] }} {{ '%.2s|' % 'abc' }} {{ '%i%%' % 5 }}
{{ d.keys() | list }} {{ d.values() | list }} {{ d.items() | list }} {{ d.keys() }} {{ {'a': 1}.items() }} {{ {'a': 1}.values() }} {{ d.copy() == d }} {{ l.count(1) }} {{ l.index(2) }} {{ (1, 2, 1).count(1) }} {{ l.copy() }}
{{ s.split('') }}
{{ s.index('zz') }}
{{ l.index(9) }}
{{ ','.join([1, 2]) }}
{{ s.startswith(1) }}
{{ s.replace('a') }}
{{ s.upper(1) }}
{{ s.strip(1) }}
{{ d.get() }}
{{ '{}'.format() }}
{{ '{x}'.format(y=1) }}
{{ '{'.format() }}
{{ '{:d}'.format('x') }}
{{ '%d' % 'x' }}
{{ '%s %s' % 'x' }}
{{ '%s' % (1, 2) }}
{{ '%(x)s' % {} }}
{{ 'a'.center(5, 'xx') }}
{{ s.split(1) }}
"""

GROUPS["filters"] = r"""
[{{ pad | trim }}] [{{ 'xxaxx' | trim('x') }}] [{{ 5 | trim }}] {{ s | upper }} {{ u | lower }} {{ s | title }} {{ "foo-bar (baz) [qux] it's" | title }} {{ 'hELLO wORLD' | capitalize }} {{ u | upper }} {{ none | upper }} {{ 12 | string + 'x' }}
{{ s | replace('l', 'L') }} {{ s | replace('l', 'L', 1) }} {{ 5 | replace(5, 6) }} {{ s | replace('o', 0) }} {{ s | replace(old='h', new='j') }}
{{ l | length }} {{ s | length }} {{ u | count }} {{ d | length }} {{ '' | length }} {{ undefined_name | length }} {{ range(5) | length }} {{ d.items() | length }}
{{ l | first }} {{ l | last }} {{ s | first }} {{ s | last }} {{ [] | first }} {{ [] | last }} {{ d | first }} {{ d | last }} {{ undefined_name | first }} {{ ([] | first) is defined }} {{ range(3) | last }}
{{ l | join }} {{ l | join(', ') }} {{ names | join('-') }} {{ [] | join('x') }} {{ users | join(', ', attribute='name') }} {{ 'abc' | join('.') }} {{ [1, none, [2]] | join(d='|') }} {{ undefined_name | join }}
{{ undefined_name | default }} {{ undefined_name | default('x') }} {{ '' | default('x') }} {{ '' | default('x', true) }} {{ none | d('x') }} {{ none | d('x', boolean=true) }} {{ d.q | d({}) }} {{ 0 | default(1, true) }}
{{ 'abc' | list }} {{ d | list }} {{ (1, 2) | list }} {{ range(3) | list }} {{ undefined_name | list }} {{ d | items | list }} {{ undefined_name | items | list }}
{{ l | sort }} {{ l | sort(reverse=true) }} {{ names | sort }} {{ names | sort(case_sensitive=true) }} {{ users | sort(attribute='age') | map(attribute='name') | list }} {{ users | sort(attribute='age,name') | map(attribute='name') | list }} {{ users | sort(true, attribute='age') | map(attribute='name') | list }} {{ 'hello' | sort }} {{ d.y | sort }} {{ [true, 0, 2.5] | sort }}
{{ {'b': 1, 'A': 3, 'c': 2} | dictsort }} {{ {'b': 1, 'A': 3} | dictsort(true) }} {{ {'b': 1, 'A': 3, 'c': 2} | dictsort(by='value') }} {{ {'b': 1, 'a': 3} | dictsort(reverse=true) }}
{{ [1, 2, 1, 'a', 'A', 1.0, true] | unique | list }} {{ names | unique | list }} {{ names | unique(case_sensitive=true) | list }} {{ users | unique(attribute='age') | map(attribute='name') | list }}
{{ l | reverse | list }} {{ s | reverse }} {{ u | reverse }} {{ d | reverse | list }} {{ range(3) | reverse | list }} {{ (l | map('string')) | reverse }}
{{ names | map('upper') | list }} {{ users | map(attribute='name') | list }} {{ users | map(attribute='city', default='?') | list }} {{ [[1, 2], [3]] | map('length') | list }} {{ [[1, 2], [3]] | map('join', '-') | list }} {{ nested | map(attribute=0) | list }} {{ nested | map('first') | list }} {{ users | map(attribute='zip') | list }} {{ none | map('upper') | list }} {{ tree | map(attribute='kids.0.n') | list }}
{{ [1, 2, 3, 4] | select('odd') | list }} {{ [0, 1, '', 'a', none] | select | list }} {{ [1, 2, 3] | reject('==', 2) | list }} {{ [1, 2, 3, 4] | select('divisibleby', 2) | list }} {{ [1, 2, 3] | select('in', [1, 3]) | list }} {{ names | select('eq', 'bob') | first }} {{ mixed | select('string') | list }} {{ [0, 1] | reject | list }} {{ [1, 5] | select('>', 2) | list }}
{{ users | selectattr('on') | map(attribute='name') | list }} {{ users | rejectattr('on') | map(attribute='name') | list }} {{ users | selectattr('age', 'gt', 20) | map(attribute='name') | join(',') }} {{ users | selectattr('city', 'defined') | list | length }} {{ users | rejectattr('city') | map(attribute='name') | list }} {{ users | selectattr('name', 'equalto', 'Ann') | list | last }} {{ users | selectattr('name', 'in', ['cy']) | first }}
{{ [1, 2, 3, 4, 5] | batch(2) | list }} {{ [1, 2, 3] | batch(2, 'x') | list }} {{ [1, 2, 3, 4, 5] | slice(3) | list }} {{ [1, 2, 3, 4] | slice(3, 0) | list }} {{ [] | batch(3) | list }} {{ 'abcde' | batch(2) | list }}
{% for g in users | groupby('city', default='none') %}{{ g.grouper }}={{ g.list | map(attribute='name') | join('+') }};{% endfor %} {% for k, v in users | groupby('age') %}{{ k }}:{{ v | length }} {% endfor %} {{ users | groupby('on') | map('first') | list }} {{ users | groupby('city', case_sensitive=true, default='x') | map(attribute='grouper') | list }}
{{ l | sum }} {{ [] | sum }} {{ [1, 2.5] | sum }} {{ users | sum(attribute='age') }} {{ l | sum(start=10) }} {{ [[1], [2]] | sum(start=[]) }} {{ l | min }} {{ l | max }} {{ names | min }} {{ names | max }} {{ users | max(attribute='age') }} {{ [] | min }} {{ ['B', 'a'] | min(case_sensitive=true) }} {{ [1, 1.0] | max }}
{{ -5 | abs }} {{ -2.5 | abs }} {{ true | abs }} {{ '42' | int }} {{ num | int }} {{ '4.9' | int }} {{ 'x' | int }} {{ 'x' | int(5) }} {{ 4.9 | int }} {{ -4.9 | int }} {{ none | int }} {{ '0x1F' | int(base=16) }} {{ '101' | int(0, 2) }} {{ '1_000' | int }} {{ '1e3' | int }} {{ true | int }} {{ '' | int }} {{ '-7' | int }} {{ '0x1f' | int }} {{ 'inf' | int(9) }} {{ '_1' | int }} {{ [] | int(3) }} {{ '0b11' | int(0, 0) }}
{{ '2.5' | float }} {{ 'x' | float }} {{ 'x' | float(1.5) }} {{ 3 | float }} {{ ' 1e3 ' | float }} {{ 'inf' | float }} {{ '-Infinity' | float }} {{ 'nan' | float }} {{ none | float }} {{ '.5' | float }} {{ '5.' | float }} {{ '1_0.5' | float }} {{ '1e400' | float }} {{ '0x10' | float }}
{{ 42.55 | round }} {{ 42.55 | round(1) }} {{ 2.5 | round }} {{ 3.5 | round }} {{ 42 | round }} {{ 42.123 | round(2, 'ceil') }} {{ 42.129 | round(2, 'floor') }} {{ -2.5 | round }} {{ 1.005 | round(2) }} {{ 5 | round(2, 'ceil') }} {{ 0.5 | round | int }} {{ true | round }} {{ 2.675 | round(2) }}
{{ 'a\nb\n\nc' | indent }}|{{ 'a\nb' | indent(2) }}|{{ 'a\nb\n\nc' | indent(2, true) }}|{{ 'a\n\nb' | indent(2, blank=true) }}|{{ 'a\nb' | indent('> ') }}|{{ 'a\n' | indent }}|{{ '' | indent(2, first=true) }}|
{{ 'foo bar baz qux' | truncate(9) }} {{ 'foo bar baz qux' | truncate(9, true) }} {{ 'foo bar baz qux' | truncate(11) }} {{ 'foo bar baz qux' | truncate(11, false, '...', 0) }} {{ u | truncate(8, true, '…', 0) }} {{ 'short' | truncate }}
[{{ 'ab' | center(6) }}] {{ '%s=%d' | format('x', 5) }} {{ '%(a)s' | format(a='b') }} {{ 'plain' | format }} {{ 5 | string | length }} {{ 'x' | attr('upper') is callable }} {{ d | attr('x') is defined }} {{ d | attr('get') is defined }}
{{ html | e }} {{ html | escape }} {{ '<' | safe }} {{ ('<' | safe) + '>' }} {{ '<' + ('>' | safe) }} {{ ['<' | safe] }} {{ ('<' | e) | e }} {{ ('<' | e) | forceescape }} {{ 5 | e }} {{ ('<b>' | safe) | upper }} {{ ('x' | safe) is escaped }} {{ ('<' | safe) ~ '<' }} {{ (html | safe) | length }} {{ ('a' | safe) * 2 is escaped }}
{{ s | upper | lower | title | replace('W', 'V') | list | join('.') }}
{% filter upper %}a{{ s }}b{% endfilter %} {% filter trim | replace('x', 'y') %}  xx  {% endfilter %} {% filter indent(2) %}a⏎b{% endfilter %}
{{ l | map('nofilter') | list }}
{{ l | map | list }}
{{ l | map(foo='bar') | list }}
{{ l | select('notest') | list }}
{{ l | selectattr | list }}
{{ 5 | length }}
{{ none | length }}
{{ 5 | list }}
{{ 5 | first }}
{{ l | map('upper') | last }}
{{ l | map('upper') | length }}
{{ (l | map('upper'))[0] is defined }}
{{ [1, 'a'] | sort }}
{{ ['a', 1] | min }}
{{ [none, 1] | max }}
{{ ['a'] | sum }}
{{ l | sum(start='') }}
{{ 'a' | abs }}
{{ 'a' | round }}
{{ 1 | round(1, 'up') }}
{{ undefined_name | int }}
{{ undefined_name | float }}
{{ undefined_name | abs }}
{{ undefined_name | indent }}
{{ 5 | indent }}
{{ 5 | items | list }}
{{ l | dictsort }}
{{ d | dictsort(by='x') }}
{{ [[1], [1]] | unique | list }}
{{ l | join(1, 2, 3) }}
{{ l | replace('x') }}
{{ l | nofilter }}
{{ l | nofilter if no else 'fine' }}
{% if no %}{{ l | nofilter }}{% else %}fine{% endif %}
{% if yes %}{{ l | nofilter }}{% endif %}
{% if no %}{% for x in l %}{{ l | nofilter }}{% endfor %}{% endif %}
{{ l | }}
{{ l | join( }}
{{ | upper }}
{{ 's' | truncate(1) }}
{{ (1e308 * 10) | int }}
"""

GROUPS["tojson"] = r"""
{{ d | tojson }} {{ u | tojson }} {{ [1, 2.0, 1e100, true, none, 'x\n"'] | tojson }} {{ (1, 2) | tojson }} {{ '' | tojson }} {{ [] | tojson }} {{ {} | tojson }} {{ html | tojson }}
{{ d | tojson(indent=2) }}
{{ users | tojson(indent=4) }}
{{ [1, [2, {'a': []}], {}] | tojson(indent=1) }}
{{ [1, {'a': 2}] | tojson(indent='\t') }}
{{ [1, {'a': 2}] | tojson(indent=0) }}
{{ u | tojson(ensure_ascii=true) }} {{ u | tojson(true) }} {{ '\x7f\x1f\u2028' | tojson }} {{ '\x7f\x1f\u2028' | tojson(ensure_ascii=true) }}
{{ d | tojson(separators=(',', ':')) }} {{ {'b': 1, 'a': {'d': 1, 'c': 2}} | tojson(sort_keys=true) }} {{ {'a': [1]} | tojson(indent=2, separators=(', ', ' = ')) }}
{{ {1: 'a', 2.5: 'b', true: 'c', none: 'd'} | tojson }} {{ {1: 1, 'a': 2} | tojson }}
{{ '🎉' | tojson }} {{ '\\ / \b \f \t' | tojson }} {{ [1e16, 0.1, -0.0, 1e-7] | tojson }} {{ (1e308 * 10) | tojson }} {{ ('nan' | float) | tojson }} {{ ('<' | safe) | tojson }}
{{ l | map('string') | list | tojson }} {{ d.y | items | list | tojson }} {{ d.keys() | list | tojson }}
{{ undefined_name | tojson }}
{{ [undefined_name] | tojson }}
{{ (l | map('string')) | tojson }}
{{ d.keys() | tojson }}
{{ range(3) | tojson }}
{{ {(1, 2): 3} | tojson }}
{{ {1: 1, 'a': 2} | tojson(sort_keys=true) }}
{{ d | tojson(2, 3, 4, 5, 6) }}
{{ d | tojson(nosuch=1) }}
{{ d | tojson(separators=',') }}
"""

GROUPS["tests"] = r"""
{{ a is defined }} {{ q is defined }} {{ q is undefined }} {{ q is not defined }} {{ d.x is defined }} {{ d.q is not defined }} {{ none is defined }} {{ nothing is none }} {{ a is not none }}
{{ s is string }} {{ a is string }} {{ d is mapping }} {{ l is mapping }} {{ l is iterable }} {{ s is iterable }} {{ a is iterable }} {{ d is iterable }} {{ q is iterable }} {{ none is iterable }} {{ l is sequence }} {{ s is sequence }} {{ d is sequence }} {{ a is sequence }} {{ q is sequence }} {{ d.keys() is sequence }} {{ d.keys() is iterable }} {{ (l | map('string')) is iterable }} {{ (l | map('string')) is sequence }}
{{ a is number }} {{ b is number }} {{ yes is number }} {{ s is number }} {{ a is integer }} {{ b is integer }} {{ yes is integer }} {{ b is float }} {{ a is float }} {{ yes is boolean }} {{ a is boolean }} {{ 1 is true }} {{ yes is true }} {{ no is false }} {{ 0 is false }} {{ none is boolean }}
{{ 3 is odd }} {{ 4 is even }} {{ 4 is odd }} {{ 2.0 is even }} {{ 9 is divisibleby 3 }} {{ 9 is divisibleby(2) }} {{ a is eq 7 }} {{ a is equalto(8) }} {{ a is ne 7 }} {{ a is lt 8 }} {{ a is gt(8) }} {{ a is le 7 }} {{ a is ge 7 }} {{ a is lessthan 9 }} {{ a is greaterthan 9 }} {{ a is == 7 }}
{{ 1 is in [1, 2] }} {{ 'x' is in 'xyz' }} {{ 3 is not in [1] }} {{ 'ABC' is upper }} {{ 'abc' is lower }} {{ 'Abc' is lower }} {{ '' is lower }} {{ 12 is lower }} {{ range is callable }} {{ s is callable }} {{ s.upper is callable }} {{ q is callable }} {{ none is sameas none }} {{ 1 is sameas true }} {{ l is sameas l }} {{ [] is sameas [] }} {{ yes is sameas true }}
{{ 'upper' is filter }} {{ 'nofilter' is filter }} {{ 'pprint' is filter }} {{ 'odd' is test }} {{ 'x' is test }} {{ ('x' | e) is escaped }} {{ 'x' is escaped }}
{{ a is defined and a > 3 }} {{ a is defined or q }} {{ 'y' if q is defined else 'n' }} {{ not q is defined }} {{ a is number + 1 if no else 2 }} {{ d.x is number and d.y is mapping }} {{ l[0] is odd }} {{ (a is odd) is true }} {{ a is not string and not a is mapping }}
{{ 'x' is odd }}
{{ none is even }}
{{ q is odd }}
{{ 1 is divisibleby 0 }}
{{ 1 is in 5 }}
{{ 1 is lt 'a' }}
{{ a is nosuchtest }}
{{ a is is defined }}
{{ a is defined is true }}
{{ a is }}
{{ a is divisibleby }}
{{ a is defined(1, 2) }}
{% if no and a is nosuchtest %}{% endif %}ok
"""

GROUPS["statements"] = r"""
{% if a %}yes{% endif %}{% if zero %}yes{% else %}no{% endif %}{% if zero %}1{% elif a %}2{% else %}3{% endif %}{% if q %}1{% elif zero %}2{% elif no %}3{% endif %}
{% if a > 3 and b < 3 %}both{% endif %}{% if not q %}none{% endif %}{% if l %}list{% endif %}{% if [] or {} or '' or 0.0 or () %}x{% else %}all false{% endif %}
{% for x in l %}{{ x }},{% endfor %}|{% for x in [] %}x{% else %}empty{% endfor %}|{% for c in 'abc' %}{{ c }}-{% endfor %}|{% for k in d.y %}{{ k }}{% endfor %}|{% for k, v in d.y.items() %}{{ k }}={{ v }}{% endfor %}|{% for x in q %}x{% else %}undefined{% endfor %}
{% for x in l if x > 1 %}{{ loop.index }}:{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}|{% for x in l if x > 9 %}x{% else %}none{% endfor %}|{% for a, b in [(1, 2), (3, 4)] if b > 2 %}{{ a }}{{ b }}{% endfor %}
{% for x in l %}{{ loop.index }} {{ loop.index0 }} {{ loop.revindex }} {{ loop.revindex0 }} {{ loop.first }} {{ loop.last }} {{ loop.length }} {{ loop.depth }} {{ loop.depth0 }};{% endfor %}
{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {{ loop.cycle('odd', 'even') }} {{ loop.previtem is defined }} {{ loop.nextitem is undefined }};{% endfor %}
{% for x in [1, 1, 2, 2, 1] %}{{ loop.changed(x) }} {% endfor %}{% for x in l %}{% if loop.changed() %}c{% endif %}{% endfor %}
{% for x in l | map('string') %}{{ loop.length }}{{ loop.last }}{{ x }} {% endfor %}{% for x in (l | select('odd')) %}{{ loop.revindex }}{{ loop.nextitem }};{% endfor %}
{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}{% for a, b in ['xy', [1, 2]] %}{{ a }}{{ b }} {% endfor %}{% for (k, v) in d.y | items %}{{ k }}{{ v }}{% endfor %}
{% for x in [1, 2, 3, 4] %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}|{% for x in [1] %}{% break %}{% else %}E{% endfor %}|{% for x in [1, 2] %}{% continue %}{% else %}E{% endfor %}|{% for x in [1, 2] %}{% if x == 2 %}{% break %}{% endif %}{% else %}E{% endfor %}
{% for x in l %}{% for y in 'ab' %}{{ loop.index }}{{ x }}{{ y }}{% if loop.last %}{% break %}{% endif %}{% endfor %}{{ loop.index }};{% endfor %}
{% for i in range(3) %}{{ i }}{% endfor %} {% for i in range(5, 0, -2) %}{{ i }}{% endfor %} {% for i in range(0) %}{% else %}none{% endfor %} {{ range(3) }} {{ range(1, 9, 2) }} {{ range(3) == range(0, 3) }} {{ range(5)[::2] | list if no else 1 }}
{% for n in tree recursive %}{{ n.n }}{{ loop.depth }}[{{ loop(n.kids) }}]{% endfor %}
{% for n in tree recursive %}{{ loop.index }}{{ n.n }}{% if n.kids %}({{ loop(n.kids) }}){% endif %}{% else %}-{% endfor %}
{% set x = 5 %}{{ x }}{% set x, y = 1, 2 %}{{ x }}{{ y }}{% set x = x + 1 %}{{ x }}{% set (p, q) = [8, 9] %}{{ p }}{{ q }}{% set z = 1, 2 %}{{ z }}{% set w = 'a' if no %}{{ w is defined }}
{% set x %}block {{ a }}{% endset %}[{{ x }}]{% set x | upper %}block{% endset %}[{{ x }}]{% set x | trim | replace('o', '0') %}  foo {% endset %}[{{ x }}] {{ x is string }}
{% set x = 1 %}{% for i in l %}{% set x = i %}{{ x }}{% endfor %}{{ x }}|{% if yes %}{% set x = 9 %}{% endif %}{{ x }}|{% for i in l %}{{ x }}{% set x = i %}{% endfor %}|{% for i in l %}{% if loop.first %}{% set f = i %}{% endif %}{{ f }}{% endfor %}{{ f }}
{% set ns = namespace(n=0, s='') %}{% for i in l %}{% set ns.n = ns.n + i %}{% set ns.s = ns.s ~ i %}{% endfor %}{{ ns.n }} {{ ns.s }} {{ ns.q is defined }} {{ ns['n'] }}{% set ns.new = [1] %}{{ ns.new }}{% set ns.a, ns.b = 1, 2 %}{{ ns.a }}{{ ns.b }}
{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{% set ns = namespace() %}{% set ns.x %}block{% endset %}{{ ns.x }}
{% with %}{% set x = 1 %}{{ x }}{% endwith %}{{ x is defined }}{% with x = 2, y = a %}{{ x }}{{ y }}{% endwith %}{% with x = 1 %}{% with y = x + 1 %}{{ y }}{% endwith %}{% endwith %}{% with a = a + 1, c = a %}{{ a }}{{ c }}{% endwith %}{{ a }}{% with x, y = (1, 2) %}{{ y }}{% endwith %}
{% print 1 %}{% print 'a', 'b' ~ a %}{# a comment {{ not run }} #}{#- another -#} {% raw %}{{ raw }} {% if %}{% endraw %}|{% raw -%}  x  {%- endraw %}|
{% if yes %}{% set t1 = 1 %}{% else %}{% set t2 = 2 %}{% endif %}{{ t1 }}{{ t2 is defined }}{% for x in [1] %}{% if x %}{% set inner = 1 %}{% endif %}{{ inner }}{% endfor %}{{ inner is defined }}
{% for x in l: %}{{ x }}{% endfor %}{% if yes: %}y{% endif %}
{% generation %}a{{ a }}{% set g = 1 %}{{ g }}{% endgeneration %}{{ g is defined }}{% for x in l %}{% generation %}{{ x }}{{ loop.index }}{% endgeneration %}{% endfor %}
{{ dict(a=1, b='x') }} {{ dict({'a': 1}, c=2) }} {{ dict([('k', 'v')]) }} {{ dict() }} {% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.current }} {% set j = joiner(', ') %}{{ j() }}1{{ j() }}2{{ j() }}3 {% set j = joiner() %}{{ j() }}x{{ j() }}
{{ strftime_now('%Y-%m-%d') }} {{ strftime_now('%d %b %Y') }} {{ strftime_now('%A, %B %-d, %H:%M:%S %p %j %%') }} {{ strftime_now('%f|%z|%Z|') }} {{ strftime_now('') }} {{ strftime_now is defined }} {{ raise_exception is callable }}
{% for m in [{'role': 'user', 'content': 'x'}] %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}bad{% else %}{{ m['role'] }}{% endif %}{% endfor %}
{{ raise_exception('told you so') }}
{% if a == 7 %}{{ raise_exception("a is " ~ a ~ ', "quoted"') }}{% endif %}
{% for x in l %}{% if x == 2 %}{{ raise_exception('at ' + x|string) }}{% endif %}{% endfor %}
{{ raise_exception(none) }}
{{ raise_exception(5) }}
{{ raise_exception() }}
{{ strftime_now() }}
{{ strftime_now(5) }}
{% for x in 5 %}{% endfor %}
{% for x in none %}{% endfor %}
{% for a, b in [1] %}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{% endfor %}
{% for a, b in [(1,)] %}{% endfor %}
{% set a, b = 1 %}
{% set d.x = 1 %}
{% set ns.x = 1 %}
{% set none = 1 %}
{% set 5 = 1 %}
{% set a.b.c = 1 %}
{% set a[0] = 1 %}
{% for loop in l %}{% endfor %}
{% for x in l %}{% set loop = 1 %}{% endfor %}
{% set loop = 1 %}{{ loop }}
{% for x in l %}{{ loop(x) }}{% endfor %}
{% for x in l %}{{ loop.nosuch }}{% endfor %}
{% for x in l %}{{ loop.cycle() }}{% endfor %}
{% set ns = namespace(_x=1) %}
{% set ns = namespace() %}{% set ns._x = 1 %}
{% break %}
{% for x in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}
{% continue %}
{% if %}{% endif %}
{% if a %}
{% endif %}
{% if a %}{% endfor %}
{% for x in l %}{% endif %}
{% else %}
{% for x l %}{% endfor %}
{% for x, in [(1,)] %}{% endfor %}
{% for %}{% endfor %}
{% nosuch %}
{% do l %}
{% set %}
{% set x %}
{% filter nosuch %}{% endfilter %}
{% raw %}
x{# never ends
x{#
{% a + 1 %}
{% if a }}{% endif %}
{{ a %}
{% with x %}{% endwith %}
{{ range(200000) }}
{{ range() }}
{{ range(1, 2, 0) }}
{{ range('a') }}
{{ range(3) | first }}{{ dict(5) }}
{{ cycler() }}
{{ caller() }}
"""

GROUPS["macros"] = r"""
{% macro m(a, b=2) %}[{{ a }} {{ b }}]{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(a=5) }}{{ m(b=1, a=0) }}{{ m() }}{{ m('x', b='y') }}
{% macro m(x, y=x) %}{{ x }}{{ y }}{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{% macro f(n) %}{{ n }}{% if n > 0 %},{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}
{% macro m() %}{{ varargs }} {{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}{% macro n(a) %}{{ a }}{{ varargs | join('-') }}{% for k, v in kwargs.items() %}{{ k }}{{ v }}{% endfor %}{% endmacro %}{{ n(1, 2, 3, z=4) }}
{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}body {{ a }}{% endcall %}{% macro t(items) %}{% for i in items %}{{ caller(i, loop.index) }}{% endfor %}{% endmacro %}{% call(x, n) t(l) %}({{ n }}:{{ x }}){% endcall %}{% call(x, n=0, z='d') t(l) %}{{ z }}{% endcall %}
{% set x = 1 %}{% macro m() %}{{ x }}{{ q is defined }}{% set x = 5 %}{{ x }}{% endmacro %}{{ m() }}{{ x }}{% set x = 2 %}{{ m() }}{% for x in l %}{{ m() }}{% endfor %}
{% macro outer() %}{% macro inner(v) %}i{{ v }}{% endmacro %}{{ inner(1) }}{{ inner(2) }}{% endmacro %}{{ outer() }}{{ inner is defined }}
{% macro m() %}  x  {% endmacro %}[{{ m() | trim }}][{{ m()|length }}]{{ m() is string }}{{ m is callable }}{{ m is defined }}{{ m }}
{% macro m(a) %}{{ a is defined }}{{ a }}{% endmacro %}{{ m() }}{{ m(none) }}{% set r = m(1) ~ m(2) %}{{ r }}
{% macro m(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ m(*[1, 2]) }}{{ m(**{'a': 3, 'b': 4}) }}{{ m(1, *[2]) }}{{ m(*'xy') }}{{ m(b=1, **{'a': 2}) }}
{% for i in l %}{% macro m() %}{{ i }}{{ loop.index }}{% endmacro %}{{ m() }};{% endfor %}
{% macro render(n, depth=0) %}{{ '  ' * depth }}{{ n.n }}⏎{% for k in n.kids %}{{ render(k, depth + 1) }}{% endfor %}{% endmacro %}{% for n in tree %}{{ render(n) }}{% endfor %}
{% macro m(caller=none) %}{{ caller is none }}{% if caller %}{{ caller() }}{% endif %}{% endmacro %}{{ m() }}{% call m() %}c{% endcall %}
{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}
{% macro _hidden(x) %}{{ x }}{% endmacro %}{{ _hidden(1) }}{% macro dup() %}1{% endmacro %}{% macro dup() %}2{% endmacro %}{{ dup() }}
{% macro m(kwargs) %}{{ kwargs }}{% endmacro %}{{ m(1) }}{% macro n(varargs=3) %}{{ varargs }}{% endmacro %}{{ n() }}
{{ later() }}{% macro later() %}x{% endmacro %}
{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{% endmacro %}{{ m(z=2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}
{% macro m() %}x{% endmacro %}{% call m() %}c{% endcall %}
{% macro m(a=1, b) %}{% endmacro %}
{% macro m(a, a) %}{% endmacro %}
{% macro m(a,) %}{% endmacro %}
{% macro m %}{% endmacro %}
{% macro 5() %}{% endmacro %}
{% macro m() %}
{% call m %}{% endcall %}
{% call 5 %}{% endcall %}
{% macro m(caller) %}{{ caller() }}{% endmacro %}
{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}
{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}
{% call range(3) %}x{% endcall %}
{{ m(1, b=2, 3) }}
{{ range(*1) }}
{{ dict(**1) }}
{{ dict(a=1, a=2) }}
{{ dict(a=1, **{'a': 2}) }}
"""

GROUPS["white space"] = r"""
a⏎{% if yes %}⏎b⏎{% endif %}⏎c
a⏎  {% if yes %}⏎  b⏎  {% endif %}⏎c
a {% if yes %} b {% endif %} c⏎
a⏎  {%- if yes %}⏎  b⏎  {%- endif %}⏎c
a⏎  {% if yes -%}⏎  b⏎  {% endif -%}⏎  c
a⏎  {%+ if yes %}⏎b⏎  {%+ endif %}⏎c
a⏎  {% if yes +%}⏎b{% endif +%}⏎c
  {% set x = 1 %}⏎  {{ x }}⏎  {{- x }}⏎  {{ x -}}⏎  y
  {{ 1 }}  {{- 2 -}}  {{ 3 }}⏎
⏎⏎{% set x = 1 %}⏎⏎⏎x⏎⏎
{# c #}⏎a⏎  {# c #}⏎b {# c #} c⏎  {#- c -#}⏎ d {#+ c +#}⏎e
a{# c -#}   b   {#- c #}c
{% for x in l %}⏎  {{ x }}⏎{% endfor %}⏎
{%- for x in l %}⏎  {{ x }}⏎{%- endfor %}⏎end
{% for x in l -%}⏎  {{ x }},⏎{%- endfor -%}⏎end
{% raw %}⏎ {{ x }} ⏎{% endraw %}⏎a⏎  {% raw %} x {% endraw %} b⏎  {%- raw -%} ⏎ x ⏎ {%- endraw -%} ⏎ c
  {% raw +%}x{% endraw +%}⏎y
x⏎	 {% if yes %}	⏎y⏎	{% endif %}z
x⏎ . {% if yes %}y{% endif %}⏎  {% if yes %}{% endif %}⏎z
{{- 'a' -}}{{+ 1 }}
{{-1}} {{ -1 }} {{--1}}
x⏎    {{ 'y' }}⏎    {%if yes%}z{%endif%}⏎
{%- if yes -%}{%- endif -%}
   {%- if yes %} a {%- else -%} b {% endif %}
a\t{% if yes %}b{% endif %}
{% if yes %}{# c #}{% endif %}⏎⏎{# c #}⏎⏎x
{% set x %}⏎  a⏎  {% if yes %}⏎  b⏎  {% endif %}⏎{% endset %}[{{ x }}]
{% macro m() %}⏎  a⏎{% endmacro %}⏎[{{ m() }}]⏎
{{ {'a': {'b': 1}}['a']['b'] }}{{ '}}' }}{{ '%}' }}{{ "{{" }}{% if '%}' == "%}" %}ok{% endif %}
a {{ 'x' }}⏎
a⏎{{ 'x' }}⏎⏎
{%if yes%}a{%elif no%}b{%else%}c{%endif%}{{1}}{{a}}{%set z=1%}{{z}}
{ { a } } { % if % } {{ '{' }} # {#x#} }} %} #}
{%   if   yes   %}  a  {%   endif   %}
{{ 1⏎+⏎2 }}{% if yes⏎and yes %}x{% endif⏎%}
{{'a'~⏎⏎'b'}}⏎⏎{% set⏎x⏎=⏎1⏎%}⏎{{x}}
 {%- set x = 1 -%} ⏎ {%- set y = 2 -%} ⏎ x
"""
