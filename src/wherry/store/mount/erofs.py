"""Writes EROFS images that hold metadata: names, modes, owners, extended attributes, links, devices; few contents.

A regular file with content is an inode of the right size whose data is a hole; where its bytes are is told by extended
attributes that the caller sets (``mount/overlay_tree.py``), or, for small files, the bytes stand in the image. The
format is what the kernel's documentation "EROFS: on-disk format" describes, without compression and checksums:

    0      composefs header (32 bytes), zeros
    1024   superblock (128 bytes)
    1152   inodes, each at a multiple of 32, followed by its attributes and its tail: the last part of a
           directory or of a content, the target of a link, or the chunk map of a file
    ...    shared attributes: those that more than one inode has
    ...    whole blocks: directories and contents that do not fit in a tail, long link targets

The number of an inode is its offset divided by 32. Inodes lie in breadth-first order, names by their bytes. Every
choice that the format leaves open is made as libcomposefs 1.0 makes it, its oddities included, so that the same tree
gives the same bytes here and there. Budget: 20 µs and 1 KB of memory for a file.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from wherry.core.errors import InvalidInput
from wherry.store.mount.erofs_xattrs import ACL_NAMES, SharedXattrs, Xattr

BLOCK_BYTES = 4096
MAX_NAME_BYTES = 255
MAX_SYMLINK_BYTES = 4095
MAX_CONTENT_BYTES = 5000
"""Of a file whose bytes stand in the image."""
MAX_FILE_BYTES = 1 << 53
"""Of any other file: its chunk map is at most one block."""
MAX_FORMAT_VERSION = 1

_BLOCK_BITS = 12
_SLOT_BYTES = 32
_SUPER_OFFSET = 1024
_EROFS_MAGIC = 0xE0F5E1E2
_COMPOSEFS_MAGIC = 0xD078629A
_COMPOSEFS_HEADER_VERSION = 1
_COMPOSEFS_HAS_ACL = 1
_COMPAT_MTIME = 0x2
_COMPAT_XATTR_FILTER = 0x4
_FLAT_PLAIN, _FLAT_INLINE, _CHUNK_BASED = 0, 2, 4
_MAX_CHUNK_BITS = _BLOCK_BITS + 31
_NULL_ADDR = b"\xff\xff\xff\xff"
_MAX_TAIL_BYTES = BLOCK_BYTES // 2
_FILE_TYPES = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}

_HEADER = struct.Struct("<IIII16x")
_SUPER = struct.Struct("<IIIBBHQQIIII32xI44x")
_COMPACT = struct.Struct("<HHHHIIIIHH4x")
_EXTENDED = struct.Struct("<HHHHQIIIIQII16x")
_DIRENT = struct.Struct("<QHBx")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inode:
    """A file of any type. One object may stand at several places of a tree: each is an inode of its own."""

    mode: int
    """``st_mode``, with the type."""
    uid: int = 0
    gid: int = 0
    size: int = 0
    """Bytes of a regular file; of no other."""
    content: bytes = b""
    """All bytes of a regular file that stands in the image; empty: they are elsewhere."""
    target: bytes = b""
    """Of a symbolic link."""
    rdev: int = 0
    """Of a device, as the kernel encodes it in 32 bits."""
    links: int = 1
    """``st_nlink``; counted for directories."""
    mtime_s: int = 0
    mtime_ns: int = 0
    xattrs: tuple[Xattr, ...] = ()
    """Full names and values, as they will be in the image, sorted by name."""
    children: Mapping[bytes, Inode | Link] = field(default_factory=dict)
    """Of a directory, by name."""


@dataclass(frozen=True, slots=True)
class Link:
    """A further name of a file that stands elsewhere in the tree, as this very object and once."""

    to: Inode


class _Placed:
    """An inode at its place in the tree, and later in the image."""

    __slots__ = (
        "blocks",
        "compact",
        "first_block",
        "first_child",
        "head",
        "inode",
        "names",
        "parent",
        "pos",
        "size",
        "tail",
    )

    def __init__(self, inode: Inode, parent: int) -> None:
        self.inode = inode
        self.parent = parent
        self.names: list[bytes] = []
        """Of a directory: all names, sorted, with ``.`` and ``..``."""
        self.first_child = 0
        """Of a directory: the index of the first of its children that is no `Link`; the others follow."""
        self.pos = 0
        self.compact = True
        self.head = 0
        """Bytes of the inode and its attributes."""
        self.tail = 0
        """Bytes of data that follow the head."""
        self.size = 0
        self.blocks = 0
        """How many whole blocks of data it has elsewhere."""
        self.first_block = 0


def build(root: Inode, *, version: int = 0) -> bytearray:
    """Returns the image of a tree.

    Args:
        root: its top directory.
        version: of composefs' conventions, for the header.

    Raises:
        InvalidInput: a name, link target, size or attribute that the format cannot hold.
        Unsupported: more attributes on one file than the format can count.
    """
    if not stat.S_ISDIR(root.mode):
        raise InvalidInput("the top of an image is not a directory")
    return _Writer(root).write(version)


class _Writer:
    def __init__(self, root: Inode) -> None:
        self._placed = _breadth_first(root)
        self._by_id: dict[int, int] = {}
        self._shared = SharedXattrs(node.inode.xattrs for node in self._placed)
        self._epoch = min((node.inode.mtime_s, node.inode.mtime_ns) for node in self._placed)
        self._find_links()
        self._inodes_end = self._lay_out()
        block = -(-(self._inodes_end + self._shared.size) // BLOCK_BYTES)
        for node in self._placed:
            if node.blocks:
                node.first_block = block
                block += node.blocks
        self._blocks = block

    def write(self, version: int) -> bytearray:
        out = bytearray(self._blocks * BLOCK_BYTES)
        self._write_super(out, version)
        for number, node in enumerate(self._placed):
            self._write_inode(out, node, number)
            self._write_data(out, node)
        out[self._inodes_end : self._inodes_end + self._shared.size] = self._shared.serialize()
        return out

    def _find_links(self) -> None:
        """Finds where in the tree the targets of links stand."""
        wanted = {
            id(child.to) for node in self._placed for child in node.inode.children.values() if type(child) is Link
        }
        if not wanted:
            return
        self._by_id = {id(node.inode): number for number, node in enumerate(self._placed) if id(node.inode) in wanted}
        if len(self._by_id) != len(wanted):
            raise InvalidInput("a hard link to a file that is not in the tree")
        if any(stat.S_ISDIR(self._placed[number].inode.mode) for number in self._by_id.values()):
            raise InvalidInput("a hard link to a directory")

    # --- where everything lies

    def _lay_out(self) -> int:
        """Gives every inode its position; returns the end of them all."""
        pos = _SUPER_OFFSET + _SUPER.size
        for node in self._placed:
            self._measure(node)
            node.pos = pos = _place(node, -(-pos // _SLOT_BYTES) * _SLOT_BYTES)
            pos += node.head + node.tail
        return -(-pos // _SLOT_BYTES) * _SLOT_BYTES

    def _measure(self, node: _Placed) -> None:
        """Finds out how large the inode's head and tail are, and how many blocks it needs."""
        inode = node.inode
        kind = stat.S_IFMT(inode.mode)
        if kind == stat.S_IFREG:
            _measure_file(node)
        elif kind == stat.S_IFLNK:
            node.size = node.tail = len(inode.target)
            if not 0 < node.size <= MAX_SYMLINK_BYTES or b"\0" in inode.target:
                raise InvalidInput(f"not the target of a symbolic link: {inode.target[:80]!r} ({node.size} bytes)")
        elif kind == stat.S_IFDIR:
            *whole, last = _split(node.names)
            node.blocks = len(whole)
            node.tail = last[2]
            if node.tail > _MAX_TAIL_BYTES:
                node.blocks, node.tail = node.blocks + 1, 0
            node.size = node.blocks * BLOCK_BYTES + node.tail
        elif kind not in _FILE_TYPES:
            raise InvalidInput(f"no type of file: mode {inode.mode:o}")
        node.compact = (
            inode.uid <= 0xFFFF
            and inode.gid <= 0xFFFF
            and node.size <= 0xFFFFFFFF
            and self._links(node) <= 0xFFFF
            and (inode.mtime_s, inode.mtime_ns) == self._epoch
        )
        node.head = (_COMPACT.size if node.compact else _EXTENDED.size) + self._shared.body_size(inode.xattrs)

    def _links(self, node: _Placed) -> int:
        inode = node.inode
        if not stat.S_ISDIR(inode.mode):
            return inode.links
        children = inode.children.values()
        return 2 + sum(type(child) is Inode and stat.S_ISDIR(child.mode) for child in children)

    # --- the bytes

    def _write_super(self, out: bytearray, version: int) -> None:
        has_acl = any(name in ACL_NAMES for node in self._placed for name, _ in node.inode.xattrs)
        flags = _COMPOSEFS_HAS_ACL if has_acl else 0
        _HEADER.pack_into(out, 0, _COMPOSEFS_MAGIC, _COMPOSEFS_HEADER_VERSION, flags, version)
        _SUPER.pack_into(
            out,
            _SUPER_OFFSET,
            _EROFS_MAGIC,
            0,  # checksum: not used
            _COMPAT_MTIME | _COMPAT_XATTR_FILTER,
            _BLOCK_BITS,
            0,  # extension slots
            self._placed[0].pos // _SLOT_BYTES,
            len(self._placed),
            self._epoch[0] & (1 << 64) - 1,  # build time, which compact inodes inherit
            self._epoch[1],
            self._blocks,
            0,  # inodes are counted from block 0
            self._inodes_end // BLOCK_BYTES,
            0,  # chunked files are not declared; the kernel does not ask
        )

    def _write_inode(self, out: bytearray, node: _Placed, number: int) -> None:
        inode = node.inode
        kind = stat.S_IFMT(inode.mode)
        head = _COMPACT.size if node.compact else _EXTENDED.size
        body = self._shared.serialize_body(inode.xattrs, self._inodes_end % BLOCK_BYTES) if inode.xattrs else b""
        icount = len(body) // 4 - 2 if body else 0
        layout = _FLAT_INLINE if node.tail else _FLAT_PLAIN
        data = node.first_block
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            data = inode.rdev & 0xFFFFFFFF
        elif kind == stat.S_IFREG and node.size and not inode.content:
            layout = _CHUNK_BASED
            data = data & 0xFFFF0000 | _chunk_bits(node.size) - _BLOCK_BITS
        if node.compact:
            _COMPACT.pack_into(
                out, node.pos, layout << 1, icount, inode.mode, self._links(node), node.size, 0, data, number,
                inode.uid, inode.gid,
            )  # fmt: skip
        else:
            _EXTENDED.pack_into(
                out, node.pos, layout << 1 | 1, icount, inode.mode, 0, node.size, data, number, inode.uid, inode.gid,
                inode.mtime_s & (1 << 64) - 1, inode.mtime_ns, self._links(node),
            )  # fmt: skip
        out[node.pos + head : node.pos + head + len(body)] = body

    def _write_data(self, out: bytearray, node: _Placed) -> None:
        inode = node.inode
        kind = stat.S_IFMT(inode.mode)
        tail_pos = node.pos + node.head
        blocks_pos = node.first_block * BLOCK_BYTES
        if kind == stat.S_IFDIR:
            entries = self._entries(node)
            for index, (first, last, _) in enumerate(_split(node.names)):
                piece = _directory_block(entries[first:last])
                pos = blocks_pos + index * BLOCK_BYTES if index < node.blocks else tail_pos
                out[pos : pos + len(piece)] = piece
        elif kind == stat.S_IFLNK:
            pos = blocks_pos if node.blocks else tail_pos
            out[pos : pos + node.size] = inode.target
        elif inode.content:
            whole = min(node.blocks * BLOCK_BYTES, node.size)
            out[blocks_pos : blocks_pos + whole] = inode.content[:whole]
            out[tail_pos : tail_pos + node.tail] = inode.content[node.size - node.tail :]
        elif node.blocks:
            out[blocks_pos : blocks_pos + BLOCK_BYTES] = _NULL_ADDR * (BLOCK_BYTES // 4)
        elif node.tail:
            out[tail_pos : tail_pos + node.tail] = _NULL_ADDR * (node.tail // 4)

    def _entries(self, node: _Placed) -> list[tuple[bytes, int, int]]:
        """Returns name, inode number and type of everything in a directory, in the order of the names' bytes."""
        found: list[tuple[bytes, int, int]] = []
        following = node.first_child
        for name in node.names:
            child = node.inode.children.get(name)
            if child is None:  # "." or ".."
                to = node if name == b"." else self._placed[node.parent]
            elif type(child) is Link:
                to = self._placed[self._by_id[id(child.to)]]
            else:
                to = self._placed[following]
                following += 1
            found.append((name, to.pos // _SLOT_BYTES, _FILE_TYPES[stat.S_IFMT(to.inode.mode)]))
        return found


def _breadth_first(root: Inode) -> list[_Placed]:
    placed = [_Placed(root, 0)]
    for number, node in enumerate(placed):  # grows while it is walked
        if not stat.S_ISDIR(node.inode.mode):
            if node.inode.children:
                raise InvalidInput("only a directory has children")
            continue
        node.first_child = len(placed)
        for name in sorted(node.inode.children):
            if not 0 < len(name) <= MAX_NAME_BYTES or b"/" in name or b"\0" in name or name in (b".", b".."):
                raise InvalidInput(f"not a file name: {name[:80]!r}")
            child = node.inode.children[name]
            if isinstance(child, Inode):
                placed.append(_Placed(child, number))
        node.names = sorted((*node.inode.children, b".", b".."))
    return placed


def _place(node: _Placed, pos: int) -> int:
    """Returns the first position from `pos` on that will do; may move the tail of `node` into a block of its own.

    The kernel maps a tail as a piece of one block, so none may cross into the next; and it reads a link the fast way
    only where its inode is in the same block.
    """
    if stat.S_ISLNK(node.inode.mode):
        total = node.head + node.tail
        crosses = pos // BLOCK_BYTES != (pos + total - 1) // BLOCK_BYTES
        if total >= BLOCK_BYTES:
            node.blocks, node.tail = 1, 0
        return -(-pos // BLOCK_BYTES) * BLOCK_BYTES if crosses else pos
    room = BLOCK_BYTES - (pos + node.head) % BLOCK_BYTES
    if room >= node.tail:
        return pos
    padding = -(-room // _SLOT_BYTES) * _SLOT_BYTES
    if node.tail <= BLOCK_BYTES - (pos + node.head + padding) % BLOCK_BYTES:
        return pos + padding
    node.blocks, node.tail = node.blocks + 1, 0
    return -(-pos // BLOCK_BYTES) * BLOCK_BYTES


def _split(names: list[bytes]) -> list[tuple[int, int, int]]:
    """Returns which names make up each block of a directory (the first, and the one behind the last), and its bytes."""
    found: list[tuple[int, int, int]] = []
    used = first = 0
    for number, name in enumerate(names):
        length = _DIRENT.size + len(name)
        if used + length > BLOCK_BYTES:
            found.append((first, number, used))
            used, first = 0, number
        used += length
    found.append((first, len(names), used))
    return found


def _measure_file(node: _Placed) -> None:
    inode = node.inode
    node.size = inode.size
    if inode.content:
        if len(inode.content) != inode.size or inode.size > MAX_CONTENT_BYTES:
            raise InvalidInput(f"a content of {len(inode.content)} bytes for a file of {inode.size}")
        node.blocks, node.tail = divmod(inode.size, BLOCK_BYTES)
        if node.tail > _MAX_TAIL_BYTES:
            node.blocks, node.tail = node.blocks + 1, 0
    elif not 0 <= inode.size <= MAX_FILE_BYTES:
        raise InvalidInput(f"a file of {inode.size} bytes cannot be in an image; the limit is {MAX_FILE_BYTES}")
    elif inode.size:
        node.tail = 4 * -(-inode.size // (1 << _chunk_bits(inode.size)))


def _chunk_bits(size: int) -> int:
    """Returns the smallest chunk that holds the whole file, so that its map has one entry (but above 8 TiB)."""
    return min(max((size - 1).bit_length(), _BLOCK_BITS), _MAX_CHUNK_BITS)


def _directory_block(entries: list[tuple[bytes, int, int]]) -> bytes:
    parts: list[bytes] = []
    name_offset = _DIRENT.size * len(entries)
    for name, nid, kind in entries:
        parts.append(_DIRENT.pack(nid, name_offset, kind))
        name_offset += len(name)
    parts.extend(entry[0] for entry in entries)
    return b"".join(parts)
