"""Static deltas: parts that somebody made who means ill."""

from __future__ import annotations

import hashlib
import lzma
import stat

import pytest
from tests.unit.store.conftest import commit_files
from tests.unit.store.static_delta.programs import PROGRAM

from wherry.core.digest import Checksum
from wherry.core.errors import IntegrityError, InvalidInput, NoSpace
from wherry.store.format import variant
from wherry.store.repository import Repository
from wherry.store.static_delta import apply, names, ops
from wherry.store.static_delta.generate import generate
from wherry.store.static_delta.part import PartFile
from wherry.store.static_delta.superblock import (
    PartHeader,
)

A, B = Checksum("ab" * 32), Checksum("cd" * 32)


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
