"""What the EROFS writer refuses, and the hash that the kernel computes too."""

from __future__ import annotations

import stat

import pytest

from wherry.core.errors import InvalidInput, Unsupported, WherryError
from wherry.store.mount.erofs import MAX_FILE_BYTES, Inode, Link, build
from wherry.store.mount.erofs_xattrs import xxh32


def regular(**values: object) -> Inode:
    return Inode(**{"mode": stat.S_IFREG | 0o644, "uid": 0, "gid": 0} | values)  # type: ignore[arg-type]


def directory(children: dict[bytes, Inode | Link]) -> Inode:
    return Inode(mode=stat.S_IFDIR | 0o755, uid=0, gid=0, children=children)


SUBFOLDER = directory({})


@pytest.mark.parametrize(
    ("data", "seed", "value"),
    [
        (b"", 0, 0x02CC5D05),
        (b"a", 0, 0x550D7456),
        (b"abc", 0, 0x32D153FF),
        (b"Nobody inspects the spammish repetition", 0, 0xE2293B2F),
        (b"", 2654435761, 0x36B78AE7),
    ],
)
def test_xxh32(data: bytes, seed: int, value: int) -> None:
    assert xxh32(data, seed) == value


@pytest.mark.parametrize(
    ("tree", "error", "what"),
    [
        (regular(), InvalidInput, "not a directory"),
        (directory({b"a/b": regular()}), InvalidInput, "not a file name"),
        (directory({b"": regular()}), InvalidInput, "not a file name"),
        (directory({b"..": regular()}), InvalidInput, "not a file name"),
        (directory({b"a\0": regular()}), InvalidInput, "not a file name"),
        (directory({b"a" * 256: regular()}), InvalidInput, "not a file name"),
        (directory({b"a": regular(size=MAX_FILE_BYTES + 1)}), InvalidInput, "cannot be in an image"),
        (directory({b"a": regular(mode=0o644)}), InvalidInput, "no type of file"),
        (directory({b"a": regular(size=5, content=b"1234")}), InvalidInput, "a content of 4 bytes"),
        (directory({b"a": regular(size=5001, content=b"x" * 5001)}), InvalidInput, "a content of 5001 bytes"),
        (directory({b"a": regular(children={b"b": regular()})}), InvalidInput, "only a directory"),
        (directory({b"a": Link(regular())}), InvalidInput, "not in the tree"),
        (directory({b"a": SUBFOLDER, b"b": Link(SUBFOLDER)}), InvalidInput, "link to a directory"),
        (directory({b"a": regular(mode=stat.S_IFLNK)}), InvalidInput, "target"),
        (directory({b"a": regular(mode=stat.S_IFLNK, target=b"x" * 4096)}), InvalidInput, "target"),
        (directory({b"a": regular(xattrs=((b"", b""),))}), InvalidInput, "not the name"),
        (directory({b"a": regular(xattrs=((b"user." + b"x" * 256, b""),))}), InvalidInput, "not the name"),
        (directory({b"a": regular(xattrs=((b"user.a\0", b""),))}), InvalidInput, "not the name"),
        (directory({b"a": regular(xattrs=((b"user.x", b"x" * 65536),))}), InvalidInput, "too long"),
        (
            directory({b"a": regular(xattrs=tuple((f"user.{n}".encode(), b"x" * 60000) for n in range(5)))}),
            Unsupported,
            "too many",
        ),
    ],
)
def test_refused(tree: Inode, error: type[WherryError], what: str) -> None:
    with pytest.raises(error, match=what):
        build(tree)
