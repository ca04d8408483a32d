"""Any existing system as an image: its root is found in a disk image, and what its fstab lays over it is added.

The root is, in this order: the partition that the user names; the only one of the Discoverable Partitions
Specification's type for a root (for the wanted architecture) that holds a system; the only one that holds a system at
all; of several the one that is called ``root`` or ``rootfs``. Anything else is the user's to say, from a list of what
there is. A partition that the user names, and a file system without a table around it, may hold any files.

A directory holds a system when it has ``etc`` and ``usr`` or ``bin``, and an ``init``, a shell or an ``os-release``.
It is looked for at the top, in the subvolumes that distributions make (``@``, ``@rootfs``, ``root``), and in the
deployments of an OSTree system. Links are never followed on the way.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from wherry.core.errors import InvalidInput, NotFound, Unsupported, WherryError
from wherry.core.units import format_size
from wherry.image.opening import opened_files
from wherry.image.roots import Place

if TYPE_CHECKING:
    from wherry.image.disks import Disk, Volume

MAX_FSTAB_BYTES = 256 * 1024
MAX_MOUNTS = 64
MAX_DEPLOYMENTS = 64
_INITS = ("sbin/init", "usr/sbin/init", "lib/systemd/systemd", "usr/lib/systemd/systemd", "init", "linuxrc")
_TELLING = (*_INITS, "bin/sh", "usr/bin/sh", "etc/os-release", "usr/lib/os-release")
_SUBVOLUMES = ("@", "@rootfs", "root")
_ROOT_NAMES = ("root", "rootfs", "/", "system", "linux")
_BOOT = ("/boot", "/efi")
EMPTIED = ("/proc", "/sys", "/dev", "/run", "/tmp", "/lost+found")  # noqa: S108 of the image
"""What is in them belongs to a running system, not to its files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the user says about a disk image."""

    partition: int | None = None
    subdir: str = ""
    """The root within its file system; "" where it is found."""
    with_boot: bool = False
    may_mount: bool = True
    """Whether the kernel may read it."""
    architecture: str = ""
    """Wanted of a root whose type says one; "" for any."""


AS_FOUND = Choice()


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A system that was found."""

    places: tuple[Place, ...]
    """The root first."""
    has_init: bool


def left_out(path: str) -> bool:
    """Tells whether a path is not of the system's files."""
    return os.path.dirname(path) in EMPTIED


@contextmanager
def opened_system(disk: Disk, choice: Choice, *, scratch: Path, note: Callable[[str], None]) -> Iterator[System]:
    """Finds the system in a disk image, and gives its files.

    Args:
        disk: the image.
        choice: what the user says.
        scratch: a directory with room for the files, where tools read them.
        note: is told what is left out.

    Raises:
        NotFound: there is none.
        InvalidInput: there are several, or the image is malformed.
        Unsupported: neither this kernel nor a tool reads it.
    """
    with ExitStack() as stack:
        finder = _Finder(disk, choice, scratch, note, stack)
        volume, top, root = finder.root()
        places = [Place(path=root), *finder.mounts(volume, top, root)]
        yield System(places=tuple(places), has_init=any(_exists(root, name) for name in _INITS))


class _Finder:
    def __init__(
        self, disk: Disk, choice: Choice, scratch: Path, note: Callable[[str], None], stack: ExitStack
    ) -> None:
        self._disk, self._choice, self._scratch, self._note, self._stack = disk, choice, scratch, note, stack
        self._volumes = disk.volumes()
        self._problems: list[WherryError] = []

    def root(self) -> tuple[Volume, Path, Path]:
        """Returns the root's volume, the top of its files, and the root there."""
        if self._choice.partition is not None:
            volume = self._numbered(self._choice.partition)
            top = self._open(volume, self._stack)
            return volume, top, self._within(volume, top)
        candidates = [volume for volume in self._volumes if volume.filesystem and volume.filesystem.has_files]
        if len(self._volumes) == 1:
            top = self._open(self._volumes[0], self._stack)
            return self._volumes[0], top, self._within(self._volumes[0], top)
        typed = [volume for volume in candidates if self._is_typed(volume)]
        for group in (typed, candidates):
            found = self._holding(group)
            if len(found) > 1:
                found = [item for item in found if _is_called_root(item[0])] or found
            if len(found) == 1:
                return found[0]
            if found:
                raise self._ambiguous([volume for volume, _, _ in found])
        if self._problems:
            raise self._problems[0]
        raise NotFound("no system is in the image", where=self._disk.where, hint=self._listed(self._volumes))

    def _is_typed(self, volume: Volume) -> bool:
        architecture = volume.partition.architecture if volume.partition else ""
        return bool(architecture) and self._choice.architecture in ("", architecture)

    def _holding(self, volumes: list[Volume]) -> list[tuple[Volume, Path, Path]]:
        """Returns the volumes that hold a system; the others are closed again."""
        found = []
        for volume in volumes:
            with ExitStack() as stack:
                try:
                    top = self._open(volume, stack)
                    root = self._within(volume, top)
                except (InvalidInput, NotFound, Unsupported) as error:
                    if not isinstance(error, NotFound):
                        self._problems.append(error)
                    continue
                found.append((volume, top, root))
                self._stack.push(stack.pop_all())
        return found

    def _open(self, volume: Volume, stack: ExitStack) -> Path:
        return stack.enter_context(
            opened_files(self._disk, volume, scratch=self._scratch, may_mount=self._choice.may_mount, note=self._note)
        )

    def _within(self, volume: Volume, top: Path) -> Path:
        """Returns the root below the top of a file system."""
        if self._choice.subdir:
            return _below(top, self._choice.subdir)
        if is_system(top):
            return top
        found = [top / name for name in _SUBVOLUMES if is_system(top / name)] or list(_deployments(top))
        if len(found) == 1:
            return found[0]
        where = f"{self._disk.where}{f', partition {volume.partition.number}' if volume.partition else ''}"
        if not found and (self._choice.partition is not None or volume.partition is None):
            return top
        if found:
            known = ", ".join(str(path.relative_to(top)) for path in found)
            raise InvalidInput("several systems are on the file system", where=where, hint=f"--subdir one of: {known}")
        raise NotFound("the file system holds no system: no etc with an init or a shell", where=where)

    def _numbered(self, number: int) -> Volume:
        for volume in self._volumes:
            if volume.partition is not None and volume.partition.number == number:
                return volume
        raise NotFound(f"there is no partition {number}", where=self._disk.where, hint=self._listed(self._volumes))

    def _ambiguous(self, volumes: list[Volume]) -> InvalidInput:
        return InvalidInput(
            "several partitions hold a system",
            where=self._disk.where,
            hint=f"choose with --partition N; {self._listed(volumes)}",
        )

    def _listed(self, volumes: list[Volume]) -> str:
        lines = []
        for volume in volumes:
            name = f"{volume.partition.number}" if volume.partition else "the whole"
            if volume.partition and volume.partition.name:
                name += f" {volume.partition.name!r}"
            kind = volume.filesystem.kind if volume.filesystem else "unknown"
            label = f" {volume.filesystem.label!r}" if volume.filesystem and volume.filesystem.label else ""
            lines.append(f"{name}: {kind}{label}, {format_size(volume.size_bytes)}")
        return f"there are: {'; '.join(lines) or 'no partitions'}"

    # --- what fstab lays over the root

    def mounts(self, root_volume: Volume, top: Path, root: Path) -> Iterator[Place]:
        """Gives the other partitions of the image that the system's fstab mounts."""
        entries = _fstab(root)
        for device, target, options in sorted(entries, key=lambda entry: entry[1]):
            boot = any(target == path or target.startswith(f"{path}/") for path in _BOOT)
            if target == "/" or (boot and not self._choice.with_boot):
                continue
            volume = self._named(device)
            if volume is None or volume.filesystem is None or not volume.filesystem.has_files:
                if not boot:
                    self._note(f"{target} is left out: {device} is not in the image")
                continue
            subvolume = _option(options, "subvol")
            if volume is root_volume and not subvolume:
                continue
            place = top if volume is root_volume else self._open(volume, self._stack)
            yield Place(path=_below(place, subvolume) if subvolume else place, at=target.strip("/"))

    def _named(self, device: str) -> Volume | None:
        """Returns the volume that the first column of fstab means."""
        key, equals, value = device.partition("=")
        value = value.strip('"')
        for volume in self._volumes:
            filesystem, partition = volume.filesystem, volume.partition
            if equals:
                known = {
                    "UUID": filesystem.uuid if filesystem else "",
                    "LABEL": filesystem.label if filesystem else "",
                    "PARTUUID": partition.uuid if partition else "",
                    "PARTLABEL": partition.name if partition else "",
                }.get(key, "")
                if known and known.lower() == value.lower():
                    return volume
            elif partition is not None and _partition_number(device) == partition.number:
                return volume
        return None


def is_system(path: Path) -> bool:
    """Tells whether a directory holds a system."""
    return (
        _exists(path, "etc")
        and (_exists(path, "usr") or _exists(path, "bin"))
        and any(_exists(path, name) for name in _TELLING)
    )


def _exists(root: Path, name: str) -> bool:
    """Tells whether a name is there, whatever it is; the root of an image is not followed out of."""
    current = root
    *above, last = name.split("/")
    for part in above:
        current = current / part
        try:
            if stat.S_ISLNK(os.lstat(current).st_mode):
                return last in ("init", "sh") and _lexists(root / "usr" / part / last)
        except OSError:
            return False
    return _lexists(current / last)


def _lexists(path: Path) -> bool:
    try:
        os.lstat(path)
    except OSError:
        return False
    return True


def _below(top: Path, name: str) -> Path:
    """Returns a directory below another, no part of which is a link.

    Raises:
        NotFound: it is not there.
        InvalidInput: it would leave the file system.
    """
    parts = PurePosixPath(name.strip("/")).parts
    if ".." in parts:
        raise InvalidInput("a directory that leaves the file system", where=name[:300])
    current = top
    for part in parts:
        current = current / part
        try:
            mode = os.lstat(current).st_mode
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound("no such directory in the image", where=name[:300]) from None
        if not stat.S_ISDIR(mode):
            raise InvalidInput("not a directory in the image", where=name[:300])
    return current


def _deployments(top: Path) -> Iterator[Path]:
    """Gives the roots of an OSTree system: ``ostree/deploy/OS/deploy/CHECKSUM.N``."""
    count = 0
    try:
        deploy = _below(top, "ostree/deploy")
        for name in sorted(os.listdir(deploy)):
            below = _below(deploy, f"{name}/deploy")
            for deployment in sorted(os.listdir(below)):
                path = below / deployment
                count += 1
                if count > MAX_DEPLOYMENTS:
                    return
                if not path.is_symlink() and path.is_dir() and _exists(path, "usr"):
                    yield path
    except WherryError:
        return


def _is_called_root(volume: Volume) -> bool:
    names = [volume.partition.name if volume.partition else "", volume.filesystem.label if volume.filesystem else ""]
    return any(name.lower() in _ROOT_NAMES for name in names)


def _fstab(root: Path) -> list[tuple[str, str, str]]:
    """Returns device, place and options of each line of a system's fstab."""
    try:
        fd = os.open(_below(root, "etc") / "fstab", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, WherryError):
        return []
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return []
        text = file.read(MAX_FSTAB_BYTES).decode(errors="replace")
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 3 or words[0].startswith("#") or not words[1].startswith("/") or ".." in words[1].split("/"):
            continue
        if words[2] in ("swap", "tmpfs", "proc", "sysfs", "devpts", "nfs", "nfs4", "cifs", "overlay", "none"):
            continue
        found.append((words[0], os.path.normpath(words[1]), words[3] if len(words) > 3 else ""))
    return found[:MAX_MOUNTS]


def _option(options: str, key: str) -> str:
    return next((item.partition("=")[2] for item in options.split(",") if item.startswith(f"{key}=")), "")


def _partition_number(device: str) -> int | None:
    """Returns 2 for ``/dev/sda2`` and ``/dev/mmcblk0p2``."""
    name = device.removeprefix("/dev/")
    if name == device or "/" in name:
        return None
    digits = name[len(name.rstrip("0123456789")) :]
    head = name[: len(name) - len(digits)]
    whole = head.endswith("p") and head[:-1][-1:].isdigit()
    return int(digits[:9]) if digits and (whole or head.startswith(("sd", "hd", "vd", "xvd"))) else None
