"""Extended attributes as EROFS stores them: prefixes, entries, the shared area, and the filter of names.

An attribute that stands more than once in an image is written once, in the shared area, and named there by number.
In which order is what libcomposefs 1.0 chose, so that images are the same bytes: by name, length and value, each
from high to low. Source: the kernel's ``fs/erofs/erofs_fs.h`` and ``xattr.h``.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from wherry.core.errors import InvalidInput, Unsupported

Xattr = tuple[bytes, bytes]

MAX_NAME_BYTES = 255
MAX_VALUE_BYTES = 65535
MAX_SHARED = 128
"""How many shared attributes one inode names; further ones are written out."""
ACL_NAMES = frozenset((b"system.posix_acl_access", b"system.posix_acl_default"))

_MAX_WORDS = 65535
_FILTER_SEED = 0x25BBE08F
_PREFIXES = (
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
)
_HEADER = struct.Struct("<IB7x")
_ENTRY = struct.Struct("<BBH")


class SharedXattrs:
    """The attributes that more than one inode of an image has.

    Args:
        found: the attributes of each inode.
    """

    def __init__(self, found: Iterable[tuple[Xattr, ...]]) -> None:
        counts: Counter[Xattr] = Counter()
        for xattrs in found:
            counts.update(xattrs)
        several = sorted((pair for pair, count in counts.items() if count > 1), key=_order, reverse=True)
        self.offsets: dict[Xattr, int] = {}
        """Where in the shared area each begins, in bytes."""
        self.size = 0
        for pair in several:
            self.offsets[pair] = self.size
            self.size += entry_size(pair)

    def serialize(self) -> bytes:
        """Returns the shared area."""
        return b"".join(map(serialize_entry, self.offsets))

    def split(self, xattrs: tuple[Xattr, ...]) -> tuple[list[Xattr], list[Xattr]]:
        """Returns which of an inode's attributes it names by number, and which it has itself."""
        shared: list[Xattr] = []
        own: list[Xattr] = []
        for pair in xattrs:
            if pair in self.offsets and len(shared) < MAX_SHARED:
                shared.append(pair)
            else:
                own.append(pair)
        return shared, own

    def body_size(self, xattrs: tuple[Xattr, ...]) -> int:
        """Returns how many bytes follow the inode for its attributes.

        Raises:
            Unsupported: more than the format can count.
        """
        if not xattrs:
            return 0
        shared, own = self.split(xattrs)
        words = len(shared) + sum(map(entry_size, own)) // 4
        if words >= _MAX_WORDS:
            raise Unsupported(f"too many extended attributes on one file: {4 * words} bytes")
        return _HEADER.size + 4 * words

    def serialize_body(self, xattrs: tuple[Xattr, ...], base: int) -> bytes:
        """Returns what follows the inode for its attributes.

        Args:
            xattrs: sorted by name, at least one.
            base: where the shared area begins, in bytes from the block that the superblock names.
        """
        shared, own = self.split(xattrs)
        names = 0xFFFFFFFF
        for name, _ in xattrs:
            names &= ~_filter_bit(name)
        parts = [_HEADER.pack(names, len(shared))]
        parts += [((base + self.offsets[pair]) // 4).to_bytes(4, "little") for pair in shared]
        parts += map(serialize_entry, own)
        return b"".join(parts)


def _order(pair: Xattr) -> tuple[bytes, int, bytes]:
    return pair[0], len(pair[1]), pair[1]


@lru_cache(maxsize=1024)
def _split_name(name: bytes) -> tuple[int, bytes]:
    """Returns the number of a name's prefix, and the rest; 0, and the whole name, where EROFS has no number for it.

    The kernel does not show those of number 0; libcomposefs writes them all the same.
    """
    found = next(((index, name[len(prefix) :]) for prefix, index in _PREFIXES if name.startswith(prefix)), (0, name))
    if not name or b"\0" in name or len(found[1]) > MAX_NAME_BYTES:
        raise InvalidInput(f"not the name of an extended attribute: {name[:80]!r}")
    return found


def entry_size(pair: Xattr) -> int:
    """Returns how many bytes an attribute takes.

    Raises:
        InvalidInput: name or value is longer than any file system allows.
    """
    name, value = pair
    if len(value) > MAX_VALUE_BYTES:
        raise InvalidInput(f"the extended attribute {name[:80]!r} is too long: {len(value)} bytes")
    return (_ENTRY.size + len(_split_name(name)[1]) + len(value) + 3) & ~3


def serialize_entry(pair: Xattr) -> bytes:
    """Returns an attribute as it stands in the image."""
    index, rest = _split_name(pair[0])
    entry = _ENTRY.pack(len(rest), index, len(pair[1])) + rest + pair[1]
    return entry + bytes(-len(entry) % 4)


@lru_cache(maxsize=1024)
def _filter_bit(name: bytes) -> int:
    """Returns the bit of an inode's filter that says "a name like this is there" when it is 0."""
    index, rest = _split_name(name)
    return 1 << (xxh32(rest, _FILTER_SEED + index) & 31)


_P1, _P2, _P3, _P4, _P5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
_M32 = 0xFFFFFFFF


def _rotate(value: int, bits: int) -> int:
    return (value << bits | value >> (32 - bits)) & _M32


def xxh32(data: bytes, seed: int) -> int:
    """Returns the 32-bit xxHash of `data`; the kernel filters the names of attributes by it.

    Source: "xxHash fast digest algorithm", XXH32.
    """
    pos = 0
    if len(data) >= 16:
        lanes = [(seed + _P1 + _P2) & _M32, (seed + _P2) & _M32, seed & _M32, (seed - _P1) & _M32]
        while pos + 16 <= len(data):
            for index, word in enumerate(struct.unpack_from("<4I", data, pos)):
                lanes[index] = _rotate((lanes[index] + word * _P2) & _M32, 13) * _P1 & _M32
            pos += 16
        value = sum(map(_rotate, lanes, (1, 7, 12, 18)))
    else:
        value = seed + _P5
    value = (value + len(data)) & _M32
    while pos + 4 <= len(data):
        word = int.from_bytes(data[pos : pos + 4], "little")
        value = _rotate((value + word * _P3) & _M32, 17) * _P4 & _M32
        pos += 4
    for byte in data[pos:]:
        value = _rotate((value + byte * _P5) & _M32, 11) * _P1 & _M32
    value = (value ^ value >> 15) * _P2 & _M32
    value = (value ^ value >> 13) * _P3 & _M32
    return value ^ value >> 16
