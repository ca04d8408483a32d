"""Hypothesis strategies for trees that are hard to write down as an image."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from wherry.store.mount.erofs import Inode, Link

names = st.one_of(
    st.binary(min_size=1, max_size=12),
    st.sampled_from([b"+", b"-", b"!", b"...", b".a", b"..b", b"a" * 255, b"\xff" * 255]),
).filter(lambda name: name not in (b".", b"..") and b"/" not in name and b"\0" not in name)
ids = st.one_of(st.integers(0, 1000), st.sampled_from([65535, 65536, 2**32 - 2]))
modes = st.integers(0, 0o7777)
sizes = st.one_of(st.integers(0, 10000), st.sampled_from([4096, 4097, 2**32 - 1, 2**32, 2**40, 2**43 + 1, 2**50]))
times = st.sampled_from([(0, 0), (0, 0), (0, 0), (1, 999_999_999), (2**33, 0)])
xattr_names = st.one_of(
    st.sampled_from([b"security.capability", b"user.a", b"user.b", b"trusted.overlay.metacopy", b"trusted.x"]),
    st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name).map(lambda name: b"user." + name),
)
xattr_values = st.one_of(st.sampled_from([b"", b"1", b"x" * 3000, b"y" * 5000]), st.binary(max_size=40))
xattrs = st.dictionaries(xattr_names, xattr_values, max_size=6).map(lambda found: tuple(sorted(found.items())))
targets = st.one_of(st.binary(min_size=1, max_size=60), st.integers(1, 4095).map(lambda size: b"t" * size)).filter(
    lambda target: b"\0" not in target
)


def _made(kind: int) -> Callable[..., Inode]:
    def make(mode: int, time: tuple[int, int], **rest: Any) -> Inode:
        return Inode(mode=kind | mode, mtime_s=time[0], mtime_ns=time[1], **rest)

    return make


common: Any = {"mode": modes, "uid": ids, "gid": ids, "xattrs": xattrs, "time": times}
files = st.builds(_made(stat.S_IFREG), **common, size=sizes, links=st.sampled_from([1, 2, 65535, 65536]))
contents = st.builds(
    lambda content, **rest: _made(stat.S_IFREG)(content=content, size=len(content), **rest),
    **common,
    content=st.one_of(st.binary(max_size=70), st.integers(1, 5000).map(lambda size: b"c" * size)),
)
links = st.builds(_made(stat.S_IFLNK), **common, target=targets)
devices = st.one_of(
    *(
        st.builds(
            _made(kind),
            **common,
            rdev=st.integers(0, 2**32 - 1) if kind in (stat.S_IFCHR, stat.S_IFBLK) else st.just(0),
        )
        for kind in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK)
    )
)


def directories(children: st.SearchStrategy[Inode], max_size: int = 8) -> st.SearchStrategy[Inode]:
    return st.builds(_made(stat.S_IFDIR), **common, children=st.dictionaries(names, children, max_size=max_size))


trees = directories(st.recursive(files | contents | links | devices, directories, max_leaves=25))


@st.composite
def linked_trees(draw: st.DrawFn) -> Inode:
    """Trees with further names of some of their files."""
    tree = draw(trees)
    found = [child for child in tree.children.values() if isinstance(child, Inode) and not stat.S_ISDIR(child.mode)]
    added: dict[bytes, Inode | Link] = {
        name: Link(draw(st.sampled_from(found)))
        for name in draw(st.lists(names, max_size=4, unique=True))
        if found and name not in tree.children and name > max(tree.children)
    }
    return replace(tree, children={**tree.children, **added})
