"""The readers of OSTree's static deltas: superblocks, indexes, parts with their operations and patches."""

from __future__ import annotations

import hashlib
import io
import lzma
import stat
import struct
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from tests.fuzz.engine import Target

from wherry.core.digest import Checksum
from wherry.core.errors import InvalidInput
from wherry.store.format import objects, variant
from wherry.store.format.objects import Commit, FileHeader, ObjectType
from wherry.store.format.variant import Variant
from wherry.store.static_delta import apply, index, superblock
from wherry.store.static_delta.names import delta_name
from wherry.store.static_delta.ops import decode
from wherry.store.static_delta.part import PartFile

_SUM = Checksum("5a" * 32)
_OLD = bytes(range(256)) * 40
_FOLDER = Path(tempfile.gettempdir())
_MAX_MADE_BYTES = 8 * 1024 * 1024
_OBJECTS = b"".join(bytes([kind.value]) + bytes([number]) * 32 for number, kind in enumerate(
    [ObjectType.DIRMETA, ObjectType.FILE, ObjectType.FILE, ObjectType.FILE, ObjectType.FILE]
))  # fmt: skip


def _superblocks() -> list[bytes]:
    commit = objects.serialize_commit(Commit(tree=_SUM, meta=_SUM, timestamp_s=0))
    target = Checksum(hashlib.sha256(commit).hexdigest())
    part = superblock.NewPart(checksum=_SUM, size_bytes=9, unpacked_bytes=99, object_bytes=_OBJECTS, path="")
    fallback = superblock.Fallback(kind=ObjectType.FILE, checksum=_SUM, size_bytes=1, unpacked_bytes=2)
    common: dict[str, Any] = {
        "target": target, "commit_bytes": commit, "timestamp_s": 5, "parts": [part, part], "fallbacks": [fallback]
    }  # fmt: skip
    plain = superblock.build_superblock(origin=_SUM, **common, detached=objects.serialize_dict({"a": "b"}))
    other = superblock.build_superblock(origin=None, **common, endianness=superblock.Endianness.BIG)
    signatures = {"ostree.sign.ed25519": Variant("aay", [bytes(64)])}
    return [plain, other, superblock.build_signed(plain, signatures)]


def _read_superblock(data: bytes) -> object:
    found = superblock.parse_superblock(data, where="fuzz")
    kinds = [kind for part in found.parts for kind, _ in part.objects]
    return found.signed, found.endianness, found.endianness_guessed, len(kinds), found.detached is None, found.parents


def _indexes() -> list[bytes]:
    listed = {delta_name(_SUM, _SUM): Variant("ay", bytes(32)), str(_SUM): Variant("ay", bytes(32))}
    return [variant.encode("a{sv}", {index.KEY: Variant("a{sv}", listed)}), variant.encode("a{sv}", {})]


def _payload() -> bytes:
    mode = struct.pack(">III", 0, 0, stat.S_IFREG | 0o644) + struct.pack(">III", 0, 0, stat.S_IFLNK | 0o777)
    patch = struct.pack("<QQQ", 300, 4, 1 << 63 | 20) + bytes(300) + b"new!" + struct.pack("<QQQ", 5, 0, 0) + b"\1" * 5
    meta = objects.serialize_dirmeta(objects.DirMeta())
    blob = bytes.fromhex(_SUM) + meta + b"hello" + patch
    at_hello, at_patch = 32 + len(meta), 37 + len(meta)
    ops = bytes([
        *b"S", len(meta), 32,
        *b"S", 0, 0, 5, at_hello,
        *b"S", 1, 0, 5, at_hello,
        *b"o", 0, 0, 25, *b"r", 0, *b"w", 20, 3, *b"R", *b"w", 5, at_hello, *b"c",
        *b"r", 0, *b"o", 0, 0, 0xB5, 2, *b"B", at_patch, *_varint(len(patch)), *b"c", *b"R",
    ])  # fmt: skip
    xattrs = [[], [(b"user.a\0", b"b")]]
    modes = [struct.unpack("<III", mode[at : at + 12]) for at in (0, 12)]
    return variant.encode("(a(uuu)aa(ayay)ayay)", (modes, xattrs, blob, ops))


def _varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80, value >> 7]) if value > 0x7F else bytes([value])


class _Repository:
    """What a part's sources are read from."""

    path = _FOLDER / "fuzz-repository"

    def load_file(self, checksum: Checksum, /) -> tuple[FileHeader, BinaryIO | None]:
        return FileHeader(uid=0, gid=0, mode=stat.S_IFREG | 0o644), io.BytesIO(_OLD)


def _read_part(data: bytes) -> object:
    (_Repository.path / "tmp").mkdir(parents=True, exist_ok=True)
    header = superblock.PartHeader(
        index=0, checksum=_SUM, size_bytes=len(data), unpacked_bytes=1000, object_bytes=_OBJECTS
    )
    kinds = []
    with PartFile(header, data, folder=_FOLDER, check=False) as part:
        for recipe in decode(part.ops(), header.objects):
            if recipe.size > _MAX_MADE_BYTES:
                raise InvalidInput("too much for a fuzzer")
            if recipe.kind is not ObjectType.FILE:
                kinds.append(part.blob(recipe.steps[0].offset, recipe.steps[0].length)[:4])
                continue
            found = part.file_header(recipe.mode_index, recipe.xattrs_index)
            with ExitStack() as stack:
                made = sum(len(piece) for piece in apply._content(_Repository(), part, recipe, stack))
            kinds.append(bytes([found.is_symlink, made == recipe.size]))
    return kinds


def _parts() -> list[bytes]:
    return [b"\0" + _payload(), b"x" + lzma.compress(_payload(), preset=0)]


TARGETS = [
    Target(name="delta-superblock", seeds=_superblocks, read=_read_superblock),
    Target(name="delta-index", seeds=_indexes, read=lambda data: len(index.parse_index(data))),
    Target(name="delta-part", seeds=_parts, read=_read_part),
]
