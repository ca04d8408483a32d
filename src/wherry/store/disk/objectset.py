"""A set of objects that stays small: 32 bytes for each name, not a pair of a type and 64 letters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSet

from wherry.core.digest import Checksum
from wherry.store.format.objects import ObjectType

ObjectName = tuple[ObjectType, Checksum]


class ObjectSet(MutableSet[ObjectName]):
    """A set of (type, checksum), with all that sets can do; some 100 bytes for each entry.

    >>> from wherry.core.digest import Checksum
    >>> found = ObjectSet([(ObjectType.COMMIT, Checksum("ab" * 32))])
    >>> (ObjectType.COMMIT, Checksum("ab" * 32)) in found, len(found), found.count(ObjectType.FILE)
    (True, 1, 0)
    """

    __slots__ = ("_found",)

    def __init__(self, items: Iterable[ObjectName] = ()) -> None:
        self._found: dict[ObjectType, set[bytes]] = {kind: set() for kind in ObjectType}
        for kind, checksum in items:
            self._found[kind].add(bytes.fromhex(checksum))

    def __contains__(self, item: object) -> bool:
        if not (isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], ObjectType)):
            return False
        try:
            return bytes.fromhex(item[1]) in self._found[item[0]]
        except (TypeError, ValueError):
            return False

    def __iter__(self) -> Iterator[ObjectName]:
        for kind, found in self._found.items():
            for raw in found:
                yield kind, Checksum(raw.hex())

    def __len__(self) -> int:
        return sum(map(len, self._found.values()))

    def add(self, value: ObjectName) -> None:
        """Adds an object."""
        self._found[value[0]].add(bytes.fromhex(value[1]))

    def add_new(self, kind: ObjectType, checksum: Checksum) -> bool:
        """Adds an object; tells whether it was not in it yet."""
        found, raw = self._found[kind], bytes.fromhex(checksum)
        if raw in found:
            return False
        found.add(raw)
        return True

    def discard(self, value: ObjectName) -> None:
        """Removes an object if it is in it."""
        self._found[value[0]].discard(bytes.fromhex(value[1]))

    def update(self, items: Iterable[ObjectName]) -> None:
        """Adds many."""
        if isinstance(items, ObjectSet):
            for kind, found in items._found.items():
                self._found[kind] |= found
            return
        for item in items:
            self.add(item)

    def digests(self, kind: ObjectType) -> set[bytes]:
        """Returns the set behind those of one type, to be changed too: for loops over very many objects."""
        return self._found[kind]

    def count(self, kind: ObjectType) -> int:
        """Returns how many there are of one type."""
        return len(self._found[kind])

    def of(self, kind: ObjectType) -> Iterator[Checksum]:
        """Gives those of one type, in no order."""
        for raw in self._found[kind]:
            yield Checksum(raw.hex())
