"""`core.value.Value`s from JSON values and back: strict, by the type of each field, with the place in every error.

The annotations are read as they are written, without the imports of ``typing``, so that what a command reads at every
start costs nothing more. Understood are ``str int bool float Any object``, classes below `Value`, enumerations, new
types, ``Literal[...]`` of words, ``tuple[T, ...]``, ``Mapping[str, T]``, ``dict[str, T]`` and each of them ``| None``.
A name stands for what it is in the module of its class: an alias that is there for type checkers alone is refused.

A class with a field ``extra`` keeps the keys that it does not know there, so that they survive a round trip; a class
without one refuses them by name. A field whose value is its default is left out when encoding, so that a new optional
field does not change old bytes. `codec` does the same for data classes.
"""

from __future__ import annotations

import sys

from wherry.core.errors import InvalidInput
from wherry.core.value import Value, defaults_of, fields_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    V = TypeVar("V", bound=Value)
    Reader = Callable[[Any, str, object, int], Any]
    """Given a JSON value, its place, the file it comes from and its depth; returns the value of a field."""

MAX_DEPTH = 24
_PLAIN = {"str": str, "int": int, "bool": bool, "float": float}
_readers: dict[type[Value], dict[str, Reader]] = {}


def decode_value(cls: type[V], value: Any, *, where: object = None) -> V:
    """Returns `value`, as parsed from JSON, as a `cls`.

    Args:
        cls: the class.
        value: a JSON value.
        where: the file or message it comes from, for errors.

    Raises:
        InvalidInput: a key is missing or unknown, or a value has the wrong type; names its path.
    """
    return read_value(cls, value, "", where, 0)


def encode(value: Any) -> Any:
    """Returns a value, a data class, or anything that one may hold, as a JSON value."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # a member of an enumeration of words is one
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, Value):
        defaults = defaults_of(type(value))
        pairs = [(name, getattr(value, name)) for name in fields_of(type(value))]
        kept = [(name, item) for name, item in pairs if name not in defaults or defaults[name] != item]
        return _joined(kept)
    if isinstance(value, dict) or hasattr(value, "items"):
        return {key: encode(item) for key, item in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        from wherry.spec.codec import kept_fields

        return _joined(kept_fields(value))
    return value.value if hasattr(type(value), "__members__") else value


def _joined(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, item in pairs:
        if name == "extra":
            result.update(item)
        else:
            result[name] = encode(item)
    return result


def read_value(cls: type[V], value: Any, path: str, where: object, depth: int) -> V:
    """Does what `decode_value` does, in the middle of a document."""
    if depth > MAX_DEPTH:
        raise wrong("nested too deeply", path, where)
    if not isinstance(value, dict):
        raise wrong(f"must be an object, not {name_of(value)}", path, where)
    readers = _readers.get(cls) or _make_readers(cls)
    keeps_extra = "extra" in readers
    arguments: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for key, item in value.items():
        if key in readers and key != "extra":
            arguments[key] = readers[key](item, join(path, key), where, depth + 1)
        elif keeps_extra:
            extra[key] = item
        else:
            raise wrong(f"unknown key {key!r}", path, where)
    defaults = defaults_of(cls)
    for name in readers:
        if name not in arguments and name not in defaults:
            raise wrong(f"key {name!r} is missing", path, where)
    if keeps_extra:
        arguments["extra"] = extra
    return cls(**arguments)


def _make_readers(cls: type[Value]) -> dict[str, Reader]:
    found: dict[str, Reader] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, Value):
            names = vars(sys.modules[base.__module__])
            for field, written in vars(base).get("__annotations__", {}).items():
                if not field.startswith("_"):
                    found[field] = _later(found, field, _Annotation(written, names, f"{base.__name__}.{field}"))
    _readers[cls] = found
    return found


def _later(readers: dict[str, Reader], field: str, annotation: _Annotation) -> Reader:
    """Puts the reading of an annotation off until there is a value: most fields of a file are left out."""

    def read(value: Any, path: str, where: object, depth: int) -> Any:
        reader = readers[field] = annotation.reader()
        return reader(value, path, where, depth)

    return read


class _Annotation:
    """Reads the text of one annotation."""

    def __init__(self, text: str, names: dict[str, Any], what: str) -> None:
        self._text, self._names, self._what = text, names, what
        self._words: list[str] = []

    @property
    def _error(self) -> TypeError:
        return TypeError(f"{self._what}: cannot decode {self._text!r}")

    def reader(self) -> Reader:
        self._words = _words(self._text)
        found = self._union()
        if self._words:
            raise self._error
        return found

    def _union(self) -> Reader:
        optional, found = False, None
        while True:
            if self._words[:1] == ["None"]:
                del self._words[0]
                optional = True
            elif found is None:
                found = self._one()
            else:
                raise self._error  # a union of several types
            if self._words[:1] != ["|"]:
                break
            del self._words[0]
        if found is None:
            raise self._error
        return _optional(found) if optional else found

    def _one(self) -> Reader:
        if not self._words:
            raise self._error
        name = self._words.pop(0)
        if self._words[:1] == ["["]:
            del self._words[0]
            return self._generic(name)
        if name in _PLAIN:
            return _plain(_PLAIN[name])
        if name in ("Any", "object"):
            return lambda value, path, where, depth: value
        return _of_class(self._names.get(name), self._error)

    def _generic(self, name: str) -> Reader:
        if name == "Literal":
            words = []
            while self._words[:1] != ["]"]:
                word = self._words.pop(0) if self._words else ""
                if word[:1] in "'\"":
                    words.append(word[1:-1])
                elif word != ",":
                    raise self._error
            del self._words[0]
            return _choice(tuple(words))
        if name == "tuple":
            item = self._union()
            self._expect(",", "...", "]")
            return _list(item)
        if name in ("Mapping", "dict"):
            self._expect("str", ",")
            item = self._union()
            self._expect("]")
            return _table(item)
        raise self._error

    def _expect(self, *words: str) -> None:
        if tuple(self._words[: len(words)]) != words:
            raise self._error
        del self._words[: len(words)]


def _words(text: str) -> list[str]:
    found: list[str] = []
    rest = text
    while rest := rest.lstrip():
        if rest[0] in "[],|":
            length = 1
        elif rest[0] in "'\"":
            length = rest.index(rest[0], 1) + 1
        else:
            length = next((at for at, char in enumerate(rest) if char in " []|,"), len(rest))
        found.append(rest[:length])
        rest = rest[length:]
    return found


def _optional(reader: Reader) -> Reader:
    return lambda value, path, where, depth: None if value is None else reader(value, path, where, depth)


def _plain(kind: type) -> Reader:
    def read(value: Any, path: str, where: object, depth: int) -> Any:
        if type(value) is kind:
            return value
        if kind is float and type(value) is int:
            return float(value)
        raise wrong(f"must be {article(kind.__name__)}, not {name_of(value)}", path, where)

    return read


def _choice(words: tuple[str, ...]) -> Reader:
    def read(value: Any, path: str, where: object, depth: int) -> Any:
        if value not in words:
            raise wrong(f"must be one of {', '.join(words)}, not {value!r}", path, where)
        return value

    return read


def _list(item: Reader) -> Reader:
    def read(value: Any, path: str, where: object, depth: int) -> Any:
        if not isinstance(value, list):
            raise wrong(f"must be a list, not {name_of(value)}", path, where)
        return tuple([item(one, f"{path}[{index}]", where, depth + 1) for index, one in enumerate(value)])

    return read


def _table(item: Reader) -> Reader:
    def read(value: Any, path: str, where: object, depth: int) -> Any:
        if not isinstance(value, dict):
            raise wrong(f"must be an object, not {name_of(value)}", path, where)
        return {key: item(one, join(path, key), where, depth + 1) for key, one in value.items()}

    return read


def _of_class(found: Any, error: TypeError) -> Reader:
    if isinstance(found, type) and issubclass(found, Value):
        cls: type[Any] = found
        return lambda value, path, where, depth: read_value(cls, value, path, where, depth)
    if found is None or isinstance(found, str):
        raise error

    def read(value: Any, path: str, where: object, depth: int) -> Any:
        from wherry.spec.codec import read_any  # data classes, enumerations, new types: they have imported the rest

        return read_any(found, value, path, where, depth)

    return read


def join(path: str, key: str) -> str:
    """Returns the place of a key in the object at `path`."""
    return f"{path}.{key}" if path else key


def wrong(what: str, path: str, where: object) -> InvalidInput:
    """Returns the error about one place of a document."""
    return InvalidInput(f"{path}: {what}" if path else what, where=where)


_NAMES = {"str": "a string", "int": "a whole number", "bool": "true or false", "float": "a number"}


def article(name: str) -> str:
    """Returns what a type is called in an error."""
    return _NAMES.get(name, name)


def name_of(value: Any) -> str:
    """Returns what the type of a JSON value is called in an error."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return article(type(value).__name__)
