"""Dataclasses from JSON values and back: strict, by the field's type, with the place in every error.

Understands ``str int bool``, ``None``-able fields, ``tuple[T, ...]``, ``Mapping[str, T]`` / ``dict[str, T]``,
``StrEnum``, ``Literal``, ``NewType``, ``Any`` and nested dataclasses. A class with a field
``extra: Mapping[str, Any]`` keeps the keys that it does not know there, so that they survive a round trip; a
class without one refuses them by name. A field whose value is its default is left out when encoding, so that
a new optional field does not change old bytes.
"""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

from wherry.core.errors import InvalidInput

T = TypeVar("T")
_MAX_DEPTH = 24


def decode(cls: type[T], value: Any, *, where: object = None) -> T:
    """Returns `value`, as parsed from JSON, as a `cls`.

    Args:
        cls: a dataclass.
        value: a JSON value.
        where: the file or message it comes from, for errors.

    Raises:
        InvalidInput: a key is missing or unknown, or a value has the wrong type; names its path.
    """
    result: T = _decode(cls, value, "", where, 0)
    return result


def encode(value: Any) -> Any:
    """Returns a dataclass, or anything that one may hold, as a JSON value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        result: dict[str, Any] = {}
        for field in dataclasses.fields(value):
            item = getattr(value, field.name)
            if field.name == "extra":
                result.update(item)
            elif not _is_default(field, item):
                result[field.name] = encode(item)
        return result
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    return value


def _is_default(field: dataclasses.Field[Any], item: Any) -> bool:
    if field.default is not dataclasses.MISSING:
        return bool(item == field.default)
    if field.default_factory is not dataclasses.MISSING:
        return bool(item == field.default_factory())
    return False


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _decode(kind: Any, value: Any, path: str, where: object, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise _wrong("nested too deeply", path, where)
    if kind is Any:
        return value
    if isinstance(kind, NewType):
        return _decode(kind.__supertype__, value, path, where, depth)
    if dataclasses.is_dataclass(kind):
        return _decode_class(kind, value, path, where, depth)
    origin = get_origin(kind)
    if origin is Union or origin is types.UnionType:
        options = [option for option in get_args(kind) if option is not type(None)]
        if value is None and len(options) < len(get_args(kind)):
            return None
        if len(options) != 1:
            raise TypeError(f"codec: a union of several types is not supported: {kind}")
        return _decode(options[0], value, path, where, depth)
    if origin is Literal:
        if value not in get_args(kind):
            raise _wrong(f"must be one of {', '.join(map(str, get_args(kind)))}, not {value!r}", path, where)
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise _wrong(f"must be a list, not {_name(value)}", path, where)
        item_kind = get_args(kind)[0]
        return tuple(_decode(item_kind, item, f"{path}[{index}]", where, depth + 1) for index, item in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise _wrong(f"must be an object, not {_name(value)}", path, where)
        item_kind = get_args(kind)[1]
        return {key: _decode(item_kind, item, _join(path, key), where, depth + 1) for key, item in value.items()}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        try:
            return kind(value)
        except ValueError:
            words = ", ".join(str(member.value) for member in kind)
            raise _wrong(f"must be one of {words}, not {value!r}", path, where) from None
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _wrong(f"must be {_article(kind.__name__)}, not {_name(value)}", path, where)
    return value


def _decode_class(cls: Any, value: Any, path: str, where: object, depth: int) -> Any:
    if not isinstance(value, dict):
        raise _wrong(f"must be an object, not {_name(value)}", path, where)
    hints = _hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    keeps_extra = "extra" in fields
    arguments: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for key, item in value.items():
        if key in fields and key != "extra":
            arguments[key] = _decode(hints[key], item, _join(path, key), where, depth + 1)
        elif keeps_extra:
            extra[key] = item
        else:
            raise _wrong(f"unknown key {key!r}", path, where)
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in arguments:
            raise _wrong(f"key {name!r} is missing", path, where)
    if keeps_extra:
        arguments["extra"] = extra
    return cls(**arguments)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _wrong(what: str, path: str, where: object) -> InvalidInput:
    return InvalidInput(f"{path}: {what}" if path else what, where=where)


_NAMES = {"str": "a string", "int": "a whole number", "bool": "true or false", "float": "a number"}


def _article(name: str) -> str:
    return _NAMES.get(name, name)


def _name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return _article(type(value).__name__)
