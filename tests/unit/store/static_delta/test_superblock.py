"""Static deltas: superblocks, written and read; what is none."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from wherry.core.digest import Checksum
from wherry.core.errors import IntegrityError, InvalidInput, WherryError
from wherry.store.format import objects, variant
from wherry.store.format.objects import Commit, ObjectType
from wherry.store.format.variant import Variant
from wherry.store.static_delta import apply
from wherry.store.static_delta.superblock import (
    Endianness,
    Fallback,
    NewPart,
    build_signed,
    build_superblock,
    parse_superblock,
)

A, B = Checksum("ab" * 32), Checksum("cd" * 32)


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


@pytest.mark.parametrize("data", [b"GIF89a" + bytes(500), b"\x7fELF" * 200, b"text\n" * 50, b"x", bytes(range(256))])
def test_what_is_no_delta_is_called_so(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(InvalidInput, match="not a static delta"):
        apply.open_superblock(tmp_path / "file")


def test_a_file_that_becomes_shorter_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large superblock only pieces are read: what is gone by then is an error, and no signal."""
    monkeypatch.setattr(apply, "MAX_READ_BYTES", 1)
    part = tmp_path / "0"
    part.write_bytes(bytes(50_000))
    new = NewPart(checksum=B, size_bytes=50_000, unpacked_bytes=6, object_bytes=b"\1" * 33, path=str(part))
    path = tmp_path / "superblock"
    path.write_bytes(block(parts=[new], inline=True))
    found, _ = apply.open_superblock(path)
    inline = found.parts[0].inline
    assert inline is not None
    assert bytes(inline) == part.read_bytes()
    os.truncate(path, 1000)
    with pytest.raises(InvalidInput, match="shorter"):
        bytes(inline)
