"""FAT: made by mkfs.fat, filled by mtools, without a mount.

FAT has names without regard to case, and neither links nor owners; what it cannot hold is refused, not left out.

Source: Microsoft, "FAT32 File System Specification" 1.03; mkfs.fat(8), mcopy(1).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build.images.tools import run_tool, told
from wherry.core.errors import InvalidInput, ToolError

if TYPE_CHECKING:
    from wherry.build.images.product import Product
    from wherry.build.images.trees import Entry
    from wherry.build.steps import Place

MAX_FILE_BYTES = 2**32 - 1
MAX_ARGUMENT_CHARS = 100_000
"""Of one call; the kernel's own limit for one argument list is higher."""
MAX_ROOT_SLOTS = 32_752
FAT32_BYTES = 40 * 1024 * 1024
"""From here on there are clusters enough for FAT32, which is what UEFI asks for."""
FAT16_BYTES = 9 * 1024 * 1024
_CLUSTER_BYTES = 4096
_MIB = 1024 * 1024
_NAME = re.compile(r"[\x20-\x7e]{1,255}\Z")
_FULL = ("isk full", "No free cluster", "No directory slots")
_REFUSED = frozenset('"*/:<>?\\|')


@dataclass(frozen=True, slots=True, kw_only=True)
class Fat:
    """What a FAT is asked to be."""

    name: tuple[str, ...]
    """What its volume id is made of."""
    size: int
    where: str
    """Who said so, for errors."""
    offset: int = 0
    """Of its partition on the disk."""
    label: str = ""
    entries: Sequence[Entry] = ()


def make_fat(
    place: Place, scratch: Path, product: Product, wanted: Fat, out: Path, *, readable: Sequence[Path] = ()
) -> None:
    """Makes a FAT in a file that is not there yet.

    Args:
        place: where tools run.
        scratch: a folder below the place's, for their input.
        product: the host.
        wanted: what it shall be.
        out: the file.
        readable: where files come from, besides the host.

    Raises:
        InvalidInput: it is too small, or something cannot be in a FAT.
    """
    check(wanted.entries, wanted.where)
    need = sum(entry.size for entry in wanted.entries)
    if need > wanted.size:
        raise _too_small(wanted, need)
    with open(out, "xb") as file:
        os.truncate(file.fileno(), wanted.size)
    bits = 32 if wanted.size >= FAT32_BYTES else 16 if wanted.size >= FAT16_BYTES else 12
    args: list[str | Path] = ["mkfs.fat", "--invariant", "-F", str(bits), "-i", f"{product.number(*wanted.name):08x}"]
    args += ["-S", "512", "-h", str(min(wanted.offset // 512, 2**32 - 1))]
    if bits < 32:  # the root of these has a fixed number of slots
        args += ["-r", str(root_slots(wanted.entries))]
    if wanted.label:
        args += ["-n", wanted.label]
    run_tool(place, product, [*args, out], out=out)
    env = {"SOURCE_DATE_EPOCH": str(product.fat_epoch), "MTOOLS_SKIP_CHECK": "0"}
    stage = scratch / "stage"
    try:
        for call in calls(wanted.entries, stage):
            run_tool(place, product, [call[0], "-i", out, *call[1:]], out=out, env=env, readable=readable)
    except ToolError as error:
        if any(words in told(error) for words in _FULL):
            raise _too_small(wanted, need) from error
        raise


def calls(entries: Iterable[Entry], stage: Path) -> list[list[str]]:
    """Returns the calls of mtools that fill a FAT, in the order of the paths' bytes.

    Args:
        entries: what shall be in it.
        stage: a folder that is made for bytes and for files that are called otherwise.
    """
    stage.mkdir()
    directories: set[str] = set()
    files: dict[str, list[str]] = {}
    for index, entry in enumerate(sorted(entries, key=lambda entry: entry.path)):
        parent, _, name = entry.path.rpartition("/")
        directories |= (
            {"/".join(parent.split("/")[:depth]) for depth in range(1, parent.count("/") + 2)} if parent else set()
        )
        if entry.is_directory:
            directories |= {entry.path} if entry.path else set()
            continue
        source = entry.source
        if not (isinstance(source, Path) and source.name == name):
            own = stage / str(index)
            own.mkdir()
            if isinstance(source, bytes):
                (own / name).write_bytes(source)
            elif source is not None:
                (own / name).symlink_to(source.absolute())
            source = own / name
        files.setdefault(parent, []).append(str(source))
    made = [["mmd", *(f"::/{path}" for path in batch)] for batch in _batches(sorted(directories))]
    for parent, sources in sorted(files.items()):
        made += [["mcopy", *batch, f"::/{parent}"] for batch in _batches(sources)]
    return made


def _batches(words: Iterable[str]) -> list[list[str]]:
    result: list[list[str]] = []
    chars = MAX_ARGUMENT_CHARS
    for word in words:
        if chars + len(word) > MAX_ARGUMENT_CHARS:
            result.append([])
            chars = 0
        result[-1].append(word)
        chars += len(word)
    return result


def check(entries: Iterable[Entry], where: str) -> None:
    """Checks that a FAT can hold a tree.

    Raises:
        InvalidInput: something in it cannot be there; says what.
    """
    seen: dict[str, str] = {}
    for entry in entries:
        if not entry.path:
            continue
        name = entry.path.rpartition("/")[2]
        if not _NAME.match(name) or set(name) & _REFUSED or name[-1] in ". ":
            raise InvalidInput(f"not a name for FAT: {entry.path[:120]!r}", where=where)
        other = seen.setdefault(entry.path.lower(), entry.path)
        if other != entry.path:
            raise InvalidInput(f"FAT cannot tell {entry.path[:120]!r} from {other[:120]!r}", where=where)
        if not (entry.is_file or entry.is_directory):
            raise InvalidInput(f"neither a file nor a folder, and so not for FAT: {entry.path[:120]!r}", where=where)
        if entry.size > MAX_FILE_BYTES:
            raise InvalidInput(f"a file of more than 4 GiB is not for FAT: {entry.path[:120]!r}", where=where)


def slots(name: str) -> int:
    """Returns how many slots of a folder a name takes: its own, and one for each thirteen characters."""
    return 2 + -(-len(name) // 13)


def root_slots(entries: Iterable[Entry]) -> int:
    """Returns how many slots the top of a FAT12 or FAT16 has: 512, or as many as it needs with some to spare."""
    need = sum(slots(entry.path) for entry in entries if "/" not in entry.path)
    return min(max(512, (need + need // 4) // 16 * 16 + 16), MAX_ROOT_SLOTS)


def size_for(entries: Iterable[Entry]) -> int:
    """Returns the bytes of a file system with room for a tree, and some mebibytes more."""
    size = 4 * _MIB
    for entry in entries:
        clusters = -(-entry.size // _CLUSTER_BYTES) + int(entry.is_directory)
        size += slots(entry.path.rpartition("/")[2]) * 32 + clusters * (_CLUSTER_BYTES + _CLUSTER_BYTES // 50)
    return -(-size // _MIB) * _MIB


def _too_small(wanted: Fat, need: int) -> InvalidInput:
    hint = f"it is {wanted.size} bytes; its files have {need}"
    return InvalidInput("the content does not fit", where=wanted.where, hint=hint)
