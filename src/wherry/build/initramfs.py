"""The initramfs of a host: busybox, the modules that reach the root, and an ``/init`` that finds it and starts it.

What ``/init`` reads on the kernel's command line::

    root=PARTLABEL=…|PARTUUID=…|LABEL=…|UUID=…|/dev/…   the partition with the root
    wherry.root=image:NAME/PATH      the root is an image file on the partition with that label (of its own, or of its
                                     file system): ``image:ESP/hosts/1/root.erofs``
    wherry.root=9p:TAG               the root is a folder that QEMU shares
    rootfstype= rootflags= ro rw init=     as the kernel has them
    wherry.upper=tmpfs|none|NAME/FOLDER    what is written goes to memory (as it does by itself where the root is EROFS,
                                     squashfs or 9p), nowhere, or to a folder of a partition; every boot the same one
    wherry.wait=SECONDS              for the root to appear; 30
    wherry.shell[=now]               a shell when it fails, or before anything is looked for

A root that is not found within that time is told, and ends in a panic, so that a machine with ``panic=N`` starts again
and its boot loader counts. Where the kernel was told nothing of that, it starts again after `PANIC_S`.

Drivers are loaded by what the kernel says it found (``modalias``), again and again while it is waited, as buses appear
behind buses; file systems by the kernel itself, through ``/sbin/modprobe``. busybox reads labels of file systems; names
of partitions the kernel says, and their UUIDs are read from the partition table here, as kernels before 6.11 tell them
to nobody.

In the host, what the root was made of is below ``/run/wherry``: ``lower``, ``upper``, ``image`` (the partition with the
image file).

This module is pure but for reading the modules: values to files. `build/images/cpio.py` writes them.

Source: the kernel's Documentation/admin-guide/kernel-parameters.txt and Documentation/filesystems/overlayfs.rst; UEFI
2.10, section 5.3 "GUID Partition Table (GPT) Disk Layout"; mount(8), switch_root(8).
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wherry.build.images.trees import Entry
from wherry.build.modules import Chosen, read_module

_APPLET = re.compile(rb"[a-z0-9][a-z0-9_.-]{0,30}\Z")
_FIRST_APPLETS = b"[\0[[\0"
WAIT_S = 30
PANIC_S = 10
MODULES = (
    # disks
    "virtio_blk", "virtio_pci", "virtio_mmio", "virtio_scsi", "sd_mod", "sr_mod", "nvme", "ahci", "ahci_platform",
    "ata_piix", "mptspi", "vmw_pvscsi", "hv_storvsc", "xen_blkfront", "ubd",
    # cards
    "mmc_block", "sdhci_pci", "sdhci_acpi", "sdhci_iproc", "bcm2835", "sunxi_mmc", "dw_mmc_rockchip", "dw_mmc_exynos",
    "dw_mmc_pltfm", "meson_gx_mmc", "meson_mx_sdio", "sdhci_of_arasan", "sdhci_tegra", "sdhci_esdhc_imx", "sdhci_omap",
    "omap_hsmmc", "mmci",
    # USB
    "usb_storage", "uas", "xhci_pci", "xhci_plat_hcd", "ehci_pci", "ehci_platform", "ohci_pci", "ohci_platform",
    "uhci_hcd", "dwc2", "dwc3", "usbhid", "hid_generic",
    # file systems
    "erofs", "squashfs", "overlay", "ext4", "vfat", "nls_cp437", "nls_iso8859_1", "nls_ascii", "nls_utf8", "loop",
    "crc32c_generic", "dm_mod", "dm_verity", "9p", "9pnet_virtio", "fuse",
)  # fmt: skip
"""Taken where the kernel has them."""
APPLETS = (
    "ash", "cat", "cttyhack", "cut", "dd", "dmesg", "echo", "expr", "find", "findfs", "grep", "head", "hexdump", "kill",
    "ln", "losetup", "ls", "lsmod", "mkdir", "mknod", "modprobe", "mount", "od", "poweroff", "ps", "readlink", "reboot",
    "rm", "sed", "setsid", "sh", "sleep", "sort", "switch_root", "sync", "tail", "test", "tr", "umount", "uname",
    "uniq", "vi", "xargs",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What an initramfs is made of."""

    busybox: bytes
    """The program, static, for the host's architecture."""
    modules: Chosen
    load: tuple[str, ...] = ()
    """Modules that are loaded by name, first of all: the board's."""
    wait_s: int = WAIT_S
    panic_s: int = PANIC_S


def init_script(contents: Contents) -> str:
    """Returns ``/init``."""
    text = Path(__file__).with_name("initramfs.sh").read_text()
    head = {
        "@WAIT@": str(contents.wait_s),
        "@PANIC@": str(contents.panic_s),
        "@LOAD@": " ".join(contents.load),
    }
    for word, value in head.items():
        text = text.replace(word, value)
    return text


def entries(contents: Contents) -> list[Entry]:
    """Returns the files of an initramfs, in the order of their paths' bytes, each folder before what is in it."""
    found = [*_fixed(contents), *_modules(contents.modules)]
    known = set(applets(contents.busybox))
    found += [_link(f"bin/{name}", "busybox") for name in APPLETS if name in known]
    there = {entry.path for entry in found}
    found += [_folder(path) for path in {parent for path in there for parent in _parents(path)} - there]
    return sorted(found, key=lambda entry: entry.path.encode())


def _fixed(contents: Contents) -> Iterator[Entry]:
    yield _file("bin/busybox", contents.busybox, mode=0o755)
    yield _file("init", init_script(contents).encode(), mode=0o755)
    yield Entry(path="dev/console", mode=stat.S_IFCHR | 0o600, device=(5, 1))
    yield Entry(path="dev/null", mode=stat.S_IFCHR | 0o666, device=(1, 3))
    yield _link("sbin", "bin")
    for name in ("etc/modprobe.d", "proc", "run", "sys", "sysroot"):
        yield _folder(name)


def _modules(chosen: Chosen) -> Iterator[Entry]:
    top = f"lib/modules/{chosen.release}"
    for path, source in chosen.files.items():
        yield _file(f"{top}/{path}", read_module(source))
    for name, text in chosen.index.items():
        yield _file(f"{top}/{name}", text.encode())


def _file(path: str, data: bytes, *, mode: int = 0o644) -> Entry:
    return Entry(path=path, mode=stat.S_IFREG | mode, size=len(data), source=data)


def _folder(path: str) -> Entry:
    return Entry(path=path, mode=stat.S_IFDIR | 0o755)


def _link(path: str, target: str) -> Entry:
    return Entry(path=path, mode=stat.S_IFLNK | 0o777, target=target)


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def wanted(board: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    """Returns the modules that a board and a workspace name, each once."""
    return tuple(dict.fromkeys((*board, *more)))


def applets(program: bytes) -> list[str]:
    """Returns the commands that a busybox has, from the list in the program itself: it may be of another machine.

    Source: busybox, applets/applet_tables.c: names in the order of their bytes, each with a zero byte behind it.
    """
    found: list[bytes] = []
    start = program.find(b"\0" + _FIRST_APPLETS)
    if start < 0:
        return []
    at = start + 1
    while (end := program.find(b"\0", at, at + 40)) > at:
        name = program[at:end]
        if (name not in (b"[", b"[[") and not _APPLET.match(name)) or (found and name <= found[-1]):
            break
        found.append(name)
        at = end + 1
    return [name.decode() for name in found if name != b"busybox"]
