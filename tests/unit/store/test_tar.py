"""Tar archives, read: every form that is written today, and nothing that is broken."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest
from tests.unit.image.makers import device, directory, file, hard_link, make_tar, symlink, xattrs

from wherry.core.errors import IntegrityError, InvalidInput, Unsupported, WherryError
from wherry.store.tree.tar import EntryType, Limits, TarEntry, TarReader

LONG = "d/" * 60 + "n" * 200


def read(data: bytes, **options: Any) -> list[tuple[TarEntry, bytes]]:
    reader = TarReader(io.BytesIO(data), where="test.tar", **options)
    return [(entry, reader.read_all()) for entry in reader]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_kind_of_entry(form: int) -> None:
    data = make_tar(
        directory("a", mode=0o1777, uid=5, gid=6),
        file("a/f", b"content", mode=0o4755),
        file("a/empty"),
        file("a/" + "x" * 95 + "/y", b"z" * 1000),
        symlink("a/l", "../f"),
        hard_link("a/h", "a/f"),
        device("a/c"),
        device("a/b", tarfile.BLKTYPE),
        device("a/p", tarfile.FIFOTYPE),
        format=form,
    )
    found = read(data)
    kinds = EntryType
    assert [entry.type for entry, _ in found] == [
        kinds.DIRECTORY, kinds.FILE, kinds.FILE, kinds.FILE, kinds.SYMLINK, kinds.HARD_LINK,
        kinds.CHARACTER_DEVICE, kinds.BLOCK_DEVICE, kinds.FIFO,
    ]  # fmt: skip
    assert (found[0][0].mode, found[0][0].uid, found[0][0].gid) == (0o1777, 5, 6)
    assert found[1][1] == b"content"
    assert found[1][0].mode == 0o4755
    assert found[3][0].name == "a/" + "x" * 95 + "/y"
    assert found[3][1] == b"z" * 1000
    assert found[4][0].target == "../f"
    assert found[5][0].target == "a/f"
    assert data[found[1][0].offset :].startswith(b"content")


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_large_numbers(form: int) -> None:
    data = make_tar(file(LONG, b"1", uid=3_000_000, gid=4_000_000_000), symlink("l", LONG), format=form)
    (first, content), (second, _) = read(data)
    assert (first.name, first.uid, first.gid, content) == (LONG, 3_000_000, 4_000_000_000, b"1")
    assert second.target == LONG


def test_extended_attributes() -> None:
    binary = "\x01\x00\x00\x02\udcff\n=x"
    (entry, _), (plain, _) = read(
        make_tar(file("a", pax_headers=xattrs(security__capability=binary, user__x="1")), file("b"))
    )
    assert entry.xattrs == ((b"security.capability", b"\x01\x00\x00\x02\xff\n=x"), (b"user.x", b"1"))
    assert plain.xattrs == ()


def test_global_headers_hold_for_all() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "c"}) as archive:
        archive.addfile(tarfile.TarInfo("a"))
    assert [entry.name for entry, _ in read(buffer.getvalue())] == ["a"]


def test_content_that_is_not_read_is_skipped() -> None:
    data = make_tar(file("a", b"x" * 700_000), file("b", b"y"))
    reader = TarReader(io.BytesIO(data))
    assert [entry.name for entry in reader] == ["a", "b"]
    reader = TarReader(io.BytesIO(data))
    entries = iter(reader)
    next(entries)
    assert reader.read(10) == b"x" * 10
    next(entries)
    assert reader.read(10) == b"y"
    assert reader.read(10) == b""


def patched(at: int, new: bytes, *members: Any) -> bytes:
    """Returns an archive with a few bytes of the first header changed, and a right checksum."""
    data = bytearray(make_tar(*(members or (file("abc", b"content"),)), format=tarfile.USTAR_FORMAT))
    data[at : at + len(new)] = new
    data[148:156] = b" " * 8
    data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()
    return bytes(data)


def pax(records: bytes) -> bytes:
    header = bytearray(make_tar(file("h", records), format=tarfile.USTAR_FORMAT))
    header[156:157] = b"x"
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header[:512]):06o}\0 ".encode()
    size = 512 + -(-len(records) // 512) * 512
    return bytes(header[:size]) + make_tar(file("real", b"1"))


@pytest.mark.parametrize(
    ("data", "error", "what"),
    [
        (b"x" * 512, InvalidInput, "not a tar archive"),
        (b"x" * 100, IntegrityError, "cut short"),
        (b"", IntegrityError, "no end marker"),
        (make_tar(file("a", b"x" * 5000))[:3000], IntegrityError, "cut short"),
        (make_tar(file("a", b"x" * 512))[:1024], IntegrityError, "no end marker"),
        (patched(0, b"\xff"), InvalidInput, "not UTF-8"),
        (patched(124, b"9" * 11), InvalidInput, "not a number"),
        (patched(124, b"\x80" + b"\x7f" * 11), InvalidInput, "a file of"),
        (patched(124, b"\xff" * 12), InvalidInput, "a file of -1 bytes"),
        (patched(108, b"\xff" * 8), InvalidInput, "not a uid"),
        (patched(156, b"S"), Unsupported, "sparse"),
        (patched(156, b"M"), Unsupported, "type b'M'"),
        (patched(156, b"L"), IntegrityError, "cut short"),
        (pax(b"1"), InvalidInput, "malformed pax"),
        (pax(b"99 path=x\n"), InvalidInput, "malformed pax"),
        (pax(b"10 path=xx"), InvalidInput, "malformed pax"),
        (pax(b"0 a=b\n"), InvalidInput, "malformed pax"),
        (pax(b"12 path=a\0b\n"), InvalidInput, "NUL"),
        (pax(b"12 size=abc\n"), InvalidInput, "not a size"),
        (pax(b"10 uid=-1\n"), InvalidInput, "not a uid"),
        (pax(b"18 uid=4294967295\n"), InvalidInput, "not a uid"),
        (pax(b"22 GNU.sparse.major=1\n"), Unsupported, "sparse"),
        (pax(b"19 SCHILY.xattr.=a\n"), InvalidInput, "not an extended attribute"),
        (make_tar(file("p/" * 3000 + "x")), InvalidInput, "path is longer"),
    ],
)
def test_refused(data: bytes, error: type[WherryError], what: str) -> None:
    with pytest.raises(error, match=what):
        read(data)


def test_a_huge_extended_header_is_not_read() -> None:
    header = bytearray(patched(156, b"x"))
    header[124:136] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header[:512]):06o}\0 ".encode()
    with pytest.raises(InvalidInput, match="the limit is"):
        read(bytes(header))


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        (Limits(entries=2), "more than 2 entries"),
        (Limits(file_bytes=6), "a file of 7 bytes"),
        (Limits(path_bytes=2), "longer than 2 bytes"),
    ],
)
def test_limits(limits: Limits, what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        read(make_tar(file("abc", b"content"), file("b"), file("c")), limits=limits)


def test_without_an_end_marker_when_a_digest_says_that_all_is_there() -> None:
    data = make_tar(file("a", b"x" * 512))[:1024]
    assert [content for _, content in read(data, needs_end=False)] == [b"x" * 512]
