"""U-Boot's scripts: ``boot.scr``, for boards whose U-Boot knows no other way.

A layer may have its own script as ``boot/firmware/boot.cmd``; else one loads kernel, device tree and initramfs to the
addresses that the board's U-Boot has in its environment, and boots.

Source: U-Boot's include/image.h (``struct legacy_img_hdr``) and doc/usage/cmd/source.rst; checked against ``mkimage``.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from wherry.build.bootloaders.entry import DEVICE_TREES, INITRAMFS, KERNEL
from wherry.core.errors import InvalidInput, Unsupported

if TYPE_CHECKING:
    from wherry.build.bootloaders.entry import Entry, Files

SCRIPT, SOURCE = "boot.scr", "boot.cmd"
MAX_SCRIPT_BYTES = 64 * 1024

_HEADER = struct.Struct(">7I4B32s")
_MAGIC = 0x27051956
_OS_LINUX, _TYPE_SCRIPT, _COMPRESSION_NONE = 5, 6, 0
_ARCHITECTURES = {"armhf": 2, "armel": 2, "arm64": 22, "i386": 3, "amd64": 24, "riscv64": 26}
"""IH_ARCH_* of image.h."""
_BOOT = {"arm64": "booti", "riscv64": "booti", "armhf": "bootz", "armel": "bootz", "i386": "zboot", "amd64": "zboot"}


def files(entry: Entry, own: bytes = b"") -> Files:
    """Returns the files of the boot partition.

    Args:
        entry: the host.
        own: the board's own script, in place of the usual one.
    """
    text = own or script(entry)
    return {SCRIPT: image(text, entry), SOURCE: text, **entry.own_files()}


def script(entry: Entry) -> bytes:
    """Returns the script that boots a host.

    Raises:
        InvalidInput: a word for the kernel is none that U-Boot's shell hands on.
        Unsupported: the board names no device tree, or U-Boot has no command for the architecture.
    """
    entry.shell_safe()
    command = _BOOT.get(entry.architecture.name)
    if command in (None, "zboot"):
        raise Unsupported(f"no script of U-Boot for {entry.architecture.name}", hint="bring one as firmware/boot.cmd")
    tree = entry.board.device_tree
    load = "load ${devtype} ${devnum}:${distro_bootpart}"
    lines = [f'setenv bootargs "{entry.options}"', f"{load} ${{kernel_addr_r}} {entry.name}/{KERNEL}"]
    if tree:
        lines.append(f"{load} ${{fdt_addr_r}} {entry.name}/{DEVICE_TREES}/{tree}")
    ramdisk = "-"
    if entry.initramfs is not None:
        # last, as ${filesize} is of what was loaded last
        lines.append(f"{load} ${{ramdisk_addr_r}} {entry.name}/{INITRAMFS}")
        ramdisk = "${ramdisk_addr_r}:${filesize}"
    address = "${fdt_addr_r}" if tree else "${fdtcontroladdr}"
    lines.append(f"{command} ${{kernel_addr_r}} {ramdisk} {address}")
    return ("\n".join(lines) + "\n").encode()


def image(text: bytes, entry: Entry) -> bytes:
    """Returns a script as U-Boot's ``source`` takes it: what ``mkimage -T script`` makes of it.

    Raises:
        InvalidInput: it is too long.
    """
    if len(text) > MAX_SCRIPT_BYTES:
        raise InvalidInput(f"a script of more than {MAX_SCRIPT_BYTES} bytes", where=SOURCE)
    body = struct.pack(">II", len(text), 0) + text  # lengths of the scripts in it, then 0
    name = entry.name.encode()[:32]

    def head(checksum: int) -> bytes:
        architecture = _ARCHITECTURES[entry.architecture.name]
        kinds = (_OS_LINUX, architecture, _TYPE_SCRIPT, _COMPRESSION_NONE)
        return _HEADER.pack(_MAGIC, checksum, entry.epoch, len(body), 0, 0, zlib.crc32(body), *kinds, name)

    return head(zlib.crc32(head(0))) + body


def own_script(entry: Entry) -> bytes:
    """Returns the board's own script; b"" where it has none.

    Raises:
        InvalidInput: it is too long.
    """
    path = entry.firmware.get(SOURCE)
    if path is None:
        return b""
    with open(path, "rb") as file:
        data = file.read(MAX_SCRIPT_BYTES + 1)
    if len(data) > MAX_SCRIPT_BYTES:
        raise InvalidInput(f"a script of more than {MAX_SCRIPT_BYTES} bytes", where=path)
    return data
