"""Data classes, and `core.value.Value`s, from JSON values and back: strict, by each field's type.

Every error names the place of the mistake. Understands ``str int bool``, ``None``-able fields, ``tuple[T, ...]``,
``Mapping[str, T]`` / ``dict[str, T]``, ``StrEnum``, ``Literal``, ``NewType``, ``Any`` and nested classes. A class with
a field ``extra: Mapping[str, Any]`` keeps the keys that it does not know there, so that they survive a round trip; a
class without one refuses them by name. A field whose value is its default is left out when encoding, so that
a new optional field does not change old bytes. `values` does this for values alone, at the cost of no import.
"""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

from wherry.core.value import Value
from wherry.spec.values import MAX_DEPTH, article, encode, join, name_of, read_value, wrong

__all__ = ["decode", "encode"]

T = TypeVar("T")


def decode(cls: type[T], value: Any, *, where: object = None) -> T:
    """Returns `value`, as parsed from JSON, as a `cls`.

    Args:
        cls: a dataclass.
        value: a JSON value.
        where: the file or message it comes from, for errors.

    Raises:
        InvalidInput: a key is missing or unknown, or a value has the wrong type; names its path.
    """
    result: T = read_any(cls, value, "", where, 0)
    return result


def kept_fields(value: Any) -> list[tuple[str, Any]]:
    """Returns the fields of a data class that are not as they are by default."""
    pairs = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return [(field.name, item) for field, item in pairs if not _is_default(field, item)]


def _is_default(field: dataclasses.Field[Any], item: Any) -> bool:
    if field.default is not dataclasses.MISSING:
        return bool(item == field.default)
    if field.default_factory is not dataclasses.MISSING:
        return bool(item == field.default_factory())
    return False


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def read_any(kind: Any, value: Any, path: str, where: object, depth: int) -> Any:
    """Returns a JSON value, in the middle of a document, as a `kind`."""
    if depth > MAX_DEPTH:
        raise wrong("nested too deeply", path, where)
    if kind is Any:
        return value
    if isinstance(kind, NewType):
        return read_any(kind.__supertype__, value, path, where, depth)
    if isinstance(kind, type) and issubclass(kind, Value):
        return read_value(kind, value, path, where, depth)
    if dataclasses.is_dataclass(kind):
        return _decode_class(kind, value, path, where, depth)
    origin = get_origin(kind)
    if origin is Union or origin is types.UnionType:
        options = [option for option in get_args(kind) if option is not type(None)]
        if value is None and len(options) < len(get_args(kind)):
            return None
        if len(options) != 1:
            raise TypeError(f"codec: a union of several types is not supported: {kind}")
        return read_any(options[0], value, path, where, depth)
    if origin is Literal:
        if value not in get_args(kind):
            raise wrong(f"must be one of {', '.join(map(str, get_args(kind)))}, not {value!r}", path, where)
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise wrong(f"must be a list, not {name_of(value)}", path, where)
        item_kind = get_args(kind)[0]
        return tuple(
            read_any(item_kind, item, f"{path}[{index}]", where, depth + 1) for index, item in enumerate(value)
        )
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise wrong(f"must be an object, not {name_of(value)}", path, where)
        item_kind = get_args(kind)[1]
        return {key: read_any(item_kind, item, join(path, key), where, depth + 1) for key, item in value.items()}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        try:
            return kind(value)
        except ValueError:
            words = ", ".join(str(member.value) for member in kind)
            raise wrong(f"must be one of {words}, not {value!r}", path, where) from None
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise wrong(f"must be {article(kind.__name__)}, not {name_of(value)}", path, where)
    return value


def _decode_class(cls: Any, value: Any, path: str, where: object, depth: int) -> Any:
    if not isinstance(value, dict):
        raise wrong(f"must be an object, not {name_of(value)}", path, where)
    hints = _hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    keeps_extra = "extra" in fields
    arguments: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for key, item in value.items():
        if key in fields and key != "extra":
            arguments[key] = read_any(hints[key], item, join(path, key), where, depth + 1)
        elif keeps_extra:
            extra[key] = item
        else:
            raise wrong(f"unknown key {key!r}", path, where)
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in arguments:
            raise wrong(f"key {name!r} is missing", path, where)
    if keeps_extra:
        arguments["extra"] = extra
    return cls(**arguments)
