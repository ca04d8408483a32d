"""Objects: values become bytes and come back; a .filez in any pieces is one object or refused."""

from __future__ import annotations

import stat

from hypothesis import given
from hypothesis import strategies as st

from wherry.core.digest import Checksum
from wherry.core.errors import IntegrityError, InvalidInput
from wherry.store.disk import content
from wherry.store.format import dirtree, objects, variant
from wherry.store.format.objects import Commit, DirMeta, DirTree, FileHeader, Xattrs

_NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..")
)
_SUMS = st.binary(min_size=32, max_size=32).map(lambda data: Checksum(data.hex()))
_IDS = st.integers(0, 2**32 - 1)
_BITS = st.integers(0, 0o7777)


def _sorted(found: dict[bytes, bytes]) -> Xattrs:
    return tuple(sorted(found.items()))


_XATTRS = st.dictionaries(
    st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name), st.binary(max_size=300), max_size=4
).map(_sorted)
_HEADERS = st.builds(
    FileHeader, uid=_IDS, gid=_IDS, mode=_BITS.map(lambda bits: stat.S_IFREG | bits), xattrs=_XATTRS
) | st.builds(FileHeader, uid=_IDS, gid=_IDS, mode=st.just(0o120777), symlink_target=_NAMES, xattrs=_XATTRS)


@given(_HEADERS, st.integers(0, 2**63))
def test_archive_head(header: FileHeader, size: int) -> None:
    size = 0 if header.is_symlink else size
    head = objects.archive_head(header, size)
    assert objects.parse_archive_head(head[8:]) == (header, size)
    assert len(head) == 8 + int.from_bytes(head[:4], "big")


@given(_HEADERS)
def test_bare_user_meta(header: FileHeader) -> None:
    found = objects.parse_file_meta(objects.serialize_file_meta(header))
    assert found == (header.uid, header.gid, header.mode, header.xattrs)


@given(st.builds(DirMeta, uid=_IDS, gid=_IDS, mode=_BITS.map(lambda bits: stat.S_IFDIR | bits), xattrs=_XATTRS))
def test_dirmeta(meta: DirMeta) -> None:
    assert objects.parse_dirmeta(objects.serialize_dirmeta(meta)) == meta


@given(st.dictionaries(_NAMES, st.none() | st.tuples(_SUMS, _SUMS), max_size=12), _SUMS)
def test_dirtree(entries: dict[str, tuple[Checksum, Checksum] | None], file: Checksum) -> None:
    tree = DirTree(
        files=tuple((name, file) for name in sorted(entries) if entries[name] is None),
        dirs=tuple((name, *found) for name in sorted(entries) if (found := entries[name]) is not None),
    )
    data = objects.serialize_dirtree(tree)
    assert objects.parse_dirtree(data) == tree
    files = [(name, bytes.fromhex(checksum)) for name, checksum in tree.files]
    dirs = [(name, bytes.fromhex(checksum), bytes.fromhex(meta)) for name, checksum, meta in tree.dirs]
    assert data == variant.encode(objects.DIRTREE_TYPE, (files, dirs))
    assert dirtree.read(data) == (list(tree.files), list(tree.dirs))
    assert dirtree.read_digests(data) == (
        [file[1] for file in files],
        [below[1] for below in dirs],
        [below[2] for below in dirs],
    )


@given(
    st.builds(
        Commit,
        tree=_SUMS,
        meta=_SUMS,
        timestamp_s=st.integers(-(2**63), 2**63 - 1),
        subject=_NAMES,
        body=_NAMES,
        parent=st.none() | _SUMS,
        metadata=st.dictionaries(_NAMES, _NAMES, max_size=4),
    )
)
def test_commit(commit: Commit) -> None:
    data = objects.serialize_commit(commit)
    assert objects.parse_commit(data) == commit
    assert objects.serialize_commit(objects.parse_commit(data)) == data


@given(_HEADERS, st.binary(max_size=5000), st.lists(st.integers(1, 700), min_size=1, max_size=6))
def test_archive_reader_takes_any_pieces(header: FileHeader, data: bytes, sizes: list[int]) -> None:
    data = b"" if header.is_symlink else data
    whole = objects.archive_head(header, len(data)) + (b"" if header.is_symlink else content.deflate(data, 3))
    got = bytearray()

    class Sink:
        def write(self, piece: bytes, /) -> None:
            got.extend(piece)

    reader = content.ArchiveReader(lambda *_: Sink(), where="test")
    at, turn = 0, 0
    while at < len(whole):
        size = sizes[turn % len(sizes)]
        reader.feed(whole[at : at + size])
        at, turn = at + size, turn + 1
    assert reader.finish() == objects.file_checksum(header, data)
    assert bytes(got) == data


@given(_HEADERS, st.binary(max_size=2000), st.data())
def test_damaged_archive_is_refused_or_has_another_name(header: FileHeader, data: bytes, draw: st.DataObject) -> None:
    data = b"" if header.is_symlink else data
    whole = bytearray(objects.archive_head(header, len(data)))
    whole += b"" if header.is_symlink else content.deflate(data, 3)
    whole[draw.draw(st.integers(0, len(whole) - 1))] ^= draw.draw(st.integers(1, 255))
    cut = draw.draw(st.integers(0, len(whole)))
    reader = content.ArchiveReader(lambda *_: None, where="test")
    try:
        reader.feed(bytes(whole[:cut]))
        reader.feed(bytes(whole[cut:]))
        found = reader.finish()
    except (InvalidInput, IntegrityError):
        return
    # Deflate has bits that mean nothing (stored blocks' padding), so the same name is possible, another content is not.
    if found == objects.file_checksum(header, data):
        assert reader.header == header


@given(st.dictionaries(_NAMES, st.none() | st.tuples(_SUMS, _SUMS), min_size=1, max_size=4), _SUMS, st.data())
def test_hostile_dirtree(
    entries: dict[str, tuple[Checksum, Checksum] | None], file: Checksum, draw: st.DataObject
) -> None:
    """What the quick reader takes, the general codec takes too, as the same."""
    tree = DirTree(
        files=tuple((name, file) for name in sorted(entries) if entries[name] is None),
        dirs=tuple((name, *found) for name in sorted(entries) if (found := entries[name]) is not None),
    )
    data = bytearray(objects.serialize_dirtree(tree))
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, len(data) - 1))
        data[at : at + draw.draw(st.integers(0, 2))] = draw.draw(st.binary(max_size=2))
        if not data:
            return
    quick = dirtree.read(bytes(data))
    digests = dirtree.read_digests(bytes(data))
    if quick is not None:
        files, dirs = variant.decode(objects.DIRTREE_TYPE, bytes(data))
        assert quick[0] == [(name, checksum.hex()) for name, checksum in files]
        assert quick[1] == [(name, checksum.hex(), meta.hex()) for name, checksum, meta in dirs]
        assert digests == ([entry[1] for entry in files], [entry[1] for entry in dirs], [entry[2] for entry in dirs])
