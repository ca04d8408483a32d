"""What a disk image is for, by its partition table: which architecture, and whether UEFI boots it.

Only what is plainly said is taken: the type of a root partition (Discoverable Partitions Specification), or the name of
the file that UEFI boots in an EFI system partition, which mtools lists. The image may be a stranger's: nothing of it is
mounted, and every number is bounded by `image.partitions`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from wherry.core.durable import map_os_error
from wherry.core.errors import WherryError
from wherry.core.proc import run
from wherry.image.partitions import Partition, read_table
from wherry.spec.architecture import ARCHITECTURES, Architecture

ESP_TYPE = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
_LIST_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """What an image says of itself."""

    architecture: Architecture | None = None
    uefi: bool = False


def recognise(path: Path) -> Recognised:
    """Returns what a raw disk image says of itself; nothing for one without a partition table.

    Raises:
        WherryError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size

            def read(offset: int, length: int) -> bytes:
                return os.pread(file.fileno(), length, offset)

            try:
                table = read_table(read, size, where=path)
            except WherryError:
                return Recognised()  # the firmware says what is wrong with it, if anything is
    except OSError as error:
        raise map_os_error(error, "cannot read the image", where=path) from error
    system = next((part for part in table if part.type == ESP_TYPE), None)
    found = _of_roots(table)
    if found is None and system is not None:
        found = _of_files(path, system)
    return Recognised(architecture=found, uefi=system is not None)


def _of_roots(table: list[Partition]) -> Architecture | None:
    types = {part.type for part in table}
    found = [each for each in ARCHITECTURES.values() if each.root_type in types]
    # armhf and armel have one type: the first is the usual one
    return found[0] if found else None


def _of_files(path: Path, system: Partition) -> Architecture | None:
    image = f"{path}@@{system.offset_bytes}"
    try:
        done = run(["mdir", "-b", "-i", image, "::/EFI/BOOT"], timeout_s=_LIST_S, check=False)
    except WherryError:
        return None  # without mtools it has to be said
    names = {line.rpartition("/")[2].upper() for line in done.stdout.decode(errors="replace").split()}
    return next((each for each in ARCHITECTURES.values() if each.efi and each.efi in names), None)
