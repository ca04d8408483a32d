"""What the programs of a build see: a container of the engine's runtime, over this machine's own programs.

::

    /usr /bin /lib* /sbin /opt      this machine's, read only
    /etc                            of this machine's what programs need (`ETC_FILES`, `ETC_FOLDERS`); no secrets
    /build/output, scratch, kept    the step's folders, to write to; also under their own paths
    /build/in/NAME                  results of other steps, read only; also under their own paths
    /build/downloads                read only, but for steps that fetch; also under its own path
    /tmp /run /var/tmp /root        empty, and gone afterwards
    /proc /dev                      the container's own; no devices but null, zero, random ...

A step without the network has none but its own loopback. The folders stand under ``/build`` so that a path that a
compiler writes into what it makes is the same everywhere. There is no user namespace: what root makes in there is
root's. The capabilities are docker's; a step that makes root file systems has those to mount and to make nodes besides.

This module is pure: it says what the sandbox is. `sandboxed.py` is the program that makes it and stays until its end.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wherry.core.errors import InvalidInput
from wherry.runtime import default
from wherry.runtime.resources import Resources
from wherry.runtime.spec import Mount, Namespace, Process, Spec

BUILD = "/build"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SYSTEM = ("bin", "lib", "lib32", "lib64", "libx32", "opt", "sbin", "usr")
ETC_FILES = (
    "bash.bashrc",
    "ca-certificates.conf",
    "debian_version",
    "gai.conf",
    "group",
    "host.conf",
    "hosts",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "localtime",
    "login.defs",
    "magic",
    "mke2fs.conf",
    "mtools.conf",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "protocols",
    "resolv.conf",
    "services",
    "shells",
    "ssl/openssl.cnf",
)
"""Copied into the sandbox's own /etc: a mount for each would be half of the cost of a sandbox."""
ETC_FOLDERS = (
    "alternatives",
    "apt",
    "ca-certificates",
    "dpkg",
    "ld.so.conf.d",
    "pam.d",
    "perl",
    "python3",
    "ssl/certs",
    "terminfo",
)
ROOT_MAKING = ("SYS_ADMIN", "SYS_CHROOT", "MKNOD", "SYS_PTRACE", "DAC_READ_SEARCH", "LINUX_IMMUTABLE")
"""Capabilities of steps that mount, change root and make nodes, besides docker's."""
_EMPTY = ("nosuid", "nodev", "mode=1777")


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """What a sandbox shows of a build, by the places below ``/build``."""

    writable: Mapping[str, Path] = field(default_factory=dict)
    readable: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program to run in a sandbox."""

    args: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    folders: Folders = field(default_factory=Folders)
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    network: bool = False
    makes_roots: bool = False
    """Whether it mounts, changes root, makes device nodes."""
    mounts: tuple[Mount, ...] = ()
    """More, last of all."""
    terminal: bool = False
    root: Path | None = None
    """A root file system in the place of this machine's; written to."""


def specification(command: Command) -> Spec:
    """Returns the container that a command runs in.

    Raises:
        InvalidInput: a folder's path cannot be shown in a sandbox.
    """
    namespaces = {name: "" for name in default.NAMESPACES if not (command.network and name == Namespace.NETWORK)}
    add = ROOT_MAKING if command.makes_roots else ()
    capabilities = default.capabilities(add=add)
    kept = tuple(
        mount for mount in default.mounts() if mount.destination not in ("/sys", "/sys/fs/cgroup", "/dev/mqueue")
    )
    return Spec(
        process=Process(
            args=command.args,
            env=tuple(f"{name}={value}" for name, value in sorted(command.env.items())),
            cwd=str(command.cwd),
            capabilities=capabilities,
            no_new_privileges=not command.makes_roots,
            terminal=command.terminal,
            umask=0o022,
        ),
        hostname="build",
        namespaces=namespaces,
        mounts=(*kept, *(_system() if command.root is None else ()), *_places(command), *command.mounts),
        masked_paths=() if command.makes_roots else default.masked_paths(),
        readonly_paths=() if command.makes_roots else default.READONLY_PATHS,
        seccomp=None if command.makes_roots else default.seccomp_profile(capabilities.bounding),
        resources=Resources(devices=default.DEVICE_RULES),
    )


def _system() -> list[Mount]:
    found: list[Mount] = []
    for name in SYSTEM:
        if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}"):  # links are made in the root
            found.append(_bind(Path("/", name), f"/{name}", read_only=True))
    for name in ETC_FOLDERS:
        if os.path.isdir(f"/etc/{name}"):
            found.append(_bind(Path("/etc", name), f"/etc/{name}", read_only=True))
    for place in ("/tmp", "/run", "/var/tmp", "/root"):  # noqa: S108 places in the container
        found.append(Mount(destination=place, type="tmpfs", source="tmpfs", options=_EMPTY))
    return found


def _places(command: Command) -> list[Mount]:
    folders = command.folders
    found: dict[str, Mount] = {}
    for read_only, named, plain in (
        (True, folders.readable, command.readable),
        (False, folders.writable, command.writable),
    ):
        for name, path in named.items():
            found[f"{BUILD}/{name}"] = _bind(path, f"{BUILD}/{name}", read_only=read_only)
        for path in (*named.values(), *plain):
            found[_shown(path)] = _bind(path, _shown(path), read_only=read_only)
    return [found[place] for place in sorted(found)]  # a folder before what is in it


def _shown(path: Path) -> str:
    if not path.is_absolute() or ".." in path.parts or path == Path("/"):
        raise InvalidInput("cannot be shown in a build's sandbox", where=path)
    return str(path)


def _bind(source: Path, target: str, *, read_only: bool) -> Mount:
    options = ("rbind", "nosuid", "rro" if read_only else "rw")
    return Mount(destination=target, type="bind", source=str(source), options=options)


def environment(given: Mapping[str, str], *, epoch: int) -> dict[str, str]:
    """Returns the whole environment of a program: what it always has, and what was given."""
    always = {"HOME": "/root", "LC_ALL": "C.UTF-8", "PATH": PATH, "SOURCE_DATE_EPOCH": str(epoch), "TZ": "UTC"}
    return {**always, **given}
