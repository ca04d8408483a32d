"""Values: classes of named fields that never change, for the code that runs at every cold start.

A class below `Value` lists its fields with their types, as a data class does; its instances are made by keyword, are
equal and hashed by their fields, and refuse to be changed. It does what ``@dataclass(frozen=True,
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


class _Shape:
    """What is known of a class of values, once one is made or somebody asks."""

    __slots__ = ("defaults", "fields", "names", "needed")

    def __init__(self, cls: type[Value]) -> None:
        fields: dict[str, None] = {}
        self.defaults: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            if not issubclass(base, Value):
                continue
            for name in base.__annotations__:
                if not name.startswith("_"):
                    fields[name] = None
                    if name in base.__dict__:
                        self.defaults[name] = base.__dict__[name]
        self.fields = tuple(fields)
        self.names = frozenset(fields)
        self.needed = self.names - self.defaults.keys()


_SHAPES: dict[type[Value], _Shape] = {}


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=True)
class Value:
    """The base of all values.

    It has neither a metaclass nor slots: a class with both takes 40 microseconds to make, one without 15, and a cold
    start makes seventy, of most of which there is never an instance. A default stays an attribute of its class.
    """

    def __init__(self, **given: Any) -> None:
        cls = type(self)
        shape = _SHAPES.get(cls) or _shape_of(cls)
        if not shape.needed <= given.keys() <= shape.names:
            unknown = [name for name in given if name not in shape.names]
            missing = [name for name in shape.fields if name in shape.needed and name not in given]
            raise TypeError(f"{cls.__name__}: missing {missing}, unknown {unknown}")
        self.__dict__.update(given)

    if not TYPE_CHECKING:  # a type checker knows what there is to set, and forbids it

        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(f"{type(self).__name__}.{name} never changes; see `replace`")

        def __delattr__(self, name: str) -> None:
            raise AttributeError(f"{type(self).__name__}.{name} never changes")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in fields_of(type(self)))

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in fields_of(type(self))))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in fields_of(type(self)))
        return f"{type(self).__name__}({shown})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), {name: getattr(self, name) for name in fields_of(type(self))})


def _remade(cls: type[V], given: dict[str, Any]) -> V:
    return cls(**given)


def replace(value: V, /, **changes: Any) -> V:
    """Returns a value with some fields changed.

    Raises:
        TypeError: there is no such field.
    """
    return type(value)(**{**{name: getattr(value, name) for name in fields_of(type(value))}, **changes})


def fields_of(cls: type[Value]) -> tuple[str, ...]:
    """Returns the names of a class's fields, in their order."""
    return (_SHAPES.get(cls) or _shape_of(cls)).fields


def defaults_of(cls: type[Value]) -> Mapping[str, Any]:
    """Returns the defaults of those fields that have one."""
    return (_SHAPES.get(cls) or _shape_of(cls)).defaults


def _shape_of(cls: type[Value]) -> _Shape:
    found = _SHAPES[cls] = _Shape(cls)
    return found
