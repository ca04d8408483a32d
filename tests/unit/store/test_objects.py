"""Objects that are known, and malformed ones."""

from __future__ import annotations

import stat

import pytest

from wherry.core.digest import Checksum
from wherry.core.errors import IntegrityError, InvalidInput
from wherry.store.format import objects, variant
from wherry.store.format.objects import DirMeta, DirTree, FileHeader, Mode, ObjectType

SUM = Checksum("ab" * 32)


def test_known_checksums() -> None:
    # Made by ostree 2022.7: an empty directory, the meta of root's 0755, a program "hi\n", a link to a/f.
    assert objects.metadata_checksum(objects.serialize_dirtree(DirTree())).startswith(
        "6e340b9cffb37a989ca544e6bb780a2c"
    )
    assert objects.metadata_checksum(objects.serialize_dirmeta(DirMeta())).startswith(
        "446a0ef11b7cc167f3b603e585c7eeee"
    )
    program = FileHeader(uid=0, gid=0, mode=stat.S_IFREG | 0o755)
    assert objects.file_checksum(program, b"hi\n").startswith("1dd5373f9d4a8359771bbe9f4622f6d4")
    link = FileHeader(uid=0, gid=0, mode=0o120777, symlink_target="a/f")
    assert objects.file_checksum(link).startswith("e0e55daa62718ef3430745637cd8495f")


def test_names() -> None:
    assert objects.object_name(ObjectType.FILE, SUM, Mode.ARCHIVE) == f"ab/{SUM[2:]}.filez"
    assert objects.object_name(ObjectType.FILE, SUM, Mode.BARE_USER) == f"ab/{SUM[2:]}.file"
    assert objects.parse_object_name(f"ab/{SUM[2:]}.filez") == (ObjectType.FILE, SUM)
    for bad in ("", "ab", f"ab/{SUM[2:]}", f"ab/{SUM[2:]}.exe", f"../{SUM[2:]}.file", f"ab/{SUM[2:]}.file\n"):
        with pytest.raises(InvalidInput):
            objects.parse_object_name(bad)


def _dirtree(files: list[tuple[str, bytes]], dirs: list[tuple[str, bytes, bytes]]) -> bytes:
    return variant.encode(objects.DIRTREE_TYPE, (files, dirs))


_RAW = bytes(32)


@pytest.mark.parametrize(
    "data",
    [
        _dirtree([("b", _RAW), ("a", _RAW)], []),
        _dirtree([("a", _RAW), ("a", _RAW)], []),
        _dirtree([("a/b", _RAW)], []),
        _dirtree([("..", _RAW)], []),
        _dirtree([("", _RAW)], []),
        _dirtree([("a", _RAW[:31])], []),
        _dirtree([], [("a", _RAW, b"")]),
        _dirtree([("a", _RAW)], [("a", _RAW, _RAW)]),
        _dirtree([("x" * 256, _RAW)], []),
        b"",
        b"\1",
    ],
)
def test_bad_dirtrees(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        objects.parse_dirtree(data)


def test_bad_dirmeta() -> None:
    good = objects.serialize_dirmeta(DirMeta())
    for bad in (good[:-1], good + b"\0", good[:8] + (0o100644).to_bytes(4, "big"), b""):
        with pytest.raises(InvalidInput):
            objects.parse_dirmeta(bad)


@pytest.mark.parametrize("mode", [0o020666, 0o010644, 0o140755, 0o040755, 0o644, 0o1100644])
def test_modes_of_no_file(mode: int) -> None:
    with pytest.raises(InvalidInput):
        objects.hash_head(FileHeader(uid=0, gid=0, mode=mode))


def test_archive_heads_that_lie() -> None:
    link = FileHeader(uid=0, gid=0, mode=0o120777, symlink_target="t")
    with pytest.raises(InvalidInput, match="no content"):
        objects.parse_archive_head(objects.archive_head(link, 5)[8:])
    file = FileHeader(uid=0, gid=0, mode=0o100644, symlink_target="t")
    with pytest.raises(InvalidInput, match="target"):
        objects.parse_archive_head(objects.archive_head(file, 5)[8:])


def test_check_object() -> None:
    data = objects.serialize_dirtree(DirTree())
    name = objects.metadata_checksum(data)
    assert objects.check_object(ObjectType.DIRTREE, data, name) == name
    with pytest.raises(IntegrityError, match="expected='abab"):
        objects.check_object(ObjectType.DIRTREE, data, SUM)
    with pytest.raises(InvalidInput):
        objects.check_object(ObjectType.COMMIT, data, None)
    with pytest.raises(InvalidInput, match="needs the name"):
        objects.check_object(ObjectType.COMMITMETA, b"", None)
    assert objects.check_object(ObjectType.COMMITMETA, b"", SUM) == SUM
