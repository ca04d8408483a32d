"""What is written as an EROFS image is what an independent reader finds in it."""

from __future__ import annotations

import stat
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.composefs.erofs_reader import Image
from tests.property.composefs.trees import linked_trees, trees

from wherry.store.mount.erofs import Inode, build

FILE = Inode(mode=stat.S_IFREG | 0o644, uid=0, gid=0)


def directory(children: dict[bytes, Inode]) -> Inode:
    return Inode(mode=stat.S_IFDIR | 0o755, uid=0, gid=0, children=children)


@given(trees)
@settings(max_examples=150, deadline=None)
def test_round_trip(tree: Inode) -> None:
    image = build(tree)
    assert Image(bytes(image)).read_tree() == tree
    assert build(tree) == image


@given(linked_trees())
@settings(max_examples=60, deadline=None)
def test_hard_links(tree: Inode) -> None:
    assert Image(bytes(build(tree))).read_tree() == tree


@given(st.integers(0, 5000), st.integers(1, 255))
@settings(max_examples=25, deadline=None)
def test_directories_of_every_size(count: int, width: int) -> None:
    tree = directory({str(number).zfill(width).encode()[-255:]: FILE for number in range(count)})
    assert Image(bytes(build(tree))).read_tree() == tree


@given(st.lists(st.integers(1, 4095), min_size=1, max_size=60), st.integers(0, 900))
@settings(max_examples=60, deadline=None)
def test_links_at_every_place_in_a_block(lengths: list[int], padding: int) -> None:
    xattrs = ((b"user.p", b"x" * padding),)
    children = {
        str(index).encode(): Inode(mode=stat.S_IFLNK | 0o777, uid=0, gid=0, target=b"t" * length, xattrs=xattrs)
        for index, length in enumerate(lengths)
    }
    tree = directory(children)
    assert Image(bytes(build(tree))).read_tree() == tree


@pytest.mark.parametrize("count", [127, 128, 129, 300])
def test_more_shared_attributes_than_an_inode_can_name(count: int) -> None:
    xattrs = tuple(sorted((f"user.{number:04}".encode(), b"v") for number in range(count)))
    tree = directory({name: Inode(mode=stat.S_IFREG, uid=0, gid=0, xattrs=xattrs) for name in (b"a", b"b")})
    image = bytes(build(tree))
    assert Image(image).read_tree() == tree


def test_a_tail_is_never_confused_with_padding() -> None:
    image = bytes(build(directory({})))
    assert Image(image).read_tree() == directory({})
    assert len(image) == 4096
    assert struct.unpack_from("<I", image)[0] == 0xD078629A
