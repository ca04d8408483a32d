"""The first bytes of a packed app: a program for any POSIX shell, and a description for Wherry.

::

    0        #!/bin/sh
             # wherry-app {"isolate": ..., "offset": ..., "size": ...}     one line of JSON
             settings of this app
             launcher.sh, the same in every app; ends with `exec` or `exit`
             # padding                                                  up to a multiple of 4096
    offset   squashfs or EROFS image, `size` bytes

The script knows nothing but its own file: it makes a mount namespace, mounts the image there, and becomes the command.
The kernel ends the mount with the last process, and the loop device with the mount (LO_FLAGS_AUTOCLEAR), whatever
kills them. It uses sh, unshare, mount, umount and nsenter or chroot, of util-linux or of busybox.

What is mounted below the image's root stands in the image as well (`tables`): one call of ``mount -a`` does it, where
the script alone would need a process for each line.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from wherry.core import jsonio
from wherry.core.errors import InvalidInput, UsageError

BLOCK_BYTES = 4096
MAX_HEADER_BYTES = 256 * 1024
MAX_WORDS_BYTES = 128 * 1024
VERSION = 1
_MARK = b"# wherry-app "
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
BINDS = ("/dev", "/proc", "/sys", "/home", "/tmp", "/run", "/etc/resolv.conf", "/etc/hosts")  # noqa: S108 a mount point
"""What of the machine an app without isolation sees beside its own files."""
FOLDERS = ("/dev", "/proc", "/sys", "/tmp", "/run", "/dev/shm", "/.wherry/cwd")  # noqa: S108 a mount point
"""What there must be in each image, to be mounted on."""
SPARE = ("/root", "/srv", "/mnt", "/media", "/opt")
"""Folders that are empty in most images, where an app without isolation sees the machine's when it is called there."""
NODES = ("full", "null", "random", "tty", "urandom", "zero")
"""Devices of an app with isolation."""
TABLES = "/.wherry"
PLACE = "/mnt"
"""Where the image is mounted when the machine has such a folder; the tables are for there."""
_OWN = (("/tmp", "1777"), ("/run", "755"), ("/dev/shm", "1777"))  # noqa: S108 a mount point
_LAUNCHER = Path(__file__).with_name("launcher.sh")


class Format(StrEnum):
    """What the image is."""

    SQUASHFS = "squashfs"
    EROFS = "erofs"


class Isolate(StrEnum):
    """How far an app is kept from the machine."""

    NONE = "none"
    """Its own root; devices, processes, homes, /tmp and the network are the machine's."""
    CHROOT = "chroot"
    """Its own root, six devices, /tmp of its own; processes and network are the machine's."""
    NAMESPACES = "namespaces"
    """Its own processes, names and IPC, /tmp of its own, nothing of the machine's files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a packed app says of itself."""

    name: str
    command: tuple[str, ...]
    """The program's path in the image, and the arguments before those that are given."""
    machine: str
    """``uname -m``'s word; empty: any."""
    isolate: Isolate = Isolate.NONE
    env: tuple[tuple[str, str], ...] = ()
    binds: tuple[str, ...] = BINDS
    memory: tuple[str, ...] = ()
    """Folders that are empty memory in each run."""
    spare: tuple[str, ...] = ()
    """Of SPARE, those that are empty in the image."""
    workdir: str = "/"
    """Where an app with isolation starts."""
    format: Format = Format.SQUASHFS
    sha256: str = ""
    """Of the image, in hex."""
    size: int = 0
    """Of the image, in bytes."""
    offset: int = 0
    """Where the image begins; 0 while it is not known."""

    def describe(self) -> dict[str, Any]:
        """Returns what stands in the header's line of JSON."""
        return {
            "binds": list(self.binds),
            "command": list(self.command),
            "env": dict(self.env),
            "format": str(self.format),
            "isolate": str(self.isolate),
            "machine": self.machine,
            "memory": list(self.memory),
            "name": self.name,
            "offset": self.offset,
            "sha256": self.sha256,
            "size": self.size,
            "spare": list(self.spare),
            "version": VERSION,
            "workdir": self.workdir,
        }


def write(header: Header) -> bytes:
    """Returns the header's bytes, a multiple of 4096.

    Raises:
        UsageError: words or names that no program can be given.
    """
    _check(header)
    offset = BLOCK_BYTES
    while True:
        text = _text(header, offset)
        if len(text) + 2 <= offset:
            padding = offset - len(text)
            return text + b"#" * (padding - 1) + b"\n"
        offset += BLOCK_BYTES


def parse(data: bytes, *, where: object) -> Header:
    """Reads a header from the first bytes of a file.

    Raises:
        InvalidInput: it is not a packed app, or one of another version.
    """
    lines = data.split(b"\n", 2)
    if len(lines) < 3 or lines[0] != b"#!/bin/sh" or not lines[1].startswith(_MARK):
        raise InvalidInput("not a packed app", where=where)
    value = jsonio.loads(lines[1].removeprefix(_MARK), where=where)
    version = value.get("version") if isinstance(value, dict) else None
    if version != VERSION:
        raise InvalidInput(f"a packed app of version {version!r}; this Wherry reads {VERSION}", where=where)
    try:
        found = Header(
            name=_typed(value, "name", str),
            command=_words(value, "command"),
            machine=_typed(value, "machine", str),
            isolate=Isolate(_typed(value, "isolate", str)),
            env=tuple((str(key), str(word)) for key, word in sorted(_typed(value, "env", dict).items())),
            binds=_words(value, "binds"),
            memory=_words(value, "memory"),
            spare=_words(value, "spare"),
            workdir=_typed(value, "workdir", str),
            format=Format(_typed(value, "format", str)),
            sha256=_typed(value, "sha256", str),
            size=_typed(value, "size", int),
            offset=_typed(value, "offset", int),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"a packed app whose description is malformed ({error})", where=where) from error
    if found.offset <= 0 or found.offset % BLOCK_BYTES or found.size <= 0 or found.offset > MAX_HEADER_BYTES:
        raise InvalidInput("a packed app whose image is at no place", where=where)
    return found


def _typed(value: Mapping[str, Any], key: str, kind: type) -> Any:
    found = value[key]
    if not isinstance(found, kind) or isinstance(found, bool):
        raise TypeError(f"{key} is no {kind.__name__}")
    return found


def _words(value: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found: list[Any] = _typed(value, key, list)
    if not all(isinstance(word, str) for word in found):
        raise TypeError(f"{key} has something that is no string")
    return tuple(found)


def _check(header: Header) -> None:
    if not header.command:
        raise UsageError("an app needs a command")
    for word in (*header.command, *(value for _, value in header.env), header.name):
        if "\0" in word:
            raise UsageError("a word with a NUL in it", where=repr(word))
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise UsageError("a word that is not UTF-8", where=repr(word)) from error
    for name, _ in header.env:
        if not _NAME.fullmatch(name):
            raise UsageError("not a name of an environment variable", where=name)
    for path in (*header.binds, *header.memory):
        check_path(path)
    if header.workdir != "/":
        check_path(header.workdir)
    if sum(len(word) for word in header.command) > MAX_WORDS_BYTES:
        raise UsageError(f"the command is longer than {MAX_WORDS_BYTES} bytes")


def check_path(path: str) -> None:
    """Returns when a path can stand in a table of mounts and in the script's lists.

    Raises:
        UsageError: it cannot.
    """
    odd = re.search(r"[^A-Za-z0-9_./+:@%,-]", path)
    if not path.startswith("/") or path == "/" or odd or ".." in path.split("/"):
        raise UsageError("not a path that can be mounted on: absolute, letters, digits and ._-+:@%, alone", where=path)


def tables(header: Header) -> dict[str, str]:
    """Returns what is mounted for each kind of isolation, as fstab(5): path in the image -> text.

    ``nofail`` lets a line be whose source the machine has not.
    """
    memory = "".join(f"tmpfs {PLACE}{path} tmpfs nosuid,nodev,mode=1777 0 0\n" for path in header.memory)
    bound = "".join(f"{path} {PLACE}{path} none rbind,nofail 0 0\n" for path in header.binds)
    nodes = "".join(f"/dev/{name} {PLACE}/dev/{name} none bind,nofail 0 0\n" for name in NODES)
    names = "".join(f"{path} {PLACE}{path} none bind,nofail 0 0\n" for path in ("/etc/resolv.conf", "/etc/hosts"))
    own = "".join(f"tmpfs {PLACE}{path} tmpfs nosuid,nodev,mode={mode} 0 0\n" for path, mode in _OWN)
    apart = nodes + names + own + memory
    return {
        f"{TABLES}/{Isolate.NONE}": bound + memory,
        f"{TABLES}/{Isolate.CHROOT}": f"/proc {PLACE}/proc none rbind 0 0\n{apart}",
        f"{TABLES}/{Isolate.NAMESPACES}": apart,
    }


def _text(header: Header, offset: int) -> bytes:
    from dataclasses import replace

    described = jsonio.compact(replace(header, offset=offset).describe())
    settings = {
        "_w_name": header.name,
        "_w_machine": header.machine,
        "_w_isolate": str(header.isolate),
        "_w_format": str(header.format),
        "_w_offset": str(offset),
        "_w_size": str(header.size),
        "_w_sha256": header.sha256,
        "_w_binds": " ".join(header.binds),
        "_w_memory": " ".join(header.memory),
        "_w_spare": " ".join(header.spare),
        "_w_workdir": header.workdir,
    }
    lines = [f"{key}={shlex.quote(value)}" for key, value in settings.items()]
    exports = [f"export {key}={shlex.quote(value)}" for key, value in header.env]
    # Words are put in last, in one pass: what looks like a place in a word is left alone.
    before, after = _LAUNCHER.read_text().split("@WORDS@")
    words = " ".join(shlex.quote(word) for word in header.command)
    environment = "\n".join(["_w_environment() {", ":", *exports, "}"])
    body = "\n".join([*lines, environment, before]) + words + after
    return b"#!/bin/sh\n" + _MARK + described.rstrip(b"\n") + b"\n" + body.encode()
