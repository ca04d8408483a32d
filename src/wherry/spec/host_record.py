"""``output/host.json``: what a build of a host has left, for those that boot, flash and sign it.

Paths are relative to the workspace, the folder that ``output/`` lies in. Unknown fields survive a round trip, so that
an older Wherry may read what a newer one wrote, and hand it on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, NotFound, Unsupported
from wherry.core.jsonio import loads
from wherry.spec.codec import decode

FILE = "output/host.json"
FORMAT = 1
MAX_RECORD_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRecord:
    """How a virtual machine imitates the board; the fields of ``machine`` in ``board/board.yaml``."""

    machine: str = ""
    """QEMU's ``-M``; ``uml`` for user-mode Linux; "" for the architecture's usual one."""
    cpu: str = ""
    cpus: int = 1
    memory: str = "1GiB"
    firmware: str = ""
    """``uefi``, ``u-boot`` or ``none``; "" for what the board boots by."""
    drive: str = "virtio"
    """``virtio``, ``sd`` or ``usb``."""
    console: str = ""
    """The kernel's console there, if another than the board's."""
    note: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardRecord:
    """The board that it was built for."""

    title: str = ""
    console: str = ""
    """The kernel's ``console=``, as ``ttyS0,115200``."""
    command_line: tuple[str, ...] = ()
    device_tree: str = ""
    """The file below ``dtb/``."""
    boot: str = "none"
    """How its firmware finds the kernel: ``none``, ``uefi``, ``extlinux``, ``raspberry-pi``, ``u-boot-script``."""
    machine: MachineRecord = field(default_factory=MachineRecord)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BootRecord:
    """What is there to be booted without an image."""

    kernel: str = ""
    initramfs: str = ""
    device_trees: str = ""
    """The folder that ``device_tree`` of the board is below."""
    command_line: tuple[str, ...] = ()
    """The kernel's words that belong to this host, such as ``root=``."""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """One image."""

    path: str
    kind: str = ""
    """``disk``, ``sd``, ``squashfs``, ``erofs``, ``oci``, ``tar`` ..."""
    size_bytes: int = 0
    sha256: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRecord:
    """A host that was built."""

    format: int
    """1."""
    name: str
    architecture: str
    """Debian's name."""
    builder: str = ""
    target: str = ""
    board: BoardRecord = field(default_factory=BoardRecord)
    boot: BootRecord = field(default_factory=BootRecord)
    images: Mapping[str, ImageRecord] = field(default_factory=dict)
    """By their names."""
    commit: str = ""
    """The root, in the store."""
    extra: Mapping[str, Any] = field(default_factory=dict)


def read_host_record(workspace: Path) -> HostRecord:
    """Returns what was built in a workspace.

    Raises:
        NotFound: nothing was built there.
        InvalidInput: it is malformed, or a path leads out of the workspace.
        Unsupported: it is of another format.
    """
    path = workspace / FILE
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_RECORD_BYTES + 1)
    except FileNotFoundError:
        raise NotFound("nothing was built here", where=workspace, hint="run `wherry host build` there first") from None
    except OSError as error:
        raise map_os_error(error, "cannot read", where=path) from error
    return parse_host_record(data, where=path)


def parse_host_record(data: bytes, *, where: object = None) -> HostRecord:
    """Returns the record in the bytes of a ``host.json``; raises as `read_host_record`."""
    record = decode(HostRecord, loads(data, where=where, max_bytes=MAX_RECORD_BYTES), where=where)
    if record.format != FORMAT:
        raise Unsupported(
            f"a host record of format {record.format}, not {FORMAT}", where=where, hint="use the Wherry that wrote it"
        )
    for name in (record.boot.kernel, record.boot.initramfs, record.boot.device_trees, record.board.device_tree):
        _check_inside(name, where)
    for image in record.images.values():
        _check_inside(image.path, where)
    return record


def _check_inside(name: str, where: object) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise InvalidInput(f"a path that leads out of the workspace: {name[:100]!r}", where=where)
