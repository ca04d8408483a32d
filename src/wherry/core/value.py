"""Values: classes of named fields that never change, for the code that runs at every cold start.

A class below `Value` lists its fields with their types, as a data class does; its instances are made by keyword, are
equal and hashed by their fields, and refuse to be changed. It does what ``@dataclass(frozen=True, slots=True,
kw_only=True)`` does, for none of that decorator's 16 ms of imports: a command that starts a container spends less
time than that as a whole. A default is shared by all instances: give tuples, and `EMPTY` for a mapping.

What is refused: positional arguments, unknown and missing fields. Type checkers read it by PEP 681.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar, dataclass_transform

    V = TypeVar("V", bound="Value")
    T = TypeVar("T")
else:

    def dataclass_transform(**_options: object) -> Callable[[T], T]:
        """Does nothing: the real one is for type checkers."""
        return lambda cls: cls


EMPTY: Mapping[str, Any] = {}
"""The default of a field that is a mapping; never changed."""


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=True)
class ValueType(type):
    """Turns the annotations of a class into slots, and their values into defaults."""

    _fields: tuple[str, ...]
    _defaults: dict[str, Any]
    _names: frozenset[str]

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> ValueType:  # noqa: D102
        own = [field for field in namespace.get("__annotations__", ()) if not field.startswith("_")]
        fields: list[str] = []
        defaults: dict[str, Any] = {}
        for base in bases:
            if isinstance(base, ValueType):
                fields += base._fields
                defaults.update(base._defaults)
        for field in own:
            if field in namespace:
                defaults[field] = namespace.pop(field)
        # All before the class is made: setting something on one that is there costs as much as a tenth of making it.
        namespace["__slots__"] = tuple(field for field in own if field not in fields)
        namespace["_fields"] = tuple(dict.fromkeys((*fields, *own)))
        namespace["_names"] = frozenset(namespace["_fields"])
        namespace["_defaults"] = defaults
        return super().__new__(cls, name, bases, namespace)


_SET = object.__setattr__
"""Past the `__setattr__` that refuses."""


class Value(metaclass=ValueType):
    """The base of all values."""

    def __init__(self, **given: Any) -> None:
        cls = type(self)
        values = cls._defaults | given
        if values.keys() != cls._names:
            unknown = [name for name in given if name not in cls._fields]
            missing = [name for name in cls._fields if name not in values]
            raise TypeError(f"{cls.__name__}: missing {missing}, unknown {unknown}")
        for name, value in values.items():
            _SET(self, name, value)

    if not TYPE_CHECKING:  # a type checker knows what there is to set, and forbids it

        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(f"{type(self).__name__}.{name} never changes; see `replace`")

        def __delattr__(self, name: str) -> None:
            raise AttributeError(f"{type(self).__name__}.{name} never changes")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in type(self)._fields)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in type(self)._fields))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in type(self)._fields)
        return f"{type(self).__name__}({shown})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), {name: getattr(self, name) for name in type(self)._fields})


def _remade(cls: type[V], given: dict[str, Any]) -> V:
    return cls(**given)


def replace(value: V, /, **changes: Any) -> V:
    """Returns a value with some fields changed.

    Raises:
        TypeError: there is no such field.
    """
    return type(value)(**{**{name: getattr(value, name) for name in type(value)._fields}, **changes})


def fields_of(cls: type[Value]) -> tuple[str, ...]:
    """Returns the names of a class's fields, in their order."""
    return cls._fields


def defaults_of(cls: type[Value]) -> Mapping[str, Any]:
    """Returns the defaults of those fields that have one."""
    return cls._defaults
