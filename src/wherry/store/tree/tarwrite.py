"""Writing tar archives: ustar entries, and before those that do not fit an extended header of pax.

Nothing of the writer's machine gets into an archive, so equal input gives equal bytes. Attributes are written as
``SCHILY.xattr.``, which GNU tar, bsdtar and ``tar.py`` read.

Source: POSIX.1-2024, pax, "pax Interchange Format".
"""

from __future__ import annotations

from typing import BinaryIO

from wherry.core.errors import InvalidInput
from wherry.store.tree.tar import EntryType

_BLOCK_BYTES = 512
_RECORD_BYTES = 20 * _BLOCK_BYTES
_CODES = {EntryType.FILE: b"0", EntryType.HARD_LINK: b"1", EntryType.SYMLINK: b"2", EntryType.DIRECTORY: b"5"}
_PIECE_BYTES = 1024 * 1024
_PAX_NAME = b"././@PaxHeader"


class TarWriter:
    """Writes an archive to a file; ``close`` ends it.

    Args:
        out: where to; is only written to, never seeked.
        time_s: the modification time of every entry.
    """

    def __init__(self, out: BinaryIO, *, time_s: int) -> None:
        self._out = out
        self._time_s = time_s
        self._written = 0

    def add(
        self,
        kind: EntryType,
        name: str,
        *,
        mode: int,
        uid: int,
        gid: int,
        size: int = 0,
        target: str = "",
        xattrs: tuple[tuple[bytes, bytes], ...] = (),
        content: BinaryIO | None = None,
    ) -> None:
        """Writes one entry.

        Args:
            kind: what it is.
            name: its path.
            mode: permission bits, set-uid and the like.
            uid: owner.
            gid: group.
            size: bytes of content.
            target: of links.
            xattrs: names and values.
            content: of files, exactly `size` bytes.

        Raises:
            InvalidInput: the content has another size.
        """
        pax: list[tuple[bytes, bytes]] = []
        raw_name, prefix = _split(name.encode())
        if raw_name is None:
            pax.append((b"path", name.encode()))
            raw_name, prefix = name.encode()[:100], b""
        raw_target = target.encode()
        if len(raw_target) > 100:
            pax.append((b"linkpath", raw_target))
        for key, number, width in (("size", size, 11), ("uid", uid, 7), ("gid", gid, 7)):
            if number >= 8**width:
                pax.append((key.encode(), str(number).encode()))
        if not 0 <= self._time_s < 8**11:
            pax.append((b"mtime", str(self._time_s).encode()))
        pax += [(b"SCHILY.xattr." + key, value) for key, value in xattrs]
        if pax:
            data = b"".join(_record(key, value) for key, value in pax)
            self._write(self._header(b"x", _PAX_NAME, b"", 0o644, 0, 0, len(data), b""))
            self._write(data + bytes(-len(data) % _BLOCK_BYTES))
        self._write(self._header(_CODES[kind], raw_name, prefix, mode, uid, gid, size, raw_target[:100]))
        if content is not None:
            self._content(content, size, name)

    def close(self) -> None:
        """Writes the end marker; the file is left open."""
        self._write(bytes(2 * _BLOCK_BYTES))
        self._write(bytes(-self._written % _RECORD_BYTES))

    def _content(self, content: BinaryIO, size: int, name: str) -> None:
        left = size
        while left and (piece := content.read(min(left, _PIECE_BYTES))):
            left -= len(piece)
            self._write(piece)
        if left or content.read(1):
            raise InvalidInput("a file has not the size that was said", where=name)
        self._write(bytes(-size % _BLOCK_BYTES))

    def _header(
        self, code: bytes, name: bytes, prefix: bytes, mode: int, uid: int, gid: int, size: int, target: bytes
    ) -> bytes:
        fields = (
            name.ljust(100, b"\0")
            + _octal(mode, 7)
            + _octal(uid, 7)
            + _octal(gid, 7)
            + _octal(size, 11)
            + _octal(self._time_s, 11)
            + b" " * 8
            + code
            + target.ljust(100, b"\0")
            + b"ustar\00000"
            + bytes(64)
            + _octal(0, 7) * 2
            + prefix.ljust(155, b"\0")
        ).ljust(_BLOCK_BYTES, b"\0")
        return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:]

    def _write(self, data: bytes) -> None:
        self._out.write(data)
        self._written += len(data)


def _octal(number: int, digits: int) -> bytes:
    """Returns a number as octal digits and a NUL; 0 for one that has its place in an extended header."""
    return b"%0*o\0" % (digits, number if 0 <= number < 8**digits else 0)


def _split(name: bytes) -> tuple[bytes | None, bytes]:
    """Returns the name and the prefix of a path as ustar has them; no name when it does not fit."""
    if len(name) <= 100:
        return name, b""
    at = name.rfind(b"/", 0, 156)
    while at > 0 and len(name) - at - 1 <= 100:
        if len(name) - at - 1 > 0:
            return name[at + 1 :], name[:at]
        at = name.rfind(b"/", 0, at)
    return None, b""


def _record(key: bytes, value: bytes) -> bytes:
    """Returns ``LENGTH KEY=VALUE\\n``; the length counts itself."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while length != len(str(length)) + len(rest):
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest
