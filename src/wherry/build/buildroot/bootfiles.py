"""What Buildroot leaves in ``images/``, sorted into what Wherry's images want: kernel, device trees, firmware.

::

    boot/kernel
    boot/initramfs             the whole root, where the user wants it so
    boot/dtb/VENDOR/NAME.dtb
    boot/firmware/...          all else but file systems
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build.buildroot.staging import copy_tree
from wherry.core.durable import map_os_error
from wherry.core.errors import NotFound

if TYPE_CHECKING:
    from wherry.build.kconfig import Config

KERNELS = {
    "BR2_LINUX_KERNEL_BZIMAGE": "bzImage",
    "BR2_LINUX_KERNEL_ZIMAGE": "zImage",
    "BR2_LINUX_KERNEL_IMAGE": "Image",
    "BR2_LINUX_KERNEL_IMAGEGZ": "Image.gz",
    "BR2_LINUX_KERNEL_UIMAGE": "uImage",
    "BR2_LINUX_KERNEL_VMLINUX": "vmlinux",
    "BR2_LINUX_KERNEL_VMLINUZ": "vmlinuz",
}
"""Buildroot's choice of an image -> its file."""
NAME = "BR2_LINUX_KERNEL_IMAGE_TARGET_NAME"
TREES = "BR2_LINUX_KERNEL_INTREE_DTS_NAME"
_FILE_SYSTEMS = ("rootfs.", "sdcard.img", "skiffos.", "disk.img")
_INITRAMFS = (
    "rootfs.cpio",
    "rootfs.cpio.gz",
    "rootfs.cpio.zst",
    "rootfs.cpio.xz",
    "rootfs.cpio.lz4",
    "rootfs.cpio.lzo",
)


def fill_boot(images: Path, boot: Path, config: Config, *, initramfs: bool) -> None:
    """Fills ``boot``.

    Args:
        images: Buildroot's folder of images.
        boot: a folder that is not there yet.
        config: of the whole Buildroot.
        initramfs: whether the root is the initramfs.

    Raises:
        NotFound: the kernel, or the initramfs that is wanted, is not there.
    """
    (boot / "firmware").mkdir(parents=True)
    if not images.is_dir():
        return
    try:
        kernel = _kernel(images, config)
        if kernel is not None:
            shutil.copyfile(kernel, boot / "kernel")
        if initramfs:
            _initramfs(images, boot)
        vendors = _vendors(config)
        for path in sorted(images.iterdir()):
            if path == kernel or path.name.startswith(_FILE_SYSTEMS):
                continue
            if path.suffix == ".dtb" and path.is_file():
                _copy(path, boot / "dtb" / vendors.get(path.name, "") / path.name)
            elif path.is_dir() and not path.is_symlink():
                _folder(path, boot)
            elif path.is_file():
                _copy(path, boot / "firmware" / path.name)
    except OSError as error:
        raise map_os_error(error, "cannot collect what the board boots", where=images) from error


def _kernel(images: Path, config: Config) -> Path | None:
    if config.get("BR2_LINUX_KERNEL") != "y":
        return None
    names = [name for symbol, name in KERNELS.items() if config.get(symbol) == "y"]
    own = (config.get(NAME) or "").strip('"')
    for name in [*([own] if own else []), *names]:
        path = images / Path(name).name
        if path.is_file():
            return path
    raise NotFound(f"Buildroot made no kernel {' or '.join(names) or own}", where=images)


def _initramfs(images: Path, boot: Path) -> None:
    made = [images / name for name in _INITRAMFS if (images / name).is_file()]
    if not made:
        raise NotFound("Buildroot made no rootfs.cpio", where=images, hint="buildroot.initramfs asks for it")
    shutil.copyfile(min(made, key=lambda path: path.stat().st_size), boot / "initramfs")


def _vendors(config: Config) -> dict[str, str]:
    """Returns the folder that the kernel has each device tree in."""
    words = (config.get(TREES) or "").strip('"').split()
    return {f"{os.path.basename(word)}.dtb": os.path.dirname(word) for word in words}


def _folder(path: Path, boot: Path) -> None:
    trees = [file for file in path.rglob("*.dtb") if file.is_file()]
    others = any(file.is_file() and file.suffix not in (".dtb", ".dtbo") for file in path.rglob("*"))
    if trees and not others:
        for file in trees:
            _copy(file, boot / "dtb" / file.relative_to(path.parent))
    else:
        copy_tree(path, boot / "firmware" / path.name)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
