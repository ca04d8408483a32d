"""ext4: made by mke2fs from a folder, then every inode's times set to the host's one.

mke2fs copies the times of the source, also that of its last change, which nobody can set. So `debugfs` writes them
anew, in the inodes that the image's own bitmaps say are in use. Features and sizes are all given here: those in the
machine's ``/etc/mke2fs.conf`` would be other ones elsewhere. Blocks have 4 KiB, as fs-verity wants them.

Source: the kernel's Documentation/filesystems/ext4/ (super.rst, group_descr.rst, bitmaps.rst); mke2fs(8), debugfs(8).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build.images.tools import run_tool, told
from wherry.core.errors import InvalidInput, ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wherry.build.images.product import Product
    from wherry.build.images.trees import Entry
    from wherry.build.steps import Place

BLOCK_BYTES = 4096
INODE_BYTES = 256
BYTES_PER_INODE = 16384
JOURNAL_MIN_BYTES = 8 * 1024 * 1024
"""Below it, mke2fs makes no journal."""
GROWN_BLOCKS = 2**28
"""1 TiB: as far as a file system that grows has room for its group descriptors."""
FEATURES = (
    "none,dir_index,dir_nlink,ext_attr,extent,extra_isize,filetype,flex_bg,huge_file,large_file,metadata_csum,"
    "resize_inode,sparse_super,verity,64bit"
)
_CONFIGURATION = "[defaults]\n[fs_types]\n" + "".join(
    f"{name} = {{\n}}\n" for name in ("ext4", "floppy", "small", "default", "big", "huge")
)
_ROOT_INODE, _FIRST_FREE_INODE = 2, 11
_TIMES = ("atime", "ctime", "mtime", "crtime")
_FULL = ("Could not allocate", "No free space", "allocate block in")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ext4:
    """What an ext4 is asked to be."""

    name: tuple[str, ...]
    """What its UUID is made of."""
    size: int
    where: str
    """Who said so, for errors."""
    label: str = ""
    tree: Path | None = None
    """What is in it; None for nothing."""
    files: int = 0
    """How many inodes it needs for that."""
    grows: bool = False


def make_ext4(place: Place, scratch: Path, product: Product, wanted: Ext4, out: Path) -> None:
    """Makes an ext4 in a file that is not there yet.

    Args:
        place: where tools run.
        scratch: a folder below the place's, for their input.
        product: the host.
        wanted: what it shall be.
        out: the file.

    Raises:
        InvalidInput: it is too small for what shall be in it.
    """
    configuration = scratch / "mke2fs.conf"
    configuration.write_text(_CONFIGURATION)
    env = {"E2FSPROGS_FAKE_TIME": str(product.epoch or 1), "MKE2FS_CONFIG": str(configuration)}
    seed = product.uuid(*wanted.name, "directories")
    extended = [f"hash_seed={seed}", "lazy_itable_init=0", "lazy_journal_init=0", "nodiscard", "root_owner=0:0"]
    if wanted.grows:
        extended.append(f"resize={GROWN_BLOCKS}")
    size = wanted.size // BLOCK_BYTES * BLOCK_BYTES
    features = FEATURES + (",has_journal" if size >= JOURNAL_MIN_BYTES else "")
    args: list[str | Path] = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK_BYTES), "-I", str(INODE_BYTES)]
    args += ["-m", "0", "-O", features, "-U", str(product.uuid(*wanted.name, "filesystem"))]
    args += ["-N", str(inodes(size, wanted.files)), "-E", ",".join(extended)]
    if wanted.label:
        args += ["-L", wanted.label]
    if wanted.tree is not None:
        args += ["-d", wanted.tree]
    try:
        run_tool(place, product, [*args, out, f"{size // 1024}k"], out=out, env=env)
    except ToolError as error:
        if any(words in told(error) for words in _FULL):
            hint = f"it is {size} bytes; make it larger"
            raise InvalidInput("the content does not fit", where=wanted.where, hint=hint) from error
        raise
    _settle(place, scratch, product, wanted, out, env)
    os.truncate(out, wanted.size)


def inodes(size: int, files: int) -> int:
    """Returns how many inodes a file system has: one for 16 KiB, and some more than its files need."""
    return max(size // BYTES_PER_INODE, files + files // 10 + 16)


def size_for(entries: Iterable[Entry]) -> int:
    """Returns the bytes of a file system with room for a tree, and a twentieth and some mebibytes more."""
    blocks = count = 0
    for entry in entries:
        count += 1
        if not entry.same_as:
            blocks += max(-(-entry.size // BLOCK_BYTES), int(entry.is_directory))
    data = blocks * BLOCK_BYTES + inodes(0, count) * INODE_BYTES
    journal = next(size for limit, size in _JOURNALS if data < limit)
    size = data + data // 20 + journal + 4 * 1024 * 1024
    return -(-size // (1024 * 1024)) * 1024 * 1024


_MIB = 1024 * 1024
_JOURNALS = ((64 * _MIB, 4 * _MIB), (900 * _MIB, 16 * _MIB), (1900 * _MIB, 32 * _MIB), (2**63, 260 * _MIB))
"""Content -> about what mke2fs takes for a journal."""


def _settle(place: Place, scratch: Path, product: Product, wanted: Ext4, out: Path, env: dict[str, str]) -> None:
    """Sets all times, and gives the root directory the owner and mode of the tree's."""
    lines = [f"sif <{inode}> {field} @{product.epoch}" for inode in used_inodes(out) for field in _TIMES]
    status = os.lstat(wanted.tree) if wanted.tree is not None else None
    mode, uid, gid = (status.st_mode, status.st_uid, status.st_gid) if status is not None else (0o40755, 0, 0)
    lines += [
        f"sif <{_ROOT_INODE}> {key} {value}" for key, value in (("mode", f"0{mode:o}"), ("uid", uid), ("gid", gid))
    ]
    commands = scratch / "debugfs.commands"
    commands.write_text("\n".join(lines) + "\n")
    run_tool(place, product, ["debugfs", "-w", "-f", commands, out], out=out, env=env)


_UNINITIALISED = 1
"""EXT4_BG_INODE_UNINIT."""


def used_inodes(path: Path) -> Iterator[int]:
    """Gives the numbers of the inodes that are in use: the root's, and those of files.

    Raises:
        InvalidInput: it is no ext4.
    """
    with open(path, "rb") as file:
        file.seek(1024)
        head = file.read(1024)
        magic, count, per_group = (
            struct.unpack_from("<H", head, 0x38)[0],
            struct.unpack_from("<I", head, 0)[0],
            struct.unpack_from("<I", head, 0x28)[0],
        )
        if magic != 0xEF53 or not per_group:
            raise InvalidInput("not an ext4", where=path)
        block = 1024 << struct.unpack_from("<I", head, 0x18)[0]
        first = struct.unpack_from("<I", head, 0x14)[0]
        wide = struct.unpack_from("<I", head, 0x60)[0] & 0x80  # INCOMPAT_64BIT
        entry = struct.unpack_from("<H", head, 0xFE)[0] if wide else 32
        groups = -(-count // per_group)
        file.seek((first + 1) * block)
        descriptors = file.read(groups * entry)
        for group in range(groups):
            descriptor = descriptors[group * entry : (group + 1) * entry]
            if struct.unpack_from("<H", descriptor, 0x12)[0] & _UNINITIALISED:
                continue
            at = struct.unpack_from("<I", descriptor, 4)[0]
            if wide:
                at |= struct.unpack_from("<I", descriptor, 0x24)[0] << 32
            file.seek(at * block)
            bitmap = file.read(-(-per_group // 8))
            for index in range(per_group):
                number = group * per_group + index + 1
                if bitmap[index // 8] >> index % 8 & 1 and (number == _ROOT_INODE or number >= _FIRST_FREE_INODE):
                    yield number
