"""Where an image is flashed to: what is known of a block device, and why it may not be the one that is meant.

It only reads: sysfs, the kernel's tables of mounts and swap, and the beginnings of partitions. `check` is pure.

Source: the kernel's Documentation/ABI/stable/sysfs-block; proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wherry.core.durable import map_os_error
from wherry.core.errors import Conflict, InvalidInput, NotFound, NotPermitted, UsageError, WherryError
from wherry.core.units import format_size

SECTOR_BYTES = 512
"""sysfs counts in these, whatever the device's own are."""
MAX_STACK = 16
"""Devices upon devices (LVM on LUKS on RAID ...)."""
_SERIAL_FILES = ("device/serial", "serial", "device/wwid", "wwid")
_MIN_SERIAL_CHARS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePart:
    """A partition that is there now."""

    name: str
    size_bytes: int
    holds: str = ""
    """The file system and its label; "" where nothing is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A block device, or a file in its place."""

    path: Path
    name: str
    """The kernel's: ``sdb``; of a file its own."""
    size_bytes: int
    model: str = ""
    serial: str = ""
    removable: bool = False
    read_only: bool = False
    whole: str = ""
    """Of a partition: the name of the disk that it is on."""
    parts: tuple[DevicePart, ...] = ()
    uses: tuple[str, ...] = ()
    """What is done with it now: ``sdb1 is mounted at /media``."""
    is_file: bool = False


def check(device: Device, image_bytes: int) -> None:
    """Refuses a device that an image cannot, or must not, go to.

    Raises:
        InvalidInput: it is a part of a disk, or too small.
        NotPermitted: it is read-only.
        Conflict: something uses it.
    """
    if device.whole:
        raise InvalidInput("a partition, not a whole disk", where=device.path, hint=f"is /dev/{device.whole} meant?")
    if device.uses:
        raise Conflict(
            f"in use: {'; '.join(device.uses)}", where=device.path, hint="unmount it, or name another device"
        )
    if device.read_only:
        raise NotPermitted("the device is read-only", where=device.path, hint="is there a switch at its side?")
    if not device.is_file and not device.size_bytes:
        raise NotFound("there is no medium in the device", where=device.path)
    if not device.is_file and device.size_bytes < image_bytes:
        hint = f"it has {device.size_bytes} bytes, the image {image_bytes}"
        raise InvalidInput("the device is too small", where=device.path, hint=hint)


def check_expected(device: Device, *, serial: str | None, size: int | None) -> None:
    """Refuses a device that is not the one that the caller knows.

    Raises:
        Conflict: it is another one.
        UsageError: a serial number that is too short to mean one device.
    """
    if serial is not None:
        if len(serial) < _MIN_SERIAL_CHARS:
            raise UsageError(f"too short for a serial number: {serial!r}")
        if device.serial != serial:
            what = f"another device: its serial number is {device.serial or 'not known'}, expected {serial}"
            raise Conflict(what, where=device.path)
    if size is not None and device.size_bytes != size:
        what = f"another device: it has {device.size_bytes} bytes, expected {size}"
        raise Conflict(what, where=device.path)


def describe(device: Device) -> list[tuple[str, str]]:
    """Returns what a person must see before they say yes: names and values."""
    rows = [("device", f"{device.path}"), ("model", device.model or "-"), ("serial", device.serial or "-")]
    rows.append(("size", f"{format_size(device.size_bytes)} ({device.size_bytes} bytes)"))
    rows.append(("removable", "yes" if device.removable else "no"))
    for part in device.parts:
        rows.append((part.name, f"{format_size(part.size_bytes)} {part.holds}".strip()))
    if not device.parts and not device.is_file:
        rows.append(("partitions", "none"))
    return rows


def look_at(path: Path, *, is_file: bool = False, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> Device:
    """Returns what is known of a device.

    Args:
        path: its node, or a link to it.
        is_file: whether a file is meant, not a device.
        sys: where sysfs is.
        proc: where the kernel's tables are.

    Raises:
        NotFound: there is no such device.
        InvalidInput: it is not a block device.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        if is_file:
            return Device(path=path, name=path.name, size_bytes=0, is_file=True)
        raise NotFound(
            "no such device", where=path, hint="`lsblk -o NAME,MODEL,SERIAL,SIZE` shows which there are"
        ) from None
    except OSError as error:
        raise map_os_error(error, "cannot look at the device", where=path) from error
    if is_file:
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInput("not a file", where=path, hint="leave --file out for a device")
        return Device(path=path, name=path.name, size_bytes=status.st_size, is_file=True)
    if not stat.S_ISBLK(status.st_mode):
        raise InvalidInput("not a block device", where=path, hint="a disk such as /dev/sdb; --file writes to a file")
    number = os.major(status.st_rdev), os.minor(status.st_rdev)
    folder = _folder(sys, number)
    return _device(path, folder, number, sys, proc)


def _device(path: Path, folder: Path, number: tuple[int, int], sys: Path, proc: Path) -> Device:
    partition = (folder / "partition").exists()
    parts, names = [], {number: folder.name}
    for each in sorted(folder.iterdir(), key=lambda entry: (len(entry.name), entry.name)):
        if (each / "partition").is_file():
            names[_number(each)] = each.name
            node = Path("/dev", each.name)
            size = int(_text(each / "size") or 0) * SECTOR_BYTES
            parts.append(DevicePart(name=each.name, size_bytes=size, holds=_holds(node)))
    stacked = {found: name for start in list(names) for found, name in _holders(sys, start, 0)}
    model = _text(folder / "device/model") or _text(folder / "device/name") or _text(folder / "loop/backing_file")
    return Device(
        path=path,
        name=folder.name,
        size_bytes=int(_text(folder / "size") or 0) * SECTOR_BYTES,
        model=f"{_text(folder / 'device/vendor')} {model}".strip() if model else "",
        serial=_serial(folder),
        removable=_text(folder / "removable") == "1",
        read_only=_text(folder / "ro") == "1",
        whole=folder.resolve().parent.name if partition else "",
        parts=tuple(parts),
        uses=tuple(_uses({**names, **stacked}, stacked, proc)),
    )


def _folder(sys: Path, number: tuple[int, int]) -> Path:
    link = sys / "dev/block" / f"{number[0]}:{number[1]}"
    if not link.exists():
        raise NotFound(f"the kernel knows no block device {number[0]}:{number[1]}", where=link)
    return link.resolve()


def _number(folder: Path) -> tuple[int, int]:
    major, _, minor = _text(folder / "dev").partition(":")
    try:
        return int(major), int(minor)
    except ValueError:
        raise WherryError("not a device's number", where=folder / "dev") from None


def _holders(sys: Path, number: tuple[int, int], depth: int) -> Iterator[tuple[tuple[int, int], str]]:
    """Gives all devices that stand upon one: device mapper, RAID, and those upon these."""
    folder = _folder(sys, number) / "holders"
    if depth > MAX_STACK or not folder.is_dir():
        return
    for each in sorted(folder.iterdir()):
        inner = _number(each.resolve())
        yield inner, each.name
        yield from _holders(sys, inner, depth + 1)


def _uses(names: dict[tuple[int, int], str], stacked: dict[tuple[int, int], str], proc: Path) -> Iterator[str]:
    for number, name in stacked.items():
        yield f"{name} ({number[0]}:{number[1]}) stands on it"
    for number, target in _mounts(proc):
        if number in names:
            yield (
                f"{names[number]} holds the running system"
                if target == "/"
                else f"{names[number]} is mounted at {target}"
            )
    for line in _text(proc / "swaps").splitlines()[1:]:
        path = line.split()[0]
        status = _stat(path)
        if status is not None and (os.major(status.st_rdev), os.minor(status.st_rdev)) in names:
            yield f"{path} is swap"


def _mounts(proc: Path) -> Iterator[tuple[tuple[int, int], str]]:
    """Gives the device and place of each mount; of file systems with numbers of their own (btrfs), by their source."""
    seen = set()
    for line in _text(proc / "self/mountinfo").splitlines():
        head, _, tail = line.partition(" - ")
        fields, source = head.split(), tail.split()
        if len(fields) < 5:
            continue
        major, _, minor = fields[2].partition(":")
        number = int(major), int(minor)
        if number[0] == 0 and len(source) > 1 and source[1].startswith("/"):
            status = _stat(source[1])
            if status is not None and stat.S_ISBLK(status.st_mode):
                number = os.major(status.st_rdev), os.minor(status.st_rdev)
        target = fields[4].encode().decode("unicode_escape", errors="replace")
        if (number, target) not in seen:
            seen.add((number, target))
            yield number, target


def _serial(folder: Path) -> str:
    for name in _SERIAL_FILES:
        text = _text(folder / name)
        if text:
            return text
    try:
        page = (folder / "device/vpd_pg80").read_bytes()  # SCSI's page "Unit Serial Number": four bytes of head
    except OSError:
        return ""
    return page[4:].decode("ascii", errors="replace").strip("\0 ")


def _holds(node: Path) -> str:
    from wherry.image.filesystems import probe

    try:
        with open(node, "rb") as file:
            found = probe(lambda offset, length: os.pread(file.fileno(), length, offset))
    except OSError:
        return ""  # this user may not look; the size is shown all the same
    return " ".join(word for word in (found.kind, found.label) if word) if found is not None else ""


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
