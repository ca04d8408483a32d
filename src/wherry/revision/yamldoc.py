"""YAML from outside, read strictly and with the place of everything.

Works on PyYAML's node graph and never constructs Python objects, so that no tag does anything, and so that a
scalar is the text that stands in the file: ``22:22`` stays a port and ``1.10`` a version, whatever YAML 1.1 makes
of them. Refused by line: duplicate keys, more than one document, explicit tags but those that the caller names,
anything that is too long, too deep, or grows too large through aliases. Merge keys (``<<``) are resolved as YAML 1.1
says.

Budget: some 10 µs for a byte; documents are bounded by ``MAX_YAML_BYTES``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches

import yaml
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from wherry.core.errors import InvalidInput

MAX_YAML_BYTES = 256 * 1024
MAX_DEPTH = 24
MAX_NODES = 20_000
"""Nodes visited, each time that an alias leads to them."""
MAX_SCALAR_CHARS = 64 * 1024

_PREFIX = "tag:yaml.org,2002:"
_MERGE = _PREFIX + "merge"
_KNOWN_TAGS = frozenset(
    _PREFIX + name for name in ("null", "bool", "int", "float", "str", "timestamp", "value", "merge", "seq", "map")
)


class _Loader(yaml.SafeLoader):
    """PyYAML's reader, with limits on depth and number, and with those explicit tags alone that are allowed.

    Such a tag goes into `tags`, by the node; the node has the tag that it would have without.
    """

    def __init__(self, text: str, where: object, allowed: frozenset[str]) -> None:
        super().__init__(text)
        self._where = where
        self._allowed = allowed
        self.tags: dict[int, str] = {}
        self._depth = 0
        self._count = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        place = _at(self._where, event.start_mark.line, event.start_mark.column)
        self._depth += 1
        self._count += 1
        if self._depth > MAX_DEPTH:
            raise InvalidInput(f"nested deeper than {MAX_DEPTH} levels", where=place)
        if self._count > MAX_NODES:
            raise InvalidInput(f"more than {MAX_NODES} values in one document", where=place)
        tag = None if isinstance(event, AliasEvent) else getattr(event, "tag", None)
        if tag is not None and tag not in self._allowed:
            raise InvalidInput(f"a YAML tag is not supported here: {str(tag)[:60]}", where=place)
        node: Node | None = super().compose_node(parent, index)
        if tag is not None and node is not None:
            self.tags[id(node)] = tag
            implicit = (True, False) if isinstance(node, ScalarNode) and not node.style else (False, True)
            node.tag = self.resolve(type(node), node.value if isinstance(node, ScalarNode) else None, implicit)  # type: ignore[no-untyped-call]
        self._depth -= 1
        return node


@dataclass(slots=True)
class _Budget:
    """What is left to visit, shared by all values of a document."""

    nodes: int = MAX_NODES
    tags: dict[int, str] = field(default_factory=dict)
    """The allowed tags that stand in the document, by the id of their node."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a document: its node, its place in the file, and its path for messages.

    ``path`` is as people write it: ``services.web.ports[0]``.
    """

    node: Node
    path: str
    where: object
    budget: _Budget
    depth: int = 0

    @property
    def place(self) -> str:
        """``compose.yaml:12:5``: file, line and column, counted from one."""
        return _at(self.where, self.node.start_mark.line, self.node.start_mark.column)

    def wrong(self, what: str, *, hint: str | None = None) -> InvalidInput:
        """Returns the error that says what is wrong with this value."""
        return InvalidInput(f"{self.path}: {what}" if self.path else what, where=self.place, hint=hint)

    @property
    def tag(self) -> str:
        """The explicit tag that stands before it, as ``!reset``; "" without one."""
        return self.budget.tags.get(id(self.node), "")

    @property
    def is_null(self) -> bool:
        """Whether it is empty, ``~`` or ``null``."""
        return isinstance(self.node, ScalarNode) and self.node.tag == _PREFIX + "null"

    @property
    def is_scalar(self) -> bool:
        """Whether it is text, a number, a truth value or null."""
        return isinstance(self.node, ScalarNode)

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return isinstance(self.node, SequenceNode)

    @property
    def is_map(self) -> bool:
        """Whether it is a mapping."""
        return isinstance(self.node, MappingNode)

    def raw(self) -> str:
        """Returns a scalar as it stands in the file.

        Raises:
            InvalidInput: it is null, a list or a mapping, or too long.
        """
        if not isinstance(self.node, ScalarNode):
            raise self.wrong(f"must be text, not {self._kind()}")
        if self.is_null:
            raise self.wrong("has no value")
        text: str = self.node.value
        if len(text) > MAX_SCALAR_CHARS:
            raise self.wrong(f"longer than {MAX_SCALAR_CHARS} characters")
        if "\0" in text:
            raise self.wrong("holds a zero byte")
        return text

    def boolean(self) -> bool:
        """Returns a truth value (unquoted ``true`` or ``false``).

        Raises:
            InvalidInput: it is anything else.
        """
        if isinstance(self.node, ScalarNode) and self.node.tag == _PREFIX + "bool":
            return self.node.value.lower() in ("true", "yes", "on")
        raise self.wrong("must be true or false")

    def items(self) -> Iterator[Value]:
        """Gives the items of a list.

        Raises:
            InvalidInput: it is not a list.
        """
        if not isinstance(self.node, SequenceNode):
            raise self.wrong(f"must be a list, not {self._kind()}")
        for index, item in enumerate(self.node.value):
            yield self._child(item, f"{self.path}[{index}]")

    def entries(self) -> Iterator[tuple[str, Value, Value]]:
        """Gives key, the key as a value (for its place), and value of each entry of a mapping, ``<<`` resolved.

        Raises:
            InvalidInput: it is not a mapping; a key stands twice or is not text.
        """
        own: dict[str, tuple[Node, Node]] = {}
        merged: dict[str, tuple[Node, Node]] = {}
        self._collect(self.node, own, merged, 0)
        for key, (key_node, node) in {**merged, **own}.items():
            path = f"{self.path}.{key}" if self.path else key
            yield key, self._child(key_node, path), self._child(node, path)

    def fields(self, known: frozenset[str], elsewhere: dict[str, str] | None = None) -> dict[str, Value]:
        """Returns the entries of a mapping whose keys are all known; those that begin with ``x-`` are left out.

        Args:
            known: the keys that there are.
            elsewhere: keys that exist but are not supported, each with its hint.

        Raises:
            InvalidInput: a key is unknown; with its line, and a guess at what was meant.
        """
        found: dict[str, Value] = {}
        for key, place, value in self.entries():
            if key.startswith("x-"):
                continue
            if key in known:
                found[key] = value
            elif elsewhere is not None and key in elsewhere:
                raise place.wrong("Wherry does not support this key", hint=elsewhere[key] or None)
            else:
                raise place.wrong("unknown key", hint=did_you_mean(key, known))
        return found

    def _collect(
        self, node: Node, own: dict[str, tuple[Node, Node]], merged: dict[str, tuple[Node, Node]], level: int
    ) -> None:
        here = Value(node, self.path, self.where, self.budget, self.depth)
        if not isinstance(node, MappingNode):
            raise here.wrong(f"must be a mapping (key: value), not {here._kind()}")
        if level > MAX_DEPTH:
            raise here.wrong("merges too deeply")
        for key_node, value_node in node.value:
            self._spend(key_node)
            if key_node.tag == _MERGE:
                sources = value_node.value if isinstance(value_node, SequenceNode) else [value_node]
                for source in sources:  # the first source wins over later ones
                    theirs: dict[str, tuple[Node, Node]] = {}
                    below: dict[str, tuple[Node, Node]] = {}
                    self._collect(source, theirs, below, level + 1)
                    for key, pair in {**below, **theirs}.items():
                        merged.setdefault(key, pair)
                continue
            if not isinstance(key_node, ScalarNode):
                raise Value(key_node, self.path, self.where, self.budget).wrong("a key must be text")
            key = key_node.value
            if key in own:
                raise Value(key_node, f"{self.path}.{key}" if self.path else key, self.where, self.budget).wrong(
                    f"key stands twice, first on line {own[key][0].start_mark.line + 1}"
                )
            own[key] = (key_node, value_node)

    def _child(self, node: Node, path: str) -> Value:
        self._spend(node)
        child = Value(node, path, self.where, self.budget, self.depth + 1)
        if child.depth > MAX_DEPTH:
            raise child.wrong(f"nested deeper than {MAX_DEPTH} levels")
        return child

    def _spend(self, node: Node) -> None:
        self.budget.nodes -= 1
        if self.budget.nodes < 0:
            place = _at(self.where, node.start_mark.line, node.start_mark.column)
            raise InvalidInput(
                f"aliases make more than {MAX_NODES} values of this document", where=place, hint="write it out"
            )

    def _kind(self) -> str:
        if self.is_null:
            return "nothing"
        return "a mapping" if self.is_map else "a list" if self.is_list else "text"


def read_yaml(data: bytes, where: object, *, tags: frozenset[str] = frozenset()) -> Value | None:
    """Parses one YAML document; None when it is empty.

    Args:
        data: the bytes of the file.
        where: its name, for errors.
        tags: explicit tags that may stand in it; they do nothing but show in ``Value.tag``.

    Raises:
        InvalidInput: it is not YAML, or breaks a limit of this module; with line and column.
    """
    if len(data) > MAX_YAML_BYTES:
        raise InvalidInput(f"longer than {MAX_YAML_BYTES} bytes", where=where)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n")
        raise InvalidInput("not UTF-8", where=_at(where, line, 0)) from error
    try:
        loader = _Loader(text.removeprefix("\ufeff"), where, tags)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = where if mark is None else _at(where, mark.line, mark.column)
        raise InvalidInput(f"not YAML: {error.problem or error.context}", where=place) from error
    except yaml.YAMLError as error:
        raise InvalidInput(f"not YAML: {str(error).splitlines()[0]}", where=where) from error
    if node is None:
        return None
    value = Value(node, "", where, _Budget(tags=loader.tags))
    return None if value.is_null else value


def did_you_mean(word: str, known: frozenset[str]) -> str:
    """Returns a hint: the known word that is most like `word`, or all of them."""
    near = get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(known))}"


def _at(where: object, line: int, column: int) -> str:
    return f"{where}:{line + 1}:{column + 1}"
