"""Writes EROFS images that hold metadata alone: names, modes, owners, extended attributes, symbolic links.

A regular file with content is one inode of the right size whose data is a hole; where its bytes are is told by
extended attributes that the caller sets (``store/composefs.py``). The image is what the kernel's documentation
"EROFS: on-disk format" describes, without compression, devices or checksums:

    0      composefs header (32 bytes), zeros
    1024   superblock (128 bytes)
    1152   inodes, each at a multiple of 32, followed by its attributes and its tail: the last part of a
           directory, the target of a link, or the chunk map of a file
    ...    shared attributes: those that more than one inode has
    ...    whole blocks: directories that do not fit in a tail, long link targets

The number of an inode is its offset divided by 32. Inodes lie in breadth-first order, so that those of one
directory are neighbours. The same tree gives the same bytes. Not written: file contents, hard links, devices, and
times other than 0. Budget: 15 µs for a file.
"""

from __future__ import annotations

import stat
import struct
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

from wherry.core.errors import InvalidInput, Unsupported

BLOCK_BYTES = 4096
MAX_NAME_BYTES = 255
MAX_XATTR_VALUE_BYTES = 65535
MAX_SYMLINK_BYTES = 4095
MAX_FILE_BYTES = (1 << 63) - 1

_BLOCK_BITS = 12
_SLOT_BYTES = 32
_SUPER_OFFSET = 1024
_EROFS_MAGIC = 0xE0F5E1E2
_COMPOSEFS_MAGIC = 0xD078629A
_COMPOSEFS_HEADER_VERSION = 1
_COMPAT_MTIME = 0x2
_COMPAT_XATTR_FILTER = 0x4
_INCOMPAT_CHUNKED_FILE = 0x4
_FLAT_PLAIN, _FLAT_INLINE, _CHUNK_BASED = 0, 2, 4
_MAX_CHUNK_BITS = _BLOCK_BITS + 31
_NULL_ADDR = b"\xff\xff\xff\xff"
_MAX_TAIL_BYTES = BLOCK_BYTES // 2
_MAX_XATTR_WORDS = 65535
_MAX_SHARED_XATTRS = 128
_FILTER_SEED = 0x25BBE08F
_FILE_TYPES = {stat.S_IFREG: 1, stat.S_IFDIR: 2, stat.S_IFLNK: 7}
_XATTR_PREFIXES = {
    b"user.": 1,
    b"system.posix_acl_access": 2,
    b"system.posix_acl_default": 3,
    b"trusted.": 4,
    b"security.": 6,
}

_HEADER = struct.Struct("<IIII16x")
_SUPER = struct.Struct("<IIIBBHQQIIII32xI44x")
_COMPACT = struct.Struct("<HHHHIIIIHH4x")
_EXTENDED = struct.Struct("<HHHHQIIIIQII16x")
_XATTR_HEADER = struct.Struct("<IB7x")
_XATTR_ENTRY = struct.Struct("<BBH")
_DIRENT = struct.Struct("<QHBx")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inode:
    """One file, symbolic link or directory. One object may stand at several places of a tree: each is an inode."""

    mode: int
    """``st_mode``, with the type: a regular file, a link or a directory."""
    uid: int
    gid: int
    size: int = 0
    """Bytes of a regular file."""
    target: bytes = b""
    """Of a symbolic link."""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    """Full names and values, as they will be in the image."""
    children: Mapping[bytes, Inode] = field(default_factory=dict)
    """Of a directory, by name."""


class _Placed:
    """An inode at its place in the tree, and later in the image."""

    __slots__ = (
        "blocks", "filter", "first_block", "first_child", "head", "inline", "inode", "names", "parent", "pieces", "pos",
        "shared", "size", "tail",
    )  # fmt: skip

    def __init__(self, inode: Inode, parent: int) -> None:
        self.inode = inode
        self.parent = parent
        self.names: list[bytes] = []
        self.first_child = 0
        self.filter = 0xFFFFFFFF
        self.shared: list[bytes] = []
        """Encoded attributes that are in the shared area."""
        self.inline: list[bytes] = []
        """Encoded attributes that follow the inode."""
        self.pieces: list[tuple[int, int]] = []
        """Of a directory: the ranges of its entries that make up its blocks and its tail."""
        self.pos = 0
        self.head = 0
        """Bytes of the inode and its attributes."""
        self.tail = 0
        """Bytes of data that follow the head."""
        self.size = 0
        self.blocks = 0
        """How many whole blocks of data it has elsewhere."""
        self.first_block = 0


def build(root: Inode) -> bytearray:
    """Returns the image of a tree.

    Args:
        root: its top directory.

    Raises:
        InvalidInput: a name, link target or attribute that no file system can hold.
        Unsupported: an attribute, or a file type, that EROFS has no place for.
    """
    if not stat.S_ISDIR(root.mode):
        raise InvalidInput("the top of an image is not a directory")
    placed = _breadth_first(root)
    offsets = _share_xattrs(placed)
    inodes_end = _lay_out(placed)
    block = -(-(inodes_end + sum(map(len, offsets))) // BLOCK_BYTES)
    for node in placed:
        node.first_block = block
        block += node.blocks
    out = bytearray(block * BLOCK_BYTES)
    _write_super(out, placed, inodes_end // BLOCK_BYTES, block)
    shared_base = inodes_end % BLOCK_BYTES
    ids = {entry: (shared_base + offset) // 4 for entry, offset in offsets.items()}
    for number, node in enumerate(placed):
        _write_inode(out, node, number, ids)
        _write_data(out, node, number, placed)
    for entry, offset in offsets.items():
        out[inodes_end + offset : inodes_end + offset + len(entry)] = entry
    return out


def _breadth_first(root: Inode) -> list[_Placed]:
    placed = [_Placed(root, 0)]
    for number, node in enumerate(placed):  # grows while it is walked
        if node.inode.children:
            node.names = sorted(node.inode.children)
            node.first_child = len(placed)
            for name in node.names:
                if not 0 < len(name) <= MAX_NAME_BYTES or b"/" in name or b"\0" in name or name in (b".", b".."):
                    raise InvalidInput(f"not a file name: {name[:80]!r}")
                placed.append(_Placed(node.inode.children[name], number))
    return placed


def _share_xattrs(placed: list[_Placed]) -> dict[bytes, int]:
    """Encodes all attributes; returns those that stand more than once, with their offset in the shared area."""
    encoded: dict[tuple[bytes, bytes], tuple[bytes, int]] = {}
    counts: dict[bytes, int] = {}
    for node in placed:
        for pair in node.inode.xattrs:
            found = encoded.get(pair)
            if found is None:
                found = encoded[pair] = _encode_xattr(*pair)
            entry, bit = found
            node.filter &= ~bit
            node.inline.append(entry)
            counts[entry] = counts.get(entry, 0) + 1
    offsets: dict[bytes, int] = {}
    offset = 0
    for entry in sorted(entry for entry, count in counts.items() if count > 1):
        offsets[entry] = offset
        offset += len(entry)
    for node in placed:
        if node.inline:
            node.shared = [entry for entry in node.inline if entry in offsets][:_MAX_SHARED_XATTRS]
            node.inline = [entry for entry in node.inline if entry not in node.shared]
    return offsets


_filter_bits: dict[tuple[int, bytes], int] = {}


def _encode_xattr(name: bytes, value: bytes) -> tuple[bytes, int]:
    prefix = next((prefix for prefix in _XATTR_PREFIXES if name.startswith(prefix)), None)
    if prefix is None:
        raise Unsupported(f"EROFS has no place for the extended attribute {name!r}")
    index, rest = _XATTR_PREFIXES[prefix], name[len(prefix) :]
    if len(rest) > MAX_NAME_BYTES or len(value) > MAX_XATTR_VALUE_BYTES:
        raise InvalidInput(f"the extended attribute {name[:80]!r} is too long: {len(value)} bytes")
    bit = _filter_bits.get((index, rest))
    if bit is None:
        bit = _filter_bits[index, rest] = 1 << (xxh32(rest, _FILTER_SEED + index) & 31)
    entry = _XATTR_ENTRY.pack(len(rest), index, len(value)) + rest + value
    return entry + bytes(-len(entry) % 4), bit


def _lay_out(placed: list[_Placed]) -> int:
    """Gives every inode its position; returns the end of them all."""
    pos = _SUPER_OFFSET + _SUPER.size
    for node in placed:
        _measure(node)
        pos = node.pos = _place(_round_up(pos, _SLOT_BYTES), node.head, node.tail, stat.S_ISLNK(node.inode.mode))
        pos += node.head + node.tail
    return _round_up(pos, _SLOT_BYTES)


def _measure(node: _Placed) -> None:
    """Finds out how large the inode's head and tail are, and how many blocks it needs."""
    inode = node.inode
    kind = stat.S_IFMT(inode.mode)
    if kind == stat.S_IFREG:
        node.size = inode.size
        node.tail = 4 * _chunks(inode.size)
    elif kind == stat.S_IFLNK:
        node.size = len(inode.target)
        if not 0 < node.size <= MAX_SYMLINK_BYTES or b"\0" in inode.target:
            raise InvalidInput(f"not the target of a symbolic link: {inode.target[:80]!r} ({node.size} bytes)")
        node.blocks, node.tail = (1, 0) if node.size > _MAX_TAIL_BYTES else (0, node.size)
    elif kind == stat.S_IFDIR:
        _split_directory(node)
    else:
        raise Unsupported(f"an image holds files, links and directories, not mode {inode.mode:o}")
    node.head = _COMPACT.size if _is_compact(node) else _EXTENDED.size
    if node.shared or node.inline:
        words = len(node.shared) + sum(map(len, node.inline)) // 4
        if words >= _MAX_XATTR_WORDS:
            raise Unsupported(f"too many extended attributes on one file: {4 * words} bytes")
        node.head += _XATTR_HEADER.size + 4 * words


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def _place(pos: int, head: int, tail: int, is_link: bool) -> int:
    """Returns the first position from `pos` on that will do.

    The kernel maps a tail as a piece of one block, so none may cross into the next; and it reads a link the
    fast way only where its inode is in the same block.
    """
    if is_link and head + tail <= BLOCK_BYTES:
        if pos // BLOCK_BYTES != (pos + head + tail - 1) // BLOCK_BYTES:
            return _round_up(pos, BLOCK_BYTES)
        return pos
    room = -(pos + head) % BLOCK_BYTES
    return pos + _round_up(room, _SLOT_BYTES) if room < tail else pos


def _split_directory(node: _Placed) -> None:
    used = first = count = 0
    for name in _entry_names(node):
        length = _DIRENT.size + len(name)
        if used + length > BLOCK_BYTES:
            node.pieces.append((first, count))
            used, first = 0, count
        used += length
        count += 1
    node.pieces.append((first, count))
    node.blocks = len(node.pieces)
    node.size = node.blocks * BLOCK_BYTES
    if used <= _MAX_TAIL_BYTES:
        node.blocks -= 1
        node.tail = used
        node.size += used - BLOCK_BYTES


def _entry_names(node: _Placed) -> list[bytes]:
    names = node.names.copy()
    for dots in (b".", b".."):
        names.insert(bisect_left(names, dots), dots)
    return names


def _chunk_bits(size: int) -> int:
    """Returns the smallest chunk that holds the whole file, so that its map has one entry (but for 8 TiB and more)."""
    return min(max((size - 1).bit_length(), _BLOCK_BITS), _MAX_CHUNK_BITS)


def _chunks(size: int) -> int:
    if not 0 <= size <= MAX_FILE_BYTES:
        raise InvalidInput(f"a file of {size} bytes cannot be in an image of EROFS; the limit is {MAX_FILE_BYTES}")
    return -(-size // (1 << _chunk_bits(size))) if size else 0


def _links(inode: Inode) -> int:
    if not stat.S_ISDIR(inode.mode):
        return 1
    return 2 + sum(stat.S_ISDIR(child.mode) for child in inode.children.values())


def _is_compact(node: _Placed) -> bool:
    inode = node.inode
    return inode.uid <= 0xFFFF and inode.gid <= 0xFFFF and node.size <= 0xFFFFFFFF and len(inode.children) < 0xFFF0


def _write_super(out: bytearray, placed: list[_Placed], xattr_block: int, blocks: int) -> None:
    _HEADER.pack_into(out, 0, _COMPOSEFS_MAGIC, _COMPOSEFS_HEADER_VERSION, 0, 0)
    _SUPER.pack_into(
        out,
        _SUPER_OFFSET,
        _EROFS_MAGIC,
        0,  # checksum: not used
        _COMPAT_MTIME | _COMPAT_XATTR_FILTER,
        _BLOCK_BITS,
        0,  # extension slots
        placed[0].pos // _SLOT_BYTES,
        len(placed),
        0,  # build time, which compact inodes inherit
        0,  # and its nanoseconds
        blocks,
        0,  # inodes are counted from block 0
        xattr_block,
        _INCOMPAT_CHUNKED_FILE,
    )


def _write_inode(out: bytearray, node: _Placed, number: int, ids: Mapping[bytes, int]) -> None:
    inode = node.inode
    words = len(node.shared) + sum(map(len, node.inline)) // 4
    icount = words + 1 if words else 0
    data = node.first_block if node.blocks else 0
    if stat.S_ISREG(inode.mode) and inode.size:
        layout, data = _CHUNK_BASED, _chunk_bits(inode.size) - _BLOCK_BITS
    else:
        layout = _FLAT_INLINE if node.tail else _FLAT_PLAIN
    pos = node.pos
    if _is_compact(node):
        _COMPACT.pack_into(
            out, pos, layout << 1, icount, inode.mode, _links(inode), node.size, 0, data, number, inode.uid, inode.gid
        )
        pos += _COMPACT.size
    else:
        _EXTENDED.pack_into(
            out, pos, layout << 1 | 1, icount, inode.mode, 0, node.size, data, number, inode.uid, inode.gid, 0, 0,
            _links(inode),
        )  # fmt: skip
        pos += _EXTENDED.size
    if words:
        _XATTR_HEADER.pack_into(out, pos, node.filter, len(node.shared))
        body = b"".join([ids[entry].to_bytes(4, "little") for entry in node.shared] + node.inline)
        pos += _XATTR_HEADER.size
        out[pos : pos + len(body)] = body


def _write_data(out: bytearray, node: _Placed, number: int, placed: list[_Placed]) -> None:
    inode = node.inode
    tail_pos = node.pos + node.head
    if stat.S_ISREG(inode.mode):
        out[tail_pos : tail_pos + node.tail] = _NULL_ADDR * (node.tail // 4)
    elif stat.S_ISLNK(inode.mode):
        pos = node.first_block * BLOCK_BYTES if node.blocks else tail_pos
        out[pos : pos + node.size] = inode.target
    else:
        entries = _entries(node, number, placed)
        for index, (first, last) in enumerate(node.pieces):
            piece = _directory_block(entries[first:last])
            pos = (node.first_block + index) * BLOCK_BYTES if index < node.blocks else tail_pos
            out[pos : pos + len(piece)] = piece


def _entries(node: _Placed, number: int, placed: list[_Placed]) -> list[tuple[bytes, int, int]]:
    """Returns name, inode number and type of everything in a directory, in the order of the names' bytes."""
    children = placed[node.first_child : node.first_child + len(node.names)]
    found = [
        (name, child.pos // _SLOT_BYTES, _FILE_TYPES[stat.S_IFMT(child.inode.mode)])
        for name, child in zip(node.names, children, strict=True)
    ]
    for name, target in ((b".", node), (b"..", placed[node.parent])):
        entry = (name, target.pos // _SLOT_BYTES, _FILE_TYPES[stat.S_IFDIR])
        found.insert(bisect_left(found, entry), entry)
    return found


def _directory_block(entries: list[tuple[bytes, int, int]]) -> bytes:
    parts: list[bytes] = []
    name_offset = _DIRENT.size * len(entries)
    for name, nid, kind in entries:
        parts.append(_DIRENT.pack(nid, name_offset, kind))
        name_offset += len(name)
    parts.extend(entry[0] for entry in entries)
    return b"".join(parts)


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
