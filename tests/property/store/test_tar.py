"""Tar archives: what the standard library writes is read back; what is damaged is refused, never a crash."""

from __future__ import annotations

import io
import tarfile

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.image.makers import directory, file, hard_link, make_tar, symlink

from wherry.core.errors import WherryError
from wherry.image.config import parse_config
from wherry.store.tree.compression import decompressed
from wherry.store.tree.tar import EntryType, TarReader

names = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=300).filter(
    lambda name: not name.endswith("/") and len(name.encode()) < 4000
)
values = st.text(st.characters(codec="utf-8"), max_size=60)
forms = st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
ids = st.one_of(st.integers(0, 2**21 - 1), st.integers(0, 2**32 - 2))


@given(
    st.lists(st.tuples(names, st.binary(max_size=2000), st.integers(0, 0o7777), ids, ids), max_size=6),
    st.dictionaries(st.from_regex(r"[a-z]{1,8}\.[a-z]{1,8}", fullmatch=True), values, max_size=3),
    forms,
)
@settings(max_examples=80, deadline=None)
def test_round_trip(members: list[tuple[str, bytes, int, int, int]], attributes: dict[str, str], form: int) -> None:
    headers = {f"SCHILY.xattr.{name}": value for name, value in attributes.items()}
    if form != tarfile.PAX_FORMAT:
        headers = {}
    data = make_tar(
        *[
            file(name, content, mode=mode, uid=uid, gid=gid, pax_headers=headers)
            for name, content, mode, uid, gid in members
        ],
        format=form,
    )
    reader = TarReader(io.BytesIO(data))
    found = [(entry, reader.read_all()) for entry in reader]
    assert [(entry.name, content, entry.mode, entry.uid, entry.gid) for entry, content in found] == members
    for entry, _ in found:
        assert dict(entry.xattrs) == {
            name.removeprefix("SCHILY.xattr.").encode(): value.encode() for name, value in headers.items()
        }


@given(st.lists(st.tuples(names, names), max_size=4), forms)
@settings(max_examples=40, deadline=None)
def test_links(links: list[tuple[str, str]], form: int) -> None:
    members = [make(name, target) for name, target in links for make in (symlink, hard_link)]
    data = make_tar(*members, format=form)
    found = [(entry.type, entry.name, entry.target) for entry in TarReader(io.BytesIO(data))]
    assert found == [
        (kind, name, target) for name, target in links for kind in (EntryType.SYMLINK, EntryType.HARD_LINK)
    ]


GOOD = make_tar(
    directory("d"),
    file("d/" + "n" * 150, b"content" * 100, pax_headers={"SCHILY.xattr.user.a": "b"}),
    symlink("l", "d"),
    hard_link("h", "d/" + "n" * 150),
)


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=8), st.booleans())
@settings(max_examples=300, deadline=None)
def test_damaged_archives(changes: list[tuple[int, int]], fix: bool) -> None:
    data = bytearray(GOOD)
    for at, byte in changes:
        data[at] = byte
        if fix:  # a hostile archive has right checksums
            start = at // 512 * 512
            data[start + 148 : start + 156] = b" " * 8
            data[start + 148 : start + 156] = f"{sum(data[start : start + 512]) & 0o777777:06o}\0 ".encode()
    reader = TarReader(io.BytesIO(bytes(data)))
    try:
        for _ in reader:
            reader.read(1 << 20)
    except WherryError:
        pass


@given(st.binary(max_size=400), st.sampled_from([b"", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"]))
@settings(max_examples=300, deadline=None)
def test_anything_compressed(data: bytes, magic: bytes) -> None:
    try:
        reader = decompressed(io.BytesIO(magic + data))
        while reader.read(4096):
            pass
    except WherryError:
        pass


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["config", "rootfs", "diff_ids", "Env", "Cmd", "Healthcheck", "Test", "Retries", "created"]),
        inner,
        max_size=4,
    ),
    max_leaves=12,
))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_any_json_as_a_config(value: object) -> None:
    import json

    try:
        config = parse_config(json.dumps(value).encode())
    except WherryError:
        return
    assert parse_config(config.raw) == config
