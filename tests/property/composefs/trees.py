"""Hypothesis strategies for trees that are hard to write down as an image."""

from __future__ import annotations

import stat

from hypothesis import strategies as st

from wherry.store.erofs import MAX_FILE_BYTES, Inode

names = st.one_of(
    st.binary(min_size=1, max_size=12),
    st.sampled_from([b"+", b"-", b"!", b"...", b".a", b"..b", b"a" * 255, b"\xff" * 255]),
).filter(lambda name: name not in (b".", b"..") and b"/" not in name and b"\0" not in name)
ids = st.one_of(st.integers(0, 1000), st.sampled_from([65535, 65536, 2**32 - 2]))
modes = st.integers(0, 0o7777)
sizes = st.one_of(
    st.integers(0, 10000), st.sampled_from([4096, 4097, 2**32 - 1, 2**32, 2**40, 2**43 + 1, MAX_FILE_BYTES])
)
xattr_names = st.one_of(
    st.sampled_from([b"security.capability", b"user.a", b"user.b", b"trusted.overlay.metacopy", b"trusted.x"]),
    st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name).map(lambda name: b"user." + name),
)
xattr_values = st.one_of(st.sampled_from([b"", b"1", b"x" * 3000, b"y" * 5000]), st.binary(max_size=40))
xattrs = st.dictionaries(xattr_names, xattr_values, max_size=6).map(lambda found: tuple(sorted(found.items())))
targets = st.one_of(st.binary(min_size=1, max_size=60), st.integers(1, 4095).map(lambda size: b"t" * size)).filter(
    lambda target: b"\0" not in target
)

files = st.builds(
    lambda mode, **rest: Inode(mode=stat.S_IFREG | mode, **rest),
    mode=modes,
    uid=ids,
    gid=ids,
    size=sizes,
    xattrs=xattrs,
)
links = st.builds(
    lambda **rest: Inode(mode=stat.S_IFLNK | 0o777, **rest), uid=ids, gid=ids, target=targets, xattrs=xattrs
)


def directories(children: st.SearchStrategy[Inode], max_size: int = 8) -> st.SearchStrategy[Inode]:
    return st.builds(
        lambda mode, **rest: Inode(mode=stat.S_IFDIR | mode, **rest),
        mode=modes,
        uid=ids,
        gid=ids,
        xattrs=xattrs,
        children=st.dictionaries(names, children, max_size=max_size),
    )


trees = directories(st.recursive(files | links, directories, max_leaves=25))
