"""The step ``kernel``: what is only unpacked of the packages for the boot: kernel, modules, busybox, firmware.

::

    OUTPUT/
      vmlinuz, config                       the kernel's
      modules/RELEASE/                      with depmod's index
      device-trees/…                        as the package has them
      busybox                               of the host's architecture
      firmware/u-boot/…                     /usr/lib/u-boot of packages
      firmware/raspberry-pi/…               /usr/lib/raspi-firmware
      firmware/*.efi                        /usr/lib/systemd/boot/efi
      firmware/…                            what the board names
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build.debian.extracting import unpack
from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from wherry.build.boards import FirmwareFile
    from wherry.build.debian.lock import Package
    from wherry.build.steps import Place

FIRMWARE = {
    "usr/lib/u-boot": "u-boot",
    "usr/lib/raspi-firmware": "raspberry-pi",
    "usr/lib/systemd/boot/efi": "",
}
"""Folders of packages -> folders below ``firmware``."""


def unpack_boot(place: Place, packages: Sequence[Package], files: Sequence[FirmwareFile] = ()) -> None:
    """Unpacks the packages of the boot, and sorts out what is in them.

    Args:
        place: the step's.
        packages: those that are unpacked.
        files: what the board wants of them under names of its own.

    Raises:
        NotFound: a package has not what the board wants of it.
        InvalidInput: there are several kernels, or none in what should be one.
    """
    top = place.scratch / "all"
    unpack(place, packages, place.inputs["fetch"], top)
    try:
        _kernel(place, top)
        if (top / "usr/bin/busybox").is_file():
            os.rename(top / "usr/bin/busybox", place.output / "busybox")
        for source, name in FIRMWARE.items():
            if (top / source).is_dir():
                shutil.copytree(top / source, place.output / "firmware" / name, symlinks=False, dirs_exist_ok=True)
        for file in files:
            place_firmware(top, place.output / "firmware", file)
    except OSError as error:
        raise map_os_error(error, "cannot sort out the packages of the boot", where=error.filename) from error


def place_firmware(top: Path, folder: Path, file: FirmwareFile) -> None:
    """Copies what a board wants of a package to where images look for it.

    Args:
        top: what was unpacked.
        folder: ``firmware`` of the boot.
        file: which.

    Raises:
        NotFound: the package has no such file.
    """
    source, target = top / file.path, folder / file.name
    if not source.is_file():
        where = f"board/board.yaml: firmware: {file.name}"
        raise NotFound(f"the package {file.package} has no file {file.path}", where=where)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _kernel(place: Place, top: Path) -> None:
    kernels = sorted((top / "boot").glob("vmlinuz-*")) + sorted((top / "boot").glob("vmlinux-*"))
    if not kernels:
        return
    if len(kernels) > 1:
        names = ", ".join(path.name for path in kernels)
        raise InvalidInput(f"several kernels: {names}", hint="name one package in `debian: {kernel: …}`")
    release = kernels[0].name.partition("-")[2]
    os.rename(kernels[0], place.output / "vmlinuz")
    if (top / f"boot/config-{release}").is_file():
        os.rename(top / f"boot/config-{release}", place.output / "config")
    modules = top / "usr/lib/modules" / release
    if not modules.is_dir():
        raise NotFound("the kernel's package has no modules", where=release)
    place.run(["depmod", "-b", str(top), release])
    (place.output / "modules").mkdir()
    os.rename(modules, place.output / "modules" / release)
    trees = top / "usr/lib" / f"linux-image-{release}"
    if trees.is_dir():
        os.rename(trees, place.output / "device-trees")


def modules_of(kernel: Path) -> Path:
    """Returns the folder of the modules in the step's result: ``…/modules/RELEASE``.

    Raises:
        NotFound: there are none.
    """
    found = next((kernel / "modules").glob("*"), None) if (kernel / "modules").is_dir() else None
    if found is None:
        raise NotFound("there is no kernel among the packages", where=kernel)
    return found
