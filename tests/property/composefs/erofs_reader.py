"""A reader of EROFS images for tests: written from the format's description, not from the writer."""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from typing import Any

from wherry.store.mount.erofs import BLOCK_BYTES, Inode, Link
from wherry.store.mount.erofs_xattrs import xxh32

KINDS = {1: stat.S_IFREG, 2: stat.S_IFDIR, 3: stat.S_IFCHR, 4: stat.S_IFBLK, 5: stat.S_IFIFO, 6: stat.S_IFSOCK}
KINDS[7] = stat.S_IFLNK
PREFIXES = {
    0: b"",
    1: b"user.",
    2: b"system.posix_acl_access",
    3: b"system.posix_acl_default",
    4: b"trusted.",
    6: b"security.",
}


class Image:
    """An image, opened; ``read_tree`` gives the tree back."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        assert struct.unpack_from("<I", data, 1024)[0] == 0xE0F5E1E2
        self.root_nid = struct.unpack_from("<H", data, 1024 + 14)[0]
        self.inode_count = struct.unpack_from("<Q", data, 1024 + 16)[0]
        self.epoch = struct.unpack_from("<QI", data, 1024 + 24)
        self.block_count, meta_block, self.xattr_block = struct.unpack_from("<III", data, 1024 + 36)
        assert meta_block == 0
        assert self.block_count * BLOCK_BYTES == len(data)
        self.seen: dict[int, Inode] = {}

    def read_tree(self) -> Inode:
        tree = self._inode(self.root_nid, self.root_nid)
        assert len(self.seen) == self.inode_count
        return tree

    def _inode(self, nid: int, parent: int) -> Inode:
        assert nid not in self.seen
        data, pos = self.data, nid * 32
        fmt, icount, mode = struct.unpack_from("<HHH", data, pos)
        mtime: list[int] = list(self.epoch)
        if fmt & 1:
            size, union, _, uid, gid, *mtime, nlink = struct.unpack_from("<QIIIIQII", data, pos + 8)
            head = 64
        else:
            nlink, size, delta, union, _, uid, gid = struct.unpack_from("<HIIIIHH", data, pos + 6)
            assert delta == 0
            head = 32
        layout = fmt >> 1 & 7
        xattrs = self._xattrs(pos + head, icount)
        head += 12 + 4 * (icount - 1) if icount else 0
        kwargs = {"mode": mode, "uid": uid, "gid": gid, "xattrs": xattrs, "mtime_s": mtime[0], "mtime_ns": mtime[1]}
        if stat.S_ISDIR(mode):
            return self._directory(kwargs, nid, parent, nlink, self._content(layout, union, size, pos + head))
        kwargs["links"] = nlink
        if stat.S_ISREG(mode):
            kwargs["size"] = size
            if layout == 4:
                assert union & ~0x1F == 0
                chunks = -(-size // (BLOCK_BYTES << union))
                assert data[pos + head : pos + head + 4 * chunks] == b"\xff\xff\xff\xff" * chunks
            else:
                kwargs["content"] = self._content(layout, union, size, pos + head)
        elif stat.S_ISLNK(mode):
            kwargs["target"] = self._content(layout, union, size, pos + head)
        else:
            assert (layout, size) == (0, 0)
            kwargs["rdev"] = union
        self.seen[nid] = Inode(**kwargs)
        return self.seen[nid]

    def _directory(self, kwargs: dict[str, Any], nid: int, parent: int, nlink: int, content: bytes) -> Inode:
        entries = dict(self._entries(content))
        assert entries.pop(b".") == (nid, 2)
        assert entries.pop(b"..") == (parent, 2)
        children: dict[bytes, Inode | Link] = {}
        for name, (child, kind) in entries.items():
            known = self.seen.get(child)
            children[name] = Link(known) if known else self._inode(child, nid)
            assert KINDS[kind] == stat.S_IFMT(self.seen[child].mode)
        found = Inode(**kwargs, children=children)
        assert nlink == 2 + sum(type(child) is Inode and stat.S_ISDIR(child.mode) for child in children.values())
        self.seen[nid] = found
        return found

    def _content(self, layout: int, first_block: int, size: int, tail_pos: int) -> bytes:
        if layout == 0:
            start = first_block * BLOCK_BYTES
            return self.data[start : start + size]
        assert layout == 2
        blocks, tail = divmod(size, BLOCK_BYTES)
        assert tail
        assert tail_pos // BLOCK_BYTES == (tail_pos + tail - 1) // BLOCK_BYTES, "a tail crosses a block"
        start = first_block * BLOCK_BYTES
        return self.data[start : start + blocks * BLOCK_BYTES] + self.data[tail_pos : tail_pos + tail]

    def _entries(self, content: bytes) -> Iterator[tuple[bytes, tuple[int, int]]]:
        last = b""
        for start in range(0, len(content), BLOCK_BYTES):
            block = content[start : start + BLOCK_BYTES]
            count = struct.unpack_from("<H", block, 8)[0] // 12
            heads = [struct.unpack_from("<QHB", block, 12 * index) for index in range(count)]
            ends = [head[1] for head in heads[1:]] + [len(block)]
            for (nid, offset, kind), end in zip(heads, ends, strict=True):
                name = block[offset:end].rstrip(b"\0")
                assert name > last, "names are not sorted"
                last = name
                yield name, (nid, kind)

    def _xattrs(self, pos: int, icount: int) -> tuple[tuple[bytes, bytes], ...]:
        if not icount:
            return ()
        name_filter, shared = struct.unpack_from("<IB", self.data, pos)
        end = pos + 12 + 4 * (icount - 1)
        found = []
        for index in range(shared):
            ident = struct.unpack_from("<I", self.data, pos + 12 + 4 * index)[0]
            found.append(self._xattr(self.xattr_block * BLOCK_BYTES + 4 * ident)[0])
        pos += 12 + 4 * shared
        while pos < end:
            pair, size = self._xattr(pos)
            found.append(pair)
            pos += size
        assert pos == end
        wanted = 0xFFFFFFFF
        for name, _ in found:
            named = ((index, prefix) for index, prefix in PREFIXES.items() if prefix and name.startswith(prefix))
            index, prefix = next(named, (0, b""))
            wanted &= ~(1 << (xxh32(name[len(prefix) :], 0x25BBE08F + index) % 32))
        assert name_filter == wanted
        return tuple(sorted(found))

    def _xattr(self, pos: int) -> tuple[tuple[bytes, bytes], int]:
        name_size, index, value_size = struct.unpack_from("<BBH", self.data, pos)
        name = self.data[pos + 4 : pos + 4 + name_size]
        value = self.data[pos + 4 + name_size : pos + 4 + name_size + value_size]
        return (PREFIXES[index] + name, value), -(-(4 + name_size + value_size) // 4) * 4
