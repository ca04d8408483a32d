"""JSON objects from outside, read so that nothing in them is passed over.

Every key of an object is taken once, with the type that it must have; what is left at the end is refused by its path:
a runtime that ignores a limit or a mask has broken a promise. A value that asks for nothing (an empty list, an empty
text, null) counts as missing.
"""

from __future__ import annotations

from wherry.core.errors import InvalidInput, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

_WORDS: dict[type, str] = {str: "text", int: "a number", bool: "true or false", list: "a list", dict: "an object"}


class Reader:
    """One JSON object that is being read.

    Args:
        value: the object.
        path: how it is called in messages; "" is the document itself.
        where: the file.
        warn: told of what is not known and ignored; without it that is an error.
    """

    def __init__(
        self, value: Any, path: str = "", where: object = None, warn: Callable[[str], None] | None = None
    ) -> None:
        if not isinstance(value, dict):
            raise InvalidInput(f"{path or 'the document'}: must be an object", where=where)
        self._left = {key: item for key, item in value.items() if item is not None and item not in ([], {}, "")}
        self._path = path
        self._where = where
        self._warn = warn

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            for key in sorted(self._left):
                self.ignored(key, "not a key that is done here")

    def at(self, key: str) -> str:
        """Returns the path of a key."""
        return f"{self._path}.{key}" if self._path else key

    def ignored(self, key: str, why: str) -> None:
        """Tells of something that is not known, which a runtime must ignore (config.md, "Extensibility").

        Raises:
            Unsupported: there is nobody to tell.
        """
        if self._warn is None:
            raise self.unsupported(key, why)
        self._warn(f"{self.at(key)}: {why}; ignored")

    def has(self, key: str) -> bool:
        """Tells whether a key is there and was not taken yet."""
        return key in self._left

    def take(self, key: str, kind: type[T], default: T) -> T:
        """Takes a value of a type; `default` when it is not there."""
        if key not in self._left:
            return default
        value = self._left.pop(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.wrong(key, f"must be {_WORDS[kind]}")
        return value

    def text(self, key: str) -> str:
        """Takes a text, without NUL characters; "" when it is not there."""
        value = self.take(key, str, "")
        if "\0" in value:
            raise self.wrong(key, "has a NUL character")
        return value

    def flag(self, key: str) -> bool:
        """Takes true or false; false when it is not there."""
        return self.take(key, bool, False)

    def number(self, key: str, *, low: int | None = None, high: int | None = None) -> int | None:
        """Takes a number in a range; None when it is not there."""
        if key not in self._left:
            return None
        value = self.take(key, int, 0)
        if (low is not None and value < low) or (high is not None and value > high):
            raise self.wrong(key, f"{value} is out of range ({low if high is None else f'{low} to {high}'})")
        return value

    def natural(self, key: str, default: int = 0, *, high: int = (1 << 32) - 1) -> int:
        """Takes a number that is not negative."""
        found = self.number(key, low=0, high=high)
        return default if found is None else found

    def strings(self, key: str) -> tuple[str, ...]:
        """Takes a list of texts."""
        found = self.take(key, list, [])
        if not all(isinstance(item, str) and "\0" not in item for item in found):
            raise self.wrong(key, "must be a list of texts")
        return tuple(found)

    def numbers(self, key: str) -> tuple[int, ...]:
        """Takes a list of numbers that are not negative."""
        found = self.take(key, list, [])
        if not all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in found):
            raise self.wrong(key, "must be a list of numbers")
        return tuple(found)

    def mapping(self, key: str) -> dict[str, str]:
        """Takes an object whose values are texts."""
        found = self.take(key, dict, {})
        if not all(isinstance(item, str) for item in found.values()):
            raise self.wrong(key, "must map to texts")
        return dict(found)

    def below(self, key: str) -> Reader:
        """Takes an object, to be read in its turn."""
        return Reader(self.take(key, dict, {}), self.at(key), self._where, self._warn)

    def each(self, key: str) -> list[Reader]:
        """Takes a list of objects."""
        items = self.take(key, list, [])
        return [Reader(item, f"{self.at(key)}[{index}]", self._where, self._warn) for index, item in enumerate(items)]

    def objects(self, key: str) -> dict[str, Reader]:
        """Takes an object whose values are objects."""
        items = self.take(key, dict, {})
        return {name: Reader(item, f"{self.at(key)}.{name}", self._where, self._warn) for name, item in items.items()}

    def wrong(self, key: str, what: str) -> InvalidInput:
        """Returns the error for a value that cannot be."""
        return InvalidInput(f"{self.at(key)}: {what}", where=self._where)

    def unsupported(self, key: str, what: str) -> Unsupported:
        """Returns the error for a value that is right and is not done here."""
        return Unsupported(f"{self.at(key)}: {what}", where=self._where)
