"""U-Boot's standard boot: ``extlinux/extlinux.conf``, as syslinux had it.

U-Boot looks for it in partitions that are marked as bootable (``legacy-boot`` of GPT, ``active`` of an MBR), or in the
first one where none is.

Source: U-Boot's doc/develop/distro.rst and boot/pxe_utils.c; UAPI.1 for where the words come from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.build.bootloaders.entry import DEVICE_TREES, INITRAMFS, KERNEL

if TYPE_CHECKING:
    from wherry.build.bootloaders.entry import Entry, Files

FILE = "extlinux/extlinux.conf"


def files(entry: Entry) -> Files:
    """Returns the files of the boot partition.

    Raises:
        InvalidInput: a word for the kernel is none that U-Boot hands on.
    """
    entry.shell_safe()  # U-Boot puts its variables into `append`
    lines = [f"default {entry.name}", "timeout 1", "", f"label {entry.name}", f"  menu label {entry.shown}"]
    lines.append(f"  kernel /{entry.name}/{KERNEL}")
    if entry.initramfs is not None:
        lines.append(f"  initrd /{entry.name}/{INITRAMFS}")
    if entry.board.device_tree:
        lines.append(f"  fdt /{entry.name}/{DEVICE_TREES}/{entry.board.device_tree}")
    elif entry.device_trees:
        lines.append(f"  fdtdir /{entry.name}/{DEVICE_TREES}/")
    if entry.command_line:
        lines.append(f"  append {entry.options}")
    return {FILE: ("\n".join(lines) + "\n").encode(), **entry.own_files()}
