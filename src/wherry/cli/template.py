"""``--format``: the part of Go's text/template that docker's users write, carried out on JSON values.

There: fields (``{{.State.Pid}}``), ``if else with range end``, ``$name := ``, pipelines, parentheses, trim markers,
comments, and docker's functions ``json join split lower upper title println index len eq ne lt gt and or not printf
truncate pad``. Not there: ``define``, ``template`` and ``block``, calls of methods. A template reads values and makes
text; nothing in it can reach anything else.

Source: Go's package text/template; docker's "Format command and log output".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from wherry.core.errors import UsageError

MAX_CHARS = 16 * 1024
MAX_DEPTH = 32
MAX_OUTPUT_CHARS = 16 * 1024 * 1024
NO_VALUE = "<no value>"

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)
  | (?P<number>-?\d+(?:\.\d+)?)
  | (?P<field>\.[A-Za-z_]\w*)
  | (?P<variable>\$\w*)
  | (?P<word>[A-Za-z_]\w*)
  | (?P<mark>:=|[().|,=])
  )""",
    re.VERBOSE,
)

Node = tuple[Any, ...]
_ABSENT = object()


class Template:
    """A template that was read.

    Args:
        text: as it was typed; ``\\t`` and ``\\n`` in it are a tab and a line's end, as docker takes them.

    Raises:
        UsageError: it is malformed, or uses what is not there.
    """

    def __init__(self, text: str) -> None:
        if len(text) > MAX_CHARS:
            raise UsageError(f"--format: longer than {MAX_CHARS} characters")
        self._parser = _Parser(text.replace("\\t", "\t").replace("\\n", "\n"))
        self._nodes = self._parser.block(0)
        self._parser.finish()

    def render(self, value: Any) -> str:
        """Returns the text for one value.

        Raises:
            UsageError: it asks for a field that the value does not have.
        """
        run = _Run(value)
        run.block(self._nodes, value)
        return "".join(run.out)

    def fields(self) -> list[str]:
        """Returns the names of the fields that are printed, for the head of a table."""
        return self._parser.printed


def _wrong(text: str, hint: str | None = None) -> UsageError:
    return UsageError(f"--format: {text}", hint=hint)


def _pieces(text: str) -> list[tuple[str, str]]:
    """Splits a template into ``("text", ...)`` and ``("action", ...)``."""
    found: list[tuple[str, str]] = []
    trim = False
    while True:
        before, opened, rest = text.partition("{{")
        if trim:
            before = before.lstrip()
        if opened and rest.startswith(("- ", "-\n", "-\t")):
            before, rest = before.rstrip(), rest[1:]
        found.append(("text", before))
        if not opened:
            return found
        end = _end_of_action(rest)
        action, text = rest[:end], rest[end + 2 :]
        trim = action.endswith((" -", "\n-", "\t-"))
        if trim:
            action = action[:-1]
        if not action.strip().startswith("/*"):
            found.append(("action", action.strip()))


def _end_of_action(text: str) -> int:
    quote = ""
    index = 0
    while index < len(text):
        char = text[index]
        if quote:
            if char == "\\" and quote == '"':
                index += 1
            elif char == quote:
                quote = ""
        elif char in '"`':
            quote = char
        elif text.startswith("}}", index):
            return index
        index += 1
    raise _wrong("an action is not closed", "write {{.Name}}")


class _Parser:
    """Reads the pieces into nodes: text, print, set, if, range, with."""

    def __init__(self, text: str) -> None:
        self._pieces = _pieces(text)
        self._next = 0
        self._ended_by = ""
        self.printed: list[str] = []

    def finish(self) -> None:
        if self._ended_by:
            raise _wrong(f"{self._ended_by!r} without a beginning")

    def block(self, depth: int) -> list[Node]:
        """Reads until ``end``, ``else`` or the end of all; `_ended_by` says which."""
        if depth > MAX_DEPTH:
            raise _wrong("nested too deeply")
        nodes: list[Node] = []
        self._ended_by = ""
        while self._next < len(self._pieces):
            kind, text = self._pieces[self._next]
            self._next += 1
            if kind == "text":
                if text:
                    nodes.append(("text", text))
                continue
            word = text.split(None, 1)[0] if text else ""
            if word in ("end", "else"):
                self._ended_by = text
                return nodes
            if word in ("if", "range", "with"):
                nodes.append(self._control(word, text[len(word) :], depth))
            elif word in ("define", "template", "block"):
                raise _wrong(f"{word!r} is not supported")
            else:
                name, expression = _action(text)
                if name:
                    nodes.append(("set", name, expression))
                else:
                    nodes.append(("print", expression))
                    self.printed.append(_title(expression))
        return nodes

    def _control(self, word: str, head: str, depth: int) -> Node:
        names: list[str] = []
        if word == "range" and ":=" in head:
            left, _, head = head.partition(":=")
            names = [name.strip() for name in left.split(",")]
            if not all(re.fullmatch(r"\$\w+", name) for name in names) or len(names) > 2:
                raise _wrong(f"not variables: {left.strip()!r}")
        _, expression = _action(head.strip())
        body = self.block(depth + 1)
        other: list[Node] = []
        if self._ended_by.startswith("else"):
            rest = self._ended_by[4:].strip()
            if rest.startswith("if"):
                other = [self._control("if", rest[2:], depth + 1)]
                return ("if" if word == "if" else word, expression, body, other, names)
            other = self.block(depth + 1)
        if self._ended_by != "end":
            raise _wrong(f"{word!r} without 'end'")
        self._ended_by = ""
        return (word, expression, body, other, names)


def _title(expression: Node) -> str:
    """Returns the last field that an expression reads."""
    if expression[0] == "field" and expression[2]:
        return str(expression[2][-1])
    for part in expression[1:]:
        for item in part if isinstance(part, list) else [part]:
            if isinstance(item, tuple) and (found := _title(item)):
                return found
    return ""


def _action(text: str) -> tuple[str, Node]:
    tokens: list[tuple[str, str, bool]] = []
    place = 0
    while place < len(text.rstrip()):
        match = _TOKEN.match(text, place)
        if match is None:
            raise _wrong(f"not understood: {text[place:].strip()[:40]!r}")
        kind = match.lastgroup or ""
        tokens.append((kind, match[kind], match.start(kind) == place and place > 0))
        place = match.end()
    name = ""
    if len(tokens) > 2 and tokens[0][0] == "variable" and tokens[1][1] in (":=", "="):
        name = tokens[0][1]
        tokens = tokens[2:]
    reader = _Reader(tokens)
    expression = reader.pipeline(0)
    if reader.left():
        raise _wrong(f"not understood: {reader.left()[0][1]!r}")
    return name, expression


class _Reader:
    """Reads the tokens of one action."""

    def __init__(self, tokens: list[tuple[str, str, bool]]) -> None:
        self._tokens = tokens
        self._at = 0

    def left(self) -> list[tuple[str, str, bool]]:
        return self._tokens[self._at :]

    def _peek(self) -> tuple[str, str, bool]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("", "", False)

    def pipeline(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise _wrong("nested too deeply")
        value = self._command(depth, None)
        while self._peek()[1] == "|" and self._peek()[0] == "mark":
            self._at += 1
            value = self._command(depth, value)
        return value

    def _command(self, depth: int, piped: Node | None) -> Node:
        kind, text, _ = self._peek()
        if kind == "word" and text not in ("true", "false", "nil"):
            self._at += 1
            if text not in _FUNCTIONS:
                raise _wrong(f"no function {text!r}", f"there are {', '.join(sorted(_FUNCTIONS))}")
            arguments = []
            while self._peek()[0] and not (self._peek()[0] == "mark" and self._peek()[1] in ")|"):
                arguments.append(self._operand(depth))
            if piped is not None:
                arguments.append(piped)
            return ("call", text, arguments)
        if piped is not None:
            raise _wrong(f"not a function: {text!r}")
        return self._operand(depth)

    def _operand(self, depth: int) -> Node:
        kind, text, _ = self._peek()
        self._at += 1
        if kind == "string":
            return ("value", text[1:-1] if text[0] == "`" else _unquoted(text))
        if kind == "number":
            return ("value", float(text) if "." in text else int(text))
        if kind == "word" and text in ("true", "false", "nil"):
            return ("value", {"true": True, "false": False, "nil": None}[text])
        if kind == "field":
            return ("field", ("dot",), [text[1:], *self._fields()])
        if kind == "variable":
            return ("field", ("variable", text), self._fields())
        if kind == "mark" and text == ".":
            return ("dot",)
        if kind == "mark" and text == "(":
            inner = self.pipeline(depth + 1)
            if self._peek()[1] != ")":
                raise _wrong("a parenthesis is not closed")
            self._at += 1
            fields = self._fields()
            return ("field", inner, fields) if fields else inner
        if kind == "word":
            raise _wrong(f"not an argument: {text!r}", "put a function with arguments into parentheses")
        raise _wrong("an expression is missing" if not kind else f"not understood: {text!r}")

    def _fields(self) -> list[str]:
        found = []
        while self._peek()[0] == "field" and self._peek()[2]:
            found.append(self._peek()[1][1:])
            self._at += 1
        return found


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        raise _wrong(f"not a string: {text}") from None


class _Run:
    """Carries nodes out."""

    def __init__(self, value: Any) -> None:
        self._variables: dict[str, Any] = {"$": value}
        self.out: list[str] = []
        self._size = 0

    def _put(self, text: str) -> None:
        self._size += len(text)
        if self._size > MAX_OUTPUT_CHARS:
            raise _wrong("makes too much text")
        self.out.append(text)

    def block(self, nodes: Iterable[Node], dot: Any) -> None:
        for node in nodes:
            kind = node[0]
            if kind == "text":
                self._put(node[1])
            elif kind == "print":
                self._put(text_of(self._value(node[1], dot)))
            elif kind == "set":
                self._variables[node[1]] = self._value(node[2], dot)
            elif kind == "range":
                self._range(node, dot)
            else:
                value = self._value(node[1], dot)
                if _true(value):
                    self.block(node[2], value if kind == "with" else dot)
                else:
                    self.block(node[3], dot)

    def _range(self, node: Node, dot: Any) -> None:
        _, expression, body, other, names = node
        value = self._value(expression, dot)
        if isinstance(value, Mapping):
            items = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, list | tuple):
            items = list(enumerate(value))
        elif value is None or value is _ABSENT:
            items = []
        else:
            raise _wrong(f"range cannot go over {text_of(value)!r}")
        for key, item in items:
            if len(names) == 2:
                self._variables[names[0]] = key
            if names:
                self._variables[names[-1]] = item
            self.block(body, item)
        if not items:
            self.block(other, dot)

    def _value(self, node: Node, dot: Any) -> Any:
        kind = node[0]
        if kind == "dot":
            return dot
        if kind == "value":
            return node[1]
        if kind == "variable":
            if node[1] not in self._variables:
                raise _wrong(f"no variable {node[1]}")
            return self._variables[node[1]]
        if kind == "field":
            value = self._value(node[1], dot)
            for name in node[2]:
                value = _field(value, name)
            return value
        arguments = [self._value(item, dot) for item in node[2]]
        try:
            return _FUNCTIONS[node[1]](*arguments)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise _wrong(f"{node[1]}: {error}") from None


def _field(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        if name in value:
            return value[name]
        if value and name[:1].isupper() and all(str(key)[:1].isupper() for key in list(value)[:1]):
            raise _wrong(f"no field {name!r}", f"there are {', '.join(map(str, value))}"[:300])
        return _ABSENT
    if value is None or value is _ABSENT:
        return _ABSENT
    raise _wrong(f"{text_of(value)[:40]!r} has no field {name!r}")


def text_of(value: Any) -> str:
    """Returns a value as Go prints it by default."""
    if value is _ABSENT:
        return NO_VALUE
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{key}:{text_of(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list | tuple):
        return f"[{' '.join(map(text_of, value))}]"
    return str(value)


def _true(value: Any) -> bool:
    return value is not _ABSENT and bool(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key, _ABSENT)
        elif isinstance(value, list | tuple) and isinstance(key, int):
            if not 0 <= key < len(value):
                raise ValueError(f"index out of range: {key}")
            value = value[key]
        else:
            raise ValueError(f"cannot index {text_of(value)[:40]!r} by {key!r}")
    return value


def _printf(form: str, *values: Any) -> str:
    rest = list(values)

    def replace(match: re.Match[str]) -> str:
        if match[2] == "%":
            return "%"
        if not rest:
            return f"%!{match[2]}(MISSING)"
        value = rest.pop(0)
        text = json.dumps(text_of(value)) if match[2] == "q" else text_of(value)
        if match[2] in "fx" and isinstance(value, int | float):
            text = ("%" + match[1] + match[2]) % value
        width = re.match(r"-?\d{1,4}", match[1])
        count = abs(int(width[0])) if width else 0
        return text.ljust(count) if match[1].startswith("-") else text.rjust(count)

    return re.sub(r"%([-+ 0]?\d{0,4}(?:\.\d{1,2})?)([sdvqfxt%])", replace, form)


def _truncate(text: Any, count: int) -> str:
    return text_of(text)[:count]


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": lambda value: json.dumps(None if value is _ABSENT else value, ensure_ascii=False, separators=(",", ":")),
    "join": lambda items, separator: str(separator).join(map(text_of, items or ())),
    "split": lambda text, separator: str(text).split(separator),
    "lower": lambda text: text_of(text).lower(),
    "upper": lambda text: text_of(text).upper(),
    "title": lambda text: text_of(text).title(),
    "pad": lambda text, before, after: " " * min(before, 200) + text_of(text) + " " * min(after, 200),
    "truncate": _truncate,
    "println": lambda *items: " ".join(map(text_of, items)) + "\n",
    "print": lambda *items: "".join(map(text_of, items)),
    "printf": _printf,
    "index": _index,
    "len": len,
    "eq": lambda first, *others: any(first == other for other in others),
    "ne": lambda first, second: first != second,
    "lt": lambda first, second: first < second,
    "le": lambda first, second: first <= second,
    "gt": lambda first, second: first > second,
    "ge": lambda first, second: first >= second,
    "and": lambda *items: next((item for item in items if not _true(item)), items[-1]),
    "or": lambda *items: next((item for item in items if _true(item)), items[-1]),
    "not": lambda item: not _true(item),
}


def print_rows(form: str, rows: Sequence[Mapping[str, Any]], heads: Mapping[str, str]) -> None:
    """Prints rows by docker's ``--format``: ``json``, a template, or ``table`` and a template.

    Args:
        form: as it was typed.
        rows: docker's fields of each.
        heads: the title of each field's column, where it is not its name in capitals.

    Raises:
        UsageError: the template is malformed.
    """
    if form == "json":
        for row in rows:
            print(json.dumps(row, ensure_ascii=False, separators=(",", ":")))
        return
    table = form.startswith("table ")
    template = Template(form.removeprefix("table ").strip() if table else form)
    lines = [template.render(row) for row in rows]
    if not table:
        for line in lines:
            print(line)
        return
    from wherry.cli.output import print_table

    cells = [line.split("\t") for line in lines]
    titles = [heads.get(name, re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).upper()) for name in template.fields()]
    count = max([len(titles), *map(len, cells)])
    print_table(
        [*titles, *[""] * (count - len(titles))], [[*row, *[""] * (count - len(row))] for row in cells], shrink=None
    )
