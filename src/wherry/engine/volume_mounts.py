"""What stands behind a volume that was made with options: docker's ``local`` with ``type``, ``o`` and ``device``.

``o`` are mount(8)'s options for that file system. A volume of an option that cannot be had is refused when it is made.
"""

from __future__ import annotations

import errno
import os

from wherry.core.errors import InvalidInput, NotFound
from wherry.core.value import EMPTY, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from wherry.spec.container import Mount

TYPES = ("", "none", "bind", "tmpfs", "nfs", "nfs4")
_KEYS = ("type", "o", "device")
_TMPFS_OPTIONS = ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "huge", "noswap")
NFS_TIMEOUT_S = 60.0
METADATA = "volume.json"
MAX_METADATA_BYTES = 1 << 20


class Volume(Value):
    """A named place for data that outlives containers."""

    name: str
    created_s: float = 0.0
    labels: Mapping[str, str] = EMPTY
    options: Mapping[str, str] = EMPTY
    anonymous: bool = False
    extra: Mapping[str, Any] = EMPTY


class FileSystem(Value):
    """A file system that is mounted in a container in the place of a volume's directory."""

    type: str
    device: str
    options: tuple[str, ...]


def behind(folder: str) -> str | FileSystem:
    """Returns what stands behind the volume of a folder: a directory, or a file system to be mounted.

    Part of every container's start; a volume without options costs it one look.

    Raises:
        NotFound: the directory that it is bound to is not there.
    """
    data = f"{folder}/data"
    try:
        fd = os.open(f"{folder}/{METADATA}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return data
    try:
        text = os.read(fd, MAX_METADATA_BYTES)
    finally:
        os.close(fd)
    from wherry.core import jsonio
    from wherry.spec.codec import decode

    volume = decode(Volume, jsonio.loads(text, where=folder, max_bytes=MAX_METADATA_BYTES), where=folder)
    if not volume.options:
        return data
    if is_bind(volume):
        device = volume.options["device"]
        if not os.path.isdir(device):
            raise NotFound(f"the directory of volume {volume.name!r} is not there", where=device, hint="make it first")
        return device
    kind = volume.options["type"]
    return FileSystem(type=kind, device=volume.options.get("device") or kind, options=tuple(_words(volume)))


def check_subpath(source: str | FileSystem, mount: Mount) -> None:
    """Sees to it that what is wanted of a volume is there and inside it, for the error: the mount looks by itself.

    Raises:
        NotFound: it is not there.
        InvalidInput: a link leads out of the volume, or the volume is mounted in each container of its own.
    """
    from wherry.linux.beneath import open_beneath

    name, path = mount.source, mount.subpath
    if isinstance(source, FileSystem):
        raise InvalidInput(f"volume {name!r} is of type {source.type}: it is mounted whole", hint="leave out subpath")
    folder = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(open_beneath(folder, path))
    except FileNotFoundError:
        raise NotFound(f"there is no {path!r} in volume {name!r}", hint="make it first") from None
    except OSError as error:
        what = "a link leads out of the volume" if error.errno == errno.EXDEV else os.strerror(error.errno or 0)
        raise InvalidInput(f"cannot mount {path!r} of volume {name!r}: {what}") from error
    finally:
        os.close(folder)


def check(volume: Volume) -> None:
    """Refuses options that cannot work.

    Raises:
        InvalidInput: names the option.
    """
    options = volume.options
    for key in options:
        if key not in _KEYS:
            raise InvalidInput(f"--opt: the driver local has no option {key!r}", hint=f"use {', '.join(_KEYS)}")
    if not options:
        return
    kind, words = options.get("type", ""), _words(volume)
    if kind not in TYPES:
        raise InvalidInput(f"--opt: the type {kind!r} is not supported", hint="use tmpfs, nfs, or none with o=bind")
    if kind == "tmpfs":
        for word in words:
            key, equals, _ = word.partition("=")
            if equals and key not in _TMPFS_OPTIONS:
                raise InvalidInput(f"--opt: a tmpfs has no option {key!r}", hint=f"use {', '.join(_TMPFS_OPTIONS)}")
        return
    if not options.get("device"):
        raise InvalidInput("--opt: device= is missing", hint="name the directory, or SERVER:/PATH for nfs")
    if is_bind(volume):
        if not options["device"].startswith("/"):
            raise InvalidInput(f"--opt: device= is not an absolute path: {options['device']!r}")
    elif not kind.startswith("nfs"):
        raise InvalidInput("--opt: type=none needs o=bind")


def is_bind(volume: Volume) -> bool:
    """Tells whether a volume is a directory of the host."""
    return volume.options.get("type", "") in ("", "none", "bind") and bool(
        {"bind", "rbind"} & set(_words(volume)) or volume.options.get("type") == "bind"
    )


def _words(volume: Volume) -> list[str]:
    return [word for word in volume.options.get("o", "").split(",") if word]


def source_of(volume: Volume, data: Path) -> Path | None:
    """Returns the directory behind a volume with options, mounted in this process's mount namespace if need be.

    Args:
        volume: which.
        data: where to mount it.

    Returns:
        None for a volume without options.

    Raises:
        NotFound: the directory is not there.
    """
    if not volume.options:
        return None
    if is_bind(volume):
        device = type(data)(volume.options["device"])
        if not device.is_dir():
            raise NotFound(f"the directory of volume {volume.name!r} is not there", where=device, hint="make it first")
        return device
    data.mkdir(mode=0o755, exist_ok=True)
    if os.stat(data).st_dev != os.stat(data.parent).st_dev:
        return data  # mounted already
    if volume.options["type"] == "tmpfs":
        _mount_tmpfs(volume, data)
    else:
        from wherry.core.proc import run

        options = ["-o", volume.options["o"]] if volume.options.get("o") else []
        run(
            ["mount", "-t", volume.options["type"], *options, "--", volume.options["device"], str(data)],
            timeout_s=NFS_TIMEOUT_S,
            hint="install the file system's mount helper, such as nfs-common",
        )
    return data


def _mount_tmpfs(volume: Volume, data: Path) -> None:
    from wherry.linux import mount

    flags = mount.MS_NOSUID | mount.MS_NODEV
    known = {"ro": mount.MS_RDONLY, "noexec": mount.MS_NOEXEC, "noatime": mount.MS_NOATIME}
    rest = []
    for word in _words(volume):
        flags |= known.get(word, 0)
        if "=" in word:
            rest.append(word)
    mount.mount("tmpfs", data, "tmpfs", flags, ",".join(rest) or None)
