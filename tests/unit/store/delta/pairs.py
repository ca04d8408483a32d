"""Small pairs of commits for tests of device deltas."""

from __future__ import annotations

import gzip
import lzma
import random
import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import zstandard
from lz4 import block
from tests.unit.store.conftest import commit_files, make_repo

from wherry.core.digest import Checksum
from wherry.core.pipe import through_program
from wherry.store.delta.apply import ApplyStats, apply_delta
from wherry.store.delta.job import read_head
from wherry.store.delta.make import MakeOptions, make_delta
from wherry.store.format.objects import Mode
from wherry.store.pull.pull import pull_local
from wherry.store.repository import Repository

LZ4_MAGIC = b"\x02\x21\x4c\x18"


def program(seed: int, size: int) -> bytes:
    """Returns bytes that are a little like a program: words that come again, and numbers between them."""
    rng = random.Random(seed)
    words = [rng.randbytes(rng.randint(3, 12)) for _ in range(300)]
    out = bytearray()
    while len(out) < size:
        out += rng.choice(words) + rng.randbytes(1)
    return bytes(out[:size])


def edited(data: bytes, seed: int, edits: int = 20) -> bytes:
    """Returns data with some bytes changed, some put in, some taken out."""
    rng = random.Random(seed)
    out = bytearray(data)
    for _ in range(edits):
        at = rng.randrange(len(out))
        kind = rng.randrange(3)
        if kind == 0:
            out[at] = rng.randrange(256)
        elif kind == 1:
            out[at:at] = rng.randbytes(rng.randint(1, 40))
        else:
            del out[at : at + rng.randint(1, 40)]
    return bytes(out)


def legacy_lz4(data: bytes) -> bytes:
    """Returns LZ4's legacy frame, as ``lz4 -l -9`` makes it."""
    out = bytearray(LZ4_MAGIC)
    for at in range(0, len(data), 8 << 20):
        made = block.compress(data[at : at + (8 << 20)], mode="high_compression", compression=9, store_size=False)
        out += struct.pack("<I", len(made)) + made
    return bytes(out)


def zstd_program(data: bytes) -> bytes:
    """Returns what the program ``zstd`` makes of some bytes."""
    return b"".join(through_program(("zstd", "-q", "-c", "-5"), [data]))


def cpio(files: dict[str, bytes]) -> bytes:
    """Returns a "newc" archive."""
    out = bytearray()
    for name, data in [*files.items(), ("TRAILER!!!", b"")]:
        raw = name.encode() + b"\0"
        fields = [1, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0]
        out += b"070701" + b"".join(b"%08X" % value for value in fields) + raw
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)


def old_files() -> dict[str, bytes]:
    """Returns the files of the older commit."""
    tool, module = program(1, 60_000), program(2, 30_000)
    return {
        "usr/bin/tool-1": tool,
        "usr/lib/module-1.ko": module,
        "usr/lib/gone": program(3, 5000),
        "usr/share/doc/changes.gz": gzip.compress(program(4, 20_000), 9, mtime=0),
        "boot/initrd-1": cpio({"early": b"microcode" * 100}) + gzip.compress(cpio({"m.ko": module}), 6, mtime=0),
        "boot/kernel-1": legacy_lz4(program(5, 90_000)) + b"tail",
        "usr/share/data.xz": lzma.compress(program(6, 40_000), preset=0),
        "usr/share/data.zst": zstandard.compress(program(7, 40_000), 3),
        "etc/same": b"same\n",
        "etc/config": b"".join(b"line %d = %d\n" % (number, number * number) for number in range(400)),
        "etc/zeros": bytes(300_000),
    }


def new_files() -> dict[str, bytes]:
    """Returns the files of the newer commit."""
    old = old_files()
    module = edited(old["usr/lib/module-1.ko"], 11)
    return {
        "usr/bin/tool-2": edited(old["usr/bin/tool-1"], 10),
        "usr/lib/module-2.ko": module,
        "usr/lib/fresh": program(12, 8000),
        "usr/lib/moved/deep": old["usr/lib/gone"] + b"!",
        "usr/share/doc/changes.gz": gzip.compress(b"news\n" + program(4, 20_000), 9, mtime=0),
        "boot/initrd-2": cpio({"early": b"microcode" * 101}) + gzip.compress(cpio({"m.ko": module}), 6, mtime=0),
        "boot/kernel-2": legacy_lz4(edited(program(5, 90_000), 13)) + b"tails",
        "usr/share/data.xz": lzma.compress(edited(program(6, 40_000), 14), preset=0),
        "usr/share/data.zst": zstandard.compress(edited(program(7, 40_000), 15), 3),
        "etc/same": b"same\n",
        "etc/config": old["etc/config"].replace(b"line 7 = 49", b"line 7 = 50"),
        "etc/zeros": bytes(200_000) + b"x" + bytes(150_000),
        "etc/empty": b"",
    }


class BytesOrigin:
    """A delta in memory; counts what is read of it, and stops where it is told to."""

    def __init__(self, data: bytes, *, stop: int | None = None, piece: int = 4096) -> None:
        self.data = data
        self.stop = stop
        self.piece = piece
        self.read = 0

    def read_from(self, offset: int) -> Iterator[bytes]:
        """Gives the bytes from an offset on."""
        file = BytesIO(self.data)
        file.seek(offset)
        while piece := file.read(self.piece):
            if self.stop is not None and file.tell() > self.stop:
                keep = max(0, len(piece) - (file.tell() - self.stop))
                if keep:
                    self.read += keep
                    yield piece[:keep]
                raise ConnectionError("cut")
            self.read += len(piece)
            yield piece


class Pair:
    """Two commits in one repository, and the delta between them."""

    def __init__(self, folder: Path, old: dict[str, bytes], new: dict[str, bytes], mode: Mode = Mode.ARCHIVE) -> None:
        self.folder = folder
        self.repo = make_repo(folder / "origin", mode)
        self.old = commit_files(self.repo, old, ref="old")
        self.new = commit_files(self.repo, new, ref="new", time_s=5)
        self._count = 0

    def make(self, options: MakeOptions | None = None) -> bytes:
        """Makes the delta."""
        path = self.folder / "delta"
        make_delta(self.repo, [self.old], [self.new], path, options=options or MakeOptions(threads=1))
        return path.read_bytes()

    def device(self, mode: Mode = Mode.BARE_USER, *, empty: bool = False) -> Repository:
        """Returns a repository that has the older commit."""
        self._count += 1
        repo = make_repo(self.folder / f"device-{self._count}", mode)
        if not empty:
            pull_local(repo, self.repo, [self.old])
        return repo


def apply(repo: Repository, data: bytes | BytesOrigin) -> ApplyStats:
    """Applies a delta."""
    origin = data if isinstance(data, BytesOrigin) else BytesOrigin(data)
    return apply_delta(repo, read_head(BytesOrigin(origin.data), where="test"), origin)


def whole(repo: Repository, commit: Checksum) -> bool:
    """Tells whether a commit is here, whole, not partial, and every object right."""
    from wherry.store.care.fsck import fsck
    from wherry.store.tree.walk import gaps

    return not repo.is_partial(commit) and next(gaps(repo, commit), None) is None and fsck(repo).ok
