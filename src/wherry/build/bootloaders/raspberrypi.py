"""The Raspberry Pi's own firmware: ``config.txt``, and all that belongs to one host below its ``os_prefix``.

::

    bootcode.bin, start*.elf …    from boot/firmware/raspberry-pi/, as they are
    overlays/                     likewise
    config.txt                    a layer's own lines (boot/firmware/raspberry-pi/config.txt), then those of the host
    NAME/cmdline.txt
    NAME/linux, initrd, *.dtb     device trees without their vendor's folder, as the firmware looks for them

Source: Raspberry Pi documentation, "config.txt" ("os_prefix", "kernel", "initramfs", "device_tree").
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build.bootloaders.entry import INITRAMFS, KERNEL
from wherry.core.errors import InvalidInput

if TYPE_CHECKING:
    from wherry.build.bootloaders.entry import Entry, Files

FIRMWARE = "raspberry-pi/"
"""The folder below ``boot/firmware`` that is laid over the partition."""
CONFIG = "config.txt"
MAX_CONFIG_BYTES = 64 * 1024
MAX_LINE_CHARS = 98
"""The firmware passes the rest of a longer line over."""


def files(entry: Entry, config: bytes = b"") -> Files:
    """Returns the files of the boot partition.

    Args:
        entry: the host.
        config: the lines of ``config.txt`` that the board's layer has.

    Raises:
        InvalidInput: two device trees have one name, or a line is too long for the firmware.
    """
    found: Files = {
        path.removeprefix(FIRMWARE): file
        for path, file in entry.firmware.items()
        if path.startswith(FIRMWARE) and path != FIRMWARE + CONFIG
    }
    lines = ["[all]", f"os_prefix={entry.name}/", f"kernel={KERNEL}"]
    if entry.initramfs is not None:
        lines.append(f"initramfs {INITRAMFS} followkernel")
    if entry.architecture.name == "arm64":
        lines.append("arm_64bit=1")
    if entry.board.device_tree:
        lines.append(f"device_tree={entry.board.device_tree.rpartition('/')[2]}")
    if entry.board.console:
        lines.append("enable_uart=1")
    for line in lines:
        if len(line) > MAX_LINE_CHARS:
            raise InvalidInput(f"the firmware reads {MAX_LINE_CHARS} characters of a line", where=line[:60])
    own = config if not config or config.endswith(b"\n") else config + b"\n"
    found[CONFIG] = own + ("\n".join(lines) + "\n").encode()
    found[f"{entry.name}/cmdline.txt"] = f"{entry.options}\n".encode()
    for path, source in entry.own_files().items():
        name = path if not path.endswith(".dtb") else f"{entry.name}/{path.rpartition('/')[2]}"
        if name in found:
            raise InvalidInput("two device trees of one name", where=name)
        found[name] = source
    return found


def config_of(entry: Entry) -> bytes:
    """Returns the lines of ``config.txt`` that the board's layer has.

    Raises:
        InvalidInput: there are too many.
    """
    path: Path | None = entry.firmware.get(FIRMWARE + CONFIG)
    if path is None:
        return b""
    with open(path, "rb") as file:
        data = file.read(MAX_CONFIG_BYTES + 1)
    if len(data) > MAX_CONFIG_BYTES:
        raise InvalidInput(f"more than {MAX_CONFIG_BYTES} bytes", where=path)
    return data
