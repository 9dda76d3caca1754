"""Seeded generators for differential.py: conversations, variables, and small random templates."""

WORDS = ["hello", "Zürich", "  padded ", "", "a,b,,c", "naïve\ttab", "<|im_start|>system", "{{ no }}", "42", " 3.5e2 ", "日本語", "x\ny\n",
         'say "hi"', "it's", "</think>done", "ÀÉ mixed Case", "back\\slash", "-7", "end\n\n", "€ and 𝄞"]


def variables(rng):
    return {"s": rng.choice(WORDS), "t": rng.choice(WORDS), "n": rng.randint(-5, 12), "f": rng.choice([0.5, -2.25, 3.0, 1e20, 1e-7]),
            "l": [rng.choice(WORDS) for _ in range(rng.randint(0, 4))], "m": [rng.randint(-3, 9) for _ in range(rng.randint(0, 5))],
            "d": {rng.choice(["a", "b", "key", "Z"]): rng.choice([1, "v", None, True, [1, 2], {"q": 1.5}]) for _ in range(rng.randint(0, 4))},
            "u": None, "b": rng.random() < 0.5,
            "messages": [{"role": rng.choice(["user", "assistant"]), "content": rng.choice(WORDS)} for _ in range(rng.randint(0, 3))]}


def tool(rng):
    name = rng.choice(["get_weather", "add", "search"])
    properties = {key: {"type": rng.choice(["string", "number", "boolean"]), "description": rng.choice(WORDS)}
                  for key in rng.sample(["city", "a", "b", "query"], rng.randint(0, 3))}
    return {"type": "function", "function": {"name": name, "description": rng.choice(WORDS),
            "parameters": {"type": "object", "properties": properties, "required": list(properties)[:1]}}}


def conversation(rng):
    messages = []
    if rng.random() < 0.4:
        messages.append({"role": "system", "content": rng.choice(WORDS)})
    for turn in range(rng.randint(0, 5)):
        role = "user" if turn % 2 == 0 else "assistant"
        if rng.random() < 0.08:
            role = rng.choice(["user", "assistant", "tool", "system", "developer", "other"])
        message = {"role": role, "content": rng.choice(WORDS)}
        if role == "assistant" and rng.random() < 0.3:
            message["content"] = "<think>\n" + rng.choice(WORDS) + "\n</think>\n" + rng.choice(WORDS)
        if role == "assistant" and rng.random() < 0.3:
            message["tool_calls"] = [{"id": "call00001", "type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": rng.choice(WORDS)}}}
                                     for _ in range(rng.randint(1, 2))]
        if rng.random() < 0.05:
            message["content"] = None
        messages.append(message)
    context = {"messages": messages, "bos_token": "<s>", "eos_token": "</s>"}
    if rng.random() < 0.8:
        context["add_generation_prompt"] = rng.random() < 0.7
    if rng.random() < 0.4:
        context["tools"] = [tool(rng) for _ in range(rng.randint(1, 2))]
    if rng.random() < 0.3:
        context["enable_thinking"] = rng.random() < 0.5
    return context


def literal(rng):
    return rng.choice(["0", "1", "2", "-1", "7", "1.5", "2.0", "1e3", "true", "false", "none", "'ab'", "'A b'", '"x,y"', "''", "'%s'",
                       "[]", "[1, 2, 3]", "('a', 'b')", "{'a': 1, 'b': [2]}", "'é' 'x'", "10_000", "0x1f", "(1,)"])


NAMES = ["s", "t", "n", "f", "l", "m", "d", "u", "b", "messages", "missing"]
UNARY_FILTERS = ["trim", "length", "count", "tojson", "upper", "lower", "capitalize", "title", "first", "last", "list", "string",
                 "int", "float", "abs", "round", "sort", "join", "dictsort", "default", "d('x')", "default('y', true)",
                 "join(', ')", "tojson(indent=2)", "tojson(ensure_ascii=true)", "replace('a', 'bb')", "indent(2)", "indent(3, true)",
                 "map('upper')|list", "map(attribute='role')|list", "select|list", "reject('none')|list", "select('odd')|list",
                 "selectattr('role', 'equalto', 'user')|list", "rejectattr('content')|list", "sort(reverse=true)", "round(1)", "round(0, 'floor')",
                 "unique|list", "reverse|list", "items|list", "map('string')|join('-')", "trim('a ')", "int(5)", "wordcount", "min", "max", "sum",
                 "format(1)", "tojson(sort_keys=true)", "tojson(separators=(',', ':'))", "dictsort(reverse=true)",
                 "sort(attribute='content')", "map(attribute='nope', default='-')|list", "dictsort(by='value')"]
TESTS = ["defined", "undefined", "none", "string", "number", "mapping", "sequence", "iterable", "boolean", "true", "false", "integer",
         "float", "odd", "even", "divisibleby 3", "divisibleby(2)", "equalto 1", "== 'ab'", "in [1, 2, 'ab']", "in s", "lower", "upper", "callable",
         "eq(n)", "ge 2", "lt 1", "ne none"]
METHODS = ["strip()", "lstrip()", "rstrip('a \\n')", "split()", "split(',')", "split(' ', 1)", "startswith('a')", "endswith(('b', ' '))",
           "replace('a', 'Z')", "replace('', '-')", "replace('a', 'b', 1)", "upper()", "lower()", "title()", "capitalize()", "find('b')",
           "count('a')", "join(l)", "items()", "keys()|list", "values()|list", "get('a')", "get('q', 3)", "get('a', {}).q", "splitlines()",
           "rsplit(',', 1)", "removeprefix('a')", "removesuffix('b')", "isdigit()", "isalpha()", "format(n)", "index(1)", "rfind('a')", "a", "b[0]",
           "islower()", "isupper()", "append(1)", "split('</think>')[-1]", "isspace()", "isalnum()", "find('a', 1)"]
SLICES = ["[0]", "[-1]", "[1:]", "[:-1]", "[::-1]", "[::2]", "[1:3]", "[-2:]", "['a']", "[n]", "[:n]", "[n::-1]", "[9]", "[-9:9]", "[::-2]", "['role']", "[s]"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]


def expression(rng, depth=3):
    if depth == 0 or rng.random() < 0.12:
        return rng.choice(NAMES) if rng.random() < 0.6 else literal(rng)
    inner = lambda: expression(rng, depth - 1)
    kind = rng.randrange(13)
    if kind < 3:
        return f"({inner()}) {rng.choice(OPERATORS)} {inner()}"
    if kind < 5:
        return f"({inner()})|{rng.choice(UNARY_FILTERS)}"
    if kind < 7:
        return f"({inner()}).{rng.choice(METHODS)}"
    if kind == 7:
        return f"({inner()}){rng.choice(SLICES)}"
    if kind == 8:
        return f"({inner()}) is {rng.choice(['', 'not '])}{rng.choice(TESTS)}"
    if kind == 9:
        return f"({inner()} if {inner()} else {inner()})"
    if kind == 10:
        return rng.choice(["not ", "-", "+"]) + inner()
    if kind == 11:
        return rng.choice([f"[{inner()}, {inner()}]", f"{{'k': {inner()}, 1: {inner()}}}", f"({inner()}, {inner()})", f"range({inner()})|list",
                           f"dict(x={inner()})", f"{inner()} < {inner()} <= {inner()}", f"'%s|%d' % ({inner()}, {inner()})", f"{inner()} ** 2",
                           f"'{{}}-{{}}'.format({inner()}, {inner()})", f"namespace(x={inner()}).x", f"({inner()} if {inner()})"])
    return f"{inner()} {rng.choice(OPERATORS)} {inner()} {rng.choice(OPERATORS)} {inner()}"


def tag(rng, text):
    return rng.choice(["{%", "{%-", "{%+"]) + " " + text + " " + rng.choice(["%}", "-%}", "%}", "+%}"])


def block(rng, depth):
    e = lambda: expression(rng, 2)
    body = lambda: blocks(rng, depth - 1)
    kind = rng.randrange(12)
    if kind < 4 or depth == 0:
        return rng.choice(["{{", "{{-"]) + " " + expression(rng) + " " + rng.choice(["}}", "-}}"])
    if kind == 4:
        return rng.choice(["text", "  \n", "\n\n  ", "{# note #}\n", "{#- note -#} ", "{% raw %}{{ x }}{% endraw %}\n", "\t{% raw -%} {% {%- endraw -%} \n"])
    if kind == 5:
        return tag(rng, "if " + e()) + body() + rng.choice(["", tag(rng, "elif " + e()) + body()]) + tag(rng, "else") + body() + tag(rng, "endif")
    if kind == 6:
        shown = rng.choice(["loop.index", "loop.first", "loop.last", "loop.revindex0", "loop.length", "loop.previtem", "loop.nextitem", "x",
                            "loop.cycle('a', 'b')", "loop.depth"])
        condition = rng.choice(["", "", " if x", " if x is string"])
        leave = rng.choice(["", "", tag(rng, "if loop.index > 2") + tag(rng, rng.choice(["break", "continue"])) + tag(rng, "endif")])
        otherwise = rng.choice(["", tag(rng, "else") + body()])
        return tag(rng, f"for x in {rng.choice(['l', 'm', 's', 'd', 'messages', 'range(3)', e()])}{condition}") + leave + "{{ " + shown + " }}" + body() + otherwise + tag(rng, "endfor")
    if kind == 7:
        return tag(rng, "for k, v in " + rng.choice(["d.items()", "d|items", "d|dictsort", "[(1, 2)]", e()])) + "{{ k }}={{ v }};" + tag(rng, "endfor")
    if kind == 8:
        return tag(rng, f"set {rng.choice(['s', 'n', 'y'])} = {e()}")
    if kind == 9:
        return tag(rng, "set y" + rng.choice(["", " | upper", " | trim | length"])) + body() + tag(rng, "endset") + "{{ y }}"
    if kind == 10:
        return tag(rng, f"set ns = namespace(c={e()})") + tag(rng, "for x in m") + tag(rng, "set ns.c = " + rng.choice(["ns.c + x", "x", "ns.c ~ x"])) + tag(rng, "endfor") + "{{ ns.c }}"
    return (tag(rng, f"macro go(a, p={e()}, q='z')") + "<{{ a }}|{{ p }}|{{ q }}>" + body() + tag(rng, "endmacro") +
            rng.choice(["{{ go(1) }}", "{{ go(s, q=n) }}", "{{ go() }}", "{{ go(1, 2, 3) }}", "{{ go(1, nope=2) }}", "{{ go(q=1, a=s)|upper }}", "{{ go(1,2,3,4) }}"]))


def blocks(rng, depth):
    return "".join(block(rng, depth) + rng.choice(["", "", "\n", "  ", " \n  ", "-"]) for _ in range(rng.randint(1, 2)))


def template(rng):
    if rng.random() < 0.5:
        return "{{ " + expression(rng) + " }}"
    return blocks(rng, 2)
