"""Numbers and byte strings in a row: what the header and the orders of a device delta are written in.

A number is LEB128, low bits first, of 10 bytes at most; a byte string is its length and its bytes. Nothing that is
read is trusted: a length that goes beyond the end, or beyond its limit, is refused before anything is allocated.
"""

from __future__ import annotations

from wherry.core.errors import InvalidInput

MAX_NUMBER = (1 << 63) - 1


class Writer:
    """Collects numbers and byte strings."""

    def __init__(self) -> None:
        self.data = bytearray()

    def number(self, value: int) -> None:
        """Writes a number that is not below zero."""
        if not 0 <= value <= MAX_NUMBER:
            raise InvalidInput(f"a number that a delta cannot hold: {value}")
        while value > 0x7F:
            self.data.append(value & 0x7F | 0x80)
            value >>= 7
        self.data.append(value)

    def signed(self, value: int) -> None:
        """Writes a number that may be below zero: 0, -1, 1, -2 ... are 0, 1, 2, 3 ..."""
        self.number(value << 1 if value >= 0 else (-value << 1) - 1)

    def raw(self, value: bytes) -> None:
        """Writes bytes whose number is known to the reader."""
        self.data += value

    def bytes(self, value: bytes) -> None:
        """Writes the length of some bytes, and them."""
        self.number(len(value))
        self.data += value

    def text(self, value: str) -> None:
        """Writes a text as UTF-8 bytes."""
        self.bytes(value.encode())


class Reader:
    """Reads what a ``Writer`` wrote.

    Args:
        data: all of it.
        where: what it is, for errors.
    """

    def __init__(self, data: bytes, where: object) -> None:
        self._data = data
        self._where = where
        self._at = 0

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self._at

    def number(self, limit: int = MAX_NUMBER) -> int:
        """Reads a number.

        Raises:
            InvalidInput: it is cut short, too long, or over `limit`.
        """
        data, at = self._data, self._at
        try:
            byte = data[at]
            at += 1
            value = byte & 0x7F
            shift = 7
            while byte > 0x7F:
                byte = data[at]
                at += 1
                value |= (byte & 0x7F) << shift
                shift += 7
                if shift > 63:
                    break
        except IndexError:
            raise self.error("cut short") from None
        if byte > 0x7F or value > limit:
            raise self.error("a number over its limit")
        self._at = at
        return value

    def signed(self) -> int:
        """Reads a number that may be below zero."""
        value = self.number()
        return -((value + 1) >> 1) if value & 1 else value >> 1

    def raw(self, size: int) -> bytes:
        """Reads so many bytes."""
        if size > self.left:
            raise self.error("cut short")
        self._at += size
        return self._data[self._at - size : self._at]

    def bytes(self, limit: int) -> bytes:
        """Reads a byte string of `limit` bytes at most."""
        return self.raw(self.number(limit))

    def text(self, limit: int) -> str:
        """Reads a text of `limit` bytes at most."""
        try:
            return self.bytes(limit).decode()
        except UnicodeDecodeError:
            raise self.error("a text that is not UTF-8") from None

    def end(self) -> None:
        """Checks that nothing is left."""
        if self.left:
            raise self.error("bytes behind the end")

    def error(self, what: str) -> InvalidInput:
        """Returns the error for something malformed here."""
        return InvalidInput(f"malformed device delta: {what}", where=self._where)
