"""Writing tar archives: ustar entries, and before those that do not fit an extended header of pax.

Nothing of the writer's machine gets into an archive, so equal input gives equal bytes. Attributes are written as
``SCHILY.xattr.``, which GNU tar, bsdtar and ``tar.py`` read.

Source: POSIX.1-2024, pax, "pax Interchange Format".
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from wherry.core.errors import InvalidInput
from wherry.store.tree.tar import EntryType

_BLOCK_BYTES = 512
_RECORD_BYTES = 20 * _BLOCK_BYTES
_CODES = {EntryType.FILE: b"0", EntryType.HARD_LINK: b"1", EntryType.SYMLINK: b"2", EntryType.DIRECTORY: b"5"}
_PIECE_BYTES = 1024 * 1024
_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s8s64x8s8s155s12x")
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
        head = entry_head(
            kind, name, mode=mode, uid=uid, gid=gid, size=size, target=target, xattrs=xattrs, time_s=self._time_s
        )
        self._write(head)
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

    def _write(self, data: bytes) -> None:
        self._out.write(data)
        self._written += len(data)


def entry_head(
    kind: EntryType,
    name: str,
    *,
    mode: int,
    uid: int,
    gid: int,
    time_s: int,
    size: int = 0,
    target: str = "",
    xattrs: tuple[tuple[bytes, bytes], ...] = (),
) -> bytes:
    """Returns all of an entry that stands before its content: its header, and before that pax' one if it needs one.

    Args:
        kind: what it is.
        name: its path.
        mode: permission bits, set-uid and the like.
        uid: owner.
        gid: group.
        time_s: when it was modified.
        size: bytes of content.
        target: of links.
        xattrs: names and values.
    """
    pax: list[tuple[bytes, bytes]] = []
    encoded = name.encode()
    raw_name, prefix = _split(encoded)
    if raw_name is None:
        pax.append((b"path", encoded))
        raw_name, prefix = encoded[:100], b""
    raw_target = target.encode()
    if len(raw_target) > 100:
        pax.append((b"linkpath", raw_target))
    for key, number, width in ((b"size", size, 11), (b"uid", uid, 7), (b"gid", gid, 7)):
        if number >= 8**width:
            pax.append((key, str(number).encode()))
    if not 0 <= time_s < 8**11:
        pax.append((b"mtime", str(time_s).encode()))
    pax += [(b"SCHILY.xattr." + key, value) for key, value in xattrs]
    header = _header(_CODES[kind], raw_name, prefix, mode, uid, gid, size, time_s, raw_target[:100])
    if not pax:
        return header
    data = b"".join(_record(key, value) for key, value in pax)
    before = _header(b"x", _PAX_NAME, b"", 0o644, 0, 0, len(data), time_s, b"")
    return before + data + bytes(-len(data) % _BLOCK_BYTES) + header


def _header(
    code: bytes, name: bytes, prefix: bytes, mode: int, uid: int, gid: int, size: int, time_s: int, target: bytes
) -> bytes:
    fields = _HEADER.pack(
        name,
        _octal(mode, 7),
        _octal(uid, 7),
        _octal(gid, 7),
        _octal(size, 11),
        _octal(time_s, 11),
        b" " * 8,
        code,
        target,
        b"ustar\00000",
        b"0000000",
        b"0000000",
        prefix,
    )
    return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:]


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
