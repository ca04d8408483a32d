"""Static deltas: their names, framing, operations and patches; each limit; applied into every mode."""

from __future__ import annotations

import hashlib
import itertools
import lzma
import os
import random
import stat
import struct
from pathlib import Path

import pytest
from tests.unit.store.conftest import REGULAR, commit_files, make_repo

from wherry.core.digest import Checksum, Ref
from wherry.core.errors import IntegrityError, InvalidInput, NoSpace, NotFound, Unsupported, WherryError
from wherry.store.care.fsck import fsck
from wherry.store.format import objects, variant
from wherry.store.format.objects import Commit, FileHeader, Mode, ObjectType
from wherry.store.format.variant import Variant
from wherry.store.pull.pull import pull_local
from wherry.store.repository import Repository
from wherry.store.static_delta import apply, bsdiff, bspatch, index, names, ops, rollsum
from wherry.store.static_delta.generate import Options, generate
from wherry.store.static_delta.part import PartFile
from wherry.store.static_delta.superblock import (
    Endianness,
    Fallback,
    NewPart,
    PartHeader,
    build_signed,
    build_superblock,
    parse_superblock,
)
from wherry.store.tree.commit import commit_tree
from wherry.store.tree.mutable import TreeBuilder

A, B = Checksum("ab" * 32), Checksum("cd" * 32)
RANDOM = random.Random(1)
PROGRAM = RANDOM.randbytes(100_000)
CHANGED = b"head" + PROGRAM[:40_000] + b"changed" + PROGRAM[40_500:] + b"tail"


class Bytes:
    """A source in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, at: int, size: int, /) -> bytes:
        return self._data[at : at + size]


def patched(old: bytes, patch: bytes, size: int) -> bytes:
    return b"".join(bspatch.patch(lambda at, count: patch[at : at + count], 0, len(patch), Bytes(old), size))


# --- names


def test_names() -> None:
    assert names.to_base64(A) == "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s"
    assert names.from_base64(names.to_base64(B)) == B
    slash = Checksum("ff" * 32)
    assert "/" not in names.to_base64(slash)
    assert names.delta_path(None, B) == f"deltas/{names.to_base64(B)[:2]}/{names.to_base64(B)[2:]}/superblock"
    assert names.delta_path(A, B, "3") == f"deltas/q6/{names.to_base64(A)[2:]}-{names.to_base64(B)}/3"
    assert names.index_path(A) == f"delta-indexes/q6/{names.to_base64(A)[2:]}.index"
    assert names.parse_delta_name(names.delta_name(A, B)) == (A, B)
    assert names.parse_delta_name(B) == (None, B)


@pytest.mark.parametrize("text", ["", "GARBAGE", f"{A}-", f"-{A}", f"{A}-x", f"{A[:-1]}", f"{A}-{B}-{A}"])
def test_bad_names(text: str) -> None:
    with pytest.raises(InvalidInput, match="Invalid rev"):
        names.parse_delta_name(text)


@pytest.mark.parametrize("text", ["", "a", "=" * 43, "é" * 43, "a" * 44])
def test_bad_base64(text: str) -> None:
    with pytest.raises(InvalidInput):
        names.from_base64(text)


def test_list_and_delete(archive: Repository) -> None:
    assert names.list_deltas(archive) == [] == names.list_indexes(archive)
    first = commit_files(archive, {"a": PROGRAM})
    generate(archive, None, first)
    (archive.path / "deltas/zz").mkdir()
    (archive.path / "deltas/zz/no-delta").mkdir()
    assert names.list_deltas(archive) == [(None, first)]
    assert names.exists(archive, (None, first))
    assert not names.exists(archive, (first, first))
    index.reindex(archive)
    assert names.list_indexes(archive) == [first]
    assert Repository.open(archive.path).config.get_bool("core", "indexed-deltas", False)
    raw = (archive.path / names.index_path(first)).read_bytes()
    digest = hashlib.sha256((archive.path / names.delta_path(None, first)).read_bytes()).digest()
    assert index.parse_index(raw) == {(None, first): digest}
    assert index.superblock_digests(archive) == {str(first): Variant("ay", digest)}
    names.delete_delta(archive, (None, first))
    assert names.list_deltas(archive) == []
    index.reindex(archive)
    assert names.list_indexes(archive) == []
    with pytest.raises(NotFound, match="find delta"):
        names.delete_delta(archive, (None, first))


# --- operations


def test_varint() -> None:
    for value in (0, 1, 127, 128, 300, 2**32, 2**64 - 1):
        assert ops.varint(ops.write_varint(value), 0) == (value, len(ops.write_varint(value)))
    for bad in (b"", b"\x80", b"\xff" * 11, b"\xff" * 9 + b"\x7f"):
        with pytest.raises(InvalidInput):
            ops.varint(bad, 0)


FILE, META = (ObjectType.FILE, A), (ObjectType.DIRMETA, B)


def test_decode() -> None:
    code = bytes([*b"S", 5, 7, *b"S", 1, 2, 3, 4, *b"r", 9, *b"o", 0, 1, 10, *b"w", 4, 0, *b"R", *b"w", 6, 2, *b"c"])
    meta, spliced, made = ops.decode(code, [META, FILE, FILE])
    assert (meta.kind, meta.steps) == (ObjectType.DIRMETA, (ops.Literal(7, 5),))
    assert (spliced.mode_index, spliced.xattrs_index, spliced.steps) == (1, 2, (ops.Literal(4, 3),))
    assert (made.size, made.steps) == (10, (ops.Copy(9, 0, 4), ops.Literal(2, 6)))
    assert list(ops.count(code, [META, FILE, FILE]).values()) == [2, 1, 2, 1, 1, 1, 0]


@pytest.mark.parametrize(
    "code",
    [
        b"x",
        b"S",
        b"S\x01",
        b"c",
        b"w\x01\x01",
        b"B\x01\x01",
        b"o\0\0\x05",
        b"o\0\0\x05o\0\0\x05",
        b"o\0\0\x05S\0\0\0\0",
        b"o\0\0\x05B\0\0c",
        b"",
        b"S\0\0\0\0S\0\0\0\0",
    ],
)
def test_bad_operations(code: bytes) -> None:
    with pytest.raises(InvalidInput):
        list(ops.decode(code, [FILE]))


def test_metadata_is_not_made_piece_by_piece() -> None:
    with pytest.raises(InvalidInput):
        list(ops.decode(b"o\0\0\x05c", [META]))


# --- patches


def test_patch() -> None:
    patch = bsdiff.diff(PROGRAM, CHANGED)
    assert patched(PROGRAM, patch, len(CHANGED)) == CHANGED
    assert len(lzma.compress(patch)) < 3000
    assert patched(b"", bsdiff.diff(b"x", b"yz"), 2) == b"yz"


def test_patch_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bsdiff, "WINDOW_BYTES", 20_000)
    monkeypatch.setattr(bsdiff, "_BLOCK_BYTES", 15_000)
    for old, new in ((PROGRAM, CHANGED), (CHANGED, PROGRAM), (PROGRAM, PROGRAM[::-1]), (PROGRAM[:100], CHANGED)):
        assert patched(old, bsdiff.diff(old, new), len(new)) == new
    assert len(lzma.compress(bsdiff.diff(PROGRAM, CHANGED))) < 6000


def test_bytes_outside_of_the_source_are_zero() -> None:
    patch = struct.pack("<QQQ", 0, 0, 1 << 63 | 3) + struct.pack("<QQQ", 10, 0, 0) + bytes(range(10))
    assert patched(b"\1\1\1", patch, 10) == bytes([0, 1, 2, 4, 5, 6, 6, 7, 8, 9])


def test_add_bytes() -> None:
    left, right = RANDOM.randbytes(1000), RANDOM.randbytes(1000)
    assert bspatch.add_bytes(left, right) == bytes((a + b) % 256 for a, b in zip(left, right, strict=True))
    assert bspatch.add_bytes(bytes(1000), right) == right
    assert bspatch.add_bytes(b"", b"") == b""


@pytest.mark.parametrize(
    "patch",
    [
        b"",
        bytes(23),
        struct.pack("<QQQ", 11, 0, 0) + bytes(11),
        struct.pack("<QQQ", 5, 6, 0) + bytes(11),
        struct.pack("<QQQ", 1 << 63 | 1, 0, 0),
        struct.pack("<QQQ", 0, 1 << 63 | 1, 0),
        struct.pack("<QQQ", 10, 0, 0) + bytes(9),
        struct.pack("<QQQ", (1 << 63) - 1, (1 << 63) - 1, 0),
    ],
)
def test_bad_patches(patch: bytes) -> None:
    with pytest.raises(InvalidInput):
        patched(b"0123456789", patch, 10)


def test_rollsum() -> None:
    found = rollsum.matches(PROGRAM, CHANGED)
    assert sum(match.length for match in found) > len(CHANGED) * 0.98
    done = 0
    for match in found:
        assert match.new >= done
        assert PROGRAM[match.old : match.old + match.length] == CHANGED[match.new : match.new + match.length]
        done = match.new + match.length
    assert rollsum.matches(b"", CHANGED) == [] == rollsum.matches(PROGRAM, b"")
    pieces = list(rollsum.chunks(PROGRAM))
    assert pieces[0][0] == 0
    assert pieces[-1][1] == len(PROGRAM)
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(pieces))


# --- superblocks


def block(**changes: object) -> bytes:
    commit = objects.serialize_commit(Commit(tree=A, meta=B, timestamp_s=1))
    values: dict[str, object] = {
        "origin": A,
        "target": Checksum(hashlib.sha256(commit).hexdigest()),
        "commit_bytes": commit,
        "timestamp_s": 77,
        "parts": [NewPart(checksum=B, size_bytes=5, unpacked_bytes=6, object_bytes=b"\1" * 33, path="")],
        "fallbacks": [Fallback(kind=ObjectType.FILE, checksum=A, size_bytes=7, unpacked_bytes=8)],
    }
    return build_superblock(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("endianness", list(Endianness))
def test_superblock(endianness: Endianness) -> None:
    data = block(endianness=endianness, detached=objects.serialize_dict({"k": "v"}))
    found = parse_superblock(data)
    assert (found.origin, found.timestamp_s, found.endianness, found.signed) == (A, 77, endianness, False)
    (part,) = found.parts
    assert (part.checksum, part.size_bytes, part.unpacked_bytes, len(part)) == (B, 5, 6, 1)
    assert list(part.objects) == [(ObjectType.FILE, Checksum("01" * 32))]
    assert found.fallbacks[0].unpacked_bytes == 8
    assert (found.size_bytes, found.unpacked_bytes) == (12, 14)
    assert objects.parse_dict(found.detached or b"") == {"k": "v"}
    signed = parse_superblock(build_signed(data, {"ostree.sign.ed25519": Variant("aay", [bytes(64)])}))
    assert signed.signed
    assert bytes(signed.signed_bytes) == data
    assert signed.parts == found.parts


def test_superblock_is_what_the_codec_reads() -> None:
    kind = "(a{sv}tayay(a{sv}aya(say)sstayay)aya(uayttay)a(yaytt))"
    value = variant.decode(kind, block())
    assert variant.encode(kind, value) == block()
    signed = build_signed(block(), {"ostree.sign.ed25519": Variant("aay", [bytes(64)])})
    assert variant.decode("(taya{sv})", signed)[1] == block()


def test_wrong_commit() -> None:
    with pytest.raises(IntegrityError):
        parse_superblock(block(target=A))


@pytest.mark.parametrize("number", [0, 4, 5, 6, 99])
def test_parts_hold_files_and_directories_alone(number: int) -> None:
    (part,) = parse_superblock(
        block(parts=[NewPart(checksum=B, size_bytes=5, unpacked_bytes=6, object_bytes=bytes([number] * 33), path="")])
    ).parts
    with pytest.raises(InvalidInput, match="type"):
        list(part.objects)


def test_every_cut_is_refused() -> None:
    data = block(detached=objects.serialize_dict({"k": "v"}))
    for size in range(len(data)):
        with pytest.raises(WherryError):
            parse_superblock(data[:size])


# --- making and applying


def two_commits(repo: Repository) -> tuple[Checksum, Checksum]:
    old = {
        "usr/bin/program": PROGRAM,
        "usr/share/text": b"old text\n" * 300,
        "usr/share/mode": b"same" * 5000,
        "usr/share/gone": b"gone",
        "usr/lib/v1/data.bin": PROGRAM[:50_000],
    }
    new = {
        **old,
        "usr/bin/program": CHANGED,
        "usr/share/text": b"new text\n" * 300,
        "usr/share/new": b"not there before\n" * 100,
        "usr/share/empty": b"",
        "usr/lib/v2/data.bin": PROGRAM[:50_000] + b"more",
    }
    del new["usr/share/gone"], new["usr/lib/v1/data.bin"]
    first = commit_files(repo, old)
    with repo.transaction():
        tree = TreeBuilder(repo)
        for path, data in new.items():
            tree.mkdir(path.rpartition("/")[0], parents=True)
            plain = path.endswith("mode")
            header = FileHeader(uid=0, gid=0, mode=stat.S_IFREG | 0o755) if plain else REGULAR
            tree.add_file(path, header, data)
        tree.symlink("usr/link", "bin/program")
        second = commit_tree(repo, *tree.write(), timestamp_s=1, subject="new", parent=first, ref=Ref("main"))
    return first, second


OPTIONS = {
    "default": Options(),
    "inline": Options(inline=True),
    "big-endian": Options(endianness=Endianness.BIG),
    "no-bsdiff": Options(max_bsdiff_bytes=0),
    "many-parts": Options(max_chunk_bytes=1),
    "one-thread": Options(jobs=1),
}


@pytest.mark.parametrize(
    ("name", "mode"),
    [*((name, Mode.BARE_USER) for name in OPTIONS), ("default", Mode.BARE_USER_ONLY), ("default", Mode.ARCHIVE),
     ("no-bsdiff", Mode.ARCHIVE)],
)  # fmt: skip
def test_apply(archive: Repository, tmp_path: Path, name: str, mode: Mode) -> None:
    options = OPTIONS[name]
    first, second = two_commits(archive)
    report = generate(archive, first, second, options=options)
    assert report.patched + report.copied >= 2
    assert (report.patched == 0) == (not options.max_bsdiff_bytes)
    folder = archive.path / names.delta_folder(first, second)
    assert (folder / "0").exists() != options.inline
    dest = make_repo(tmp_path / "dest", mode)
    pull_local(dest, archive, [first])
    delta = apply.apply_offline(dest, folder)
    assert delta.target == second
    assert not dest.is_partial(second)
    assert fsck(dest).ok
    assert not list((dest.path / "tmp").glob("tmp-*"))
    assert apply.apply_offline(dest, folder / "superblock").target == second


def test_the_same_again(archive: Repository) -> None:
    first, second = two_commits(archive)
    options = Options(timestamp_s=5)
    generate(archive, first, second, options=options)
    folder = archive.path / names.delta_folder(first, second)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "1").write_bytes(b"left over")
    (folder / ".part-0123.tmp").write_bytes(b"left over")
    generate(archive, first, second, options=options)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_from_nothing_and_fallback(archive: Repository, tmp_path: Path) -> None:
    first = commit_files(archive, {"large": RANDOM.randbytes(300_000), "small": b"x"})
    report = generate(archive, None, first, options=Options(min_fallback_bytes=100_000))
    assert [item.unpacked_bytes for item in report.fallbacks] == [300_000]
    dest = make_repo(tmp_path / "dest", Mode.BARE_USER)
    with pytest.raises(Unsupported, match="fallback"):
        apply.apply_offline(dest, archive.path / names.delta_folder(None, first))
    assert not dest.is_partial(first)
    generate(archive, None, first, options=Options(min_fallback_bytes=0))
    apply.apply_offline(dest, archive.path / names.delta_folder(None, first))
    assert fsck(dest).ok


def test_incompressible_contents_have_their_own_part(archive: Repository, tmp_path: Path) -> None:
    data = RANDOM.randbytes(5_000_000)
    first = commit_files(archive, {"a.bin": data, "b": b"b" * 1000})
    report = generate(archive, None, first, options=Options(min_fallback_bytes=0))
    assert [part.unpacked_bytes > 4_000_000 for part in report.parts] == [False, True]
    assert report.parts[1].size_bytes < len(data) * 1.001
    dest = make_repo(tmp_path / "dest", Mode.ARCHIVE)
    apply.apply_offline(dest, archive.path / names.delta_folder(None, first))
    assert fsck(dest).ok


def test_nothing_changed_is_one_empty_part(archive: Repository) -> None:
    first = commit_files(archive, {"a": b"a"})
    second = commit_files(archive, {"a": b"a"}, parent=first, time_s=9)
    assert [len(part.object_bytes) for part in generate(archive, first, second).parts] == [0]


def test_source_is_missing(archive: Repository, tmp_path: Path) -> None:
    first, second = two_commits(archive)
    generate(archive, first, second)
    folder = archive.path / names.delta_folder(first, second)
    dest = make_repo(tmp_path / "dest", Mode.BARE_USER)
    with pytest.raises(NotFound, match="delta source"):
        apply.apply_offline(dest, folder)
    pull_local(dest, archive, [first])
    for path in (dest.path / "objects").rglob("*.file"):
        if path.stat().st_size == len(PROGRAM):
            path.unlink()
    with pytest.raises(NotFound, match="not here"):
        apply.apply_offline(dest, folder)
    assert not dest.has(ObjectType.COMMIT, second)
    assert not dest.is_partial(second)


def test_damaged_source_and_part(archive: Repository, tmp_path: Path) -> None:
    first, second = two_commits(archive)
    generate(archive, first, second)
    folder = archive.path / names.delta_folder(first, second)
    dest = make_repo(tmp_path / "dest", Mode.BARE_USER)
    pull_local(dest, archive, [first])
    part = folder / "0"
    raw = part.read_bytes()
    part.write_bytes(raw[:100] + bytes([raw[100] ^ 1]) + raw[101:])
    with pytest.raises((IntegrityError, InvalidInput)):
        apply.apply_offline(dest, folder)
    part.write_bytes(raw)
    (source,) = [p for p in (dest.path / "objects").rglob("*.file") if p.stat().st_size == len(PROGRAM)]
    os.chmod(source, 0o644)
    with open(source, "r+b") as file:
        file.write(b"damage")
    with pytest.raises(IntegrityError):
        apply.apply_offline(dest, folder)
    assert not dest.has(ObjectType.COMMIT, second)


# --- hostile parts


def payload(code: bytes, blob: bytes = b"", modes: list[tuple[int, int, int]] | None = None) -> bytes:
    default = [(0, 0, int.from_bytes((stat.S_IFREG | 0o644).to_bytes(4, "big"), "little"))]
    return variant.encode("(a(uuu)aa(ayay)ayay)", (default if modes is None else modes, [[]], blob, code))


def hostile(data: bytes, unpacked: int = 1000, kinds: bytes = b"\1") -> PartHeader:
    return PartHeader(
        index=0,
        checksum=Checksum(hashlib.sha256(data).hexdigest()),
        size_bytes=len(data),
        unpacked_bytes=unpacked,
        object_bytes=b"".join(bytes([kind]) + b"\7" * 32 for kind in kinds),
    )


def run(repo: Repository, data: bytes, unpacked: int = 1000, kinds: bytes = b"\1") -> None:
    with repo.transaction() as transaction:
        apply.apply_part(transaction, hostile(data, unpacked, kinds), data)


@pytest.mark.parametrize(
    ("code", "blob"),
    [
        (b"S\0\0\x05\0", b"1234"),  # behind the end of the blob
        (b"S\0\0\x05" + ops.write_varint(2**64 - 3), b"12345"),  # offset + length overflows
        (b"S\1\0\x05\0", b"12345"),  # no such mode
        (b"S\0\1\x05\0", b"12345"),  # no such attributes
        (b"o\0\0\x05w\x06\0c", b"123456"),  # longer than declared
        (b"o\0\0\x05w\x04\0c", b"12345"),  # shorter
        (b"r\0o\0\0\x05w\x05\0c", b"short"),  # no checksum there
        (b"o\0\0" + ops.write_varint(2**60) + b"w\1\0c", b"1"),  # more than the part declares
    ],
)
def test_hostile_operations(user_repo: Repository, code: bytes, blob: bytes) -> None:
    with pytest.raises(InvalidInput):
        run(user_repo, b"\0" + payload(code, blob))
    assert not list(user_repo.list_objects())


def test_hostile_modes(user_repo: Repository) -> None:
    for mode in (stat.S_IFCHR | 0o666, 0, 0xFFFFFFFF):
        swapped = int.from_bytes(mode.to_bytes(4, "big"), "little")
        with pytest.raises(InvalidInput):
            run(user_repo, b"\0" + payload(b"S\0\0\1\0", b"x", [(0, 0, swapped)]))


def test_bomb(user_repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.store.static_delta.part.BLOAT_ALLOWANCE_BYTES", 1_000_000)
    bomb = b"x" + lzma.compress(bytes(20_000_000), preset=0)
    with pytest.raises(InvalidInput, match="unpacks to more"):
        run(user_repo, bomb)


def test_xz_that_wants_too_much_memory(user_repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.store.static_delta.part.MAX_LZMA_MEMORY_BYTES", 1 << 20)
    with pytest.raises(InvalidInput, match="not xz"):
        run(user_repo, b"x" + lzma.compress(payload(b""), preset=4))


def test_no_room(user_repo: Repository, archive: Repository) -> None:
    first = commit_files(archive, {"a": PROGRAM})
    generate(archive, None, first)
    user_repo.config.set("core", "min-free-space-size", "900000GB")
    user_repo.save_config()
    with pytest.raises(NoSpace):
        apply.apply_offline(user_repo, archive.path / names.delta_folder(None, first))


@pytest.mark.parametrize("data", [b"", b"x", b"g123", b"x" + b"garbage", b"\0", b"\0" + b"\xff" * 40])
def test_no_part(user_repo: Repository, data: bytes) -> None:
    with pytest.raises(InvalidInput):
        run(user_repo, data)


def test_checksum_and_trailing_bytes(user_repo: Repository) -> None:
    good = b"x" + lzma.compress(payload(b""))
    other = b"x" + lzma.compress(payload(b"", b"blob"))
    with pytest.raises(IntegrityError, match="expected="):
        PartFile(hostile(good), other, folder=user_repo.path / "tmp").close()
    with pytest.raises(InvalidInput, match="behind"):
        run(user_repo, good + b"more")
