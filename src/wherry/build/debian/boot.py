"""The step ``boot``: kernel, initramfs, device trees and firmware, as images and machines take them."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build import initramfs
from wherry.build.debian.kernel import modules_of
from wherry.build.images.cpio import write_cpio
from wherry.build.modules import Chosen, Tree
from wherry.core.durable import map_os_error
from wherry.core.errors import NotFound

if TYPE_CHECKING:
    from wherry.build.images.trees import Entry
    from wherry.build.steps import Place

LEVEL = 9
"""Of zstd: the archive is written once and read at each boot, where the level does not matter."""


def choose(kernel: Path, wanted: Iterable[str]) -> Chosen:
    """Returns the modules of the initramfs.

    Args:
        kernel: the result of the step ``kernel``.
        wanted: those that must be there, besides the usual ones.

    Raises:
        NotFound: the kernel has no such module.
    """
    return Tree(modules_of(kernel)).choose(tuple(wanted), optional=initramfs.MODULES)


def make_boot(place: Place, *, wanted: tuple[str, ...], device_tree: str, epoch: int) -> None:
    """Fills ``boot/``.

    Args:
        place: the step's; its input ``kernel`` has what was unpacked.
        wanted: modules that the initramfs must have, and loads first.
        device_tree: the board's; "" for none.
        epoch: the time of all in the initramfs.

    Raises:
        NotFound: a module or the device tree is not there; guesses which is meant.
    """
    kernel = place.inputs["kernel"]
    boot = place.output / "boot"
    try:
        boot.mkdir()
        shutil.copyfile(kernel / "vmlinuz", boot / "kernel")
        chosen = choose(kernel, wanted)
        contents = initramfs.Contents(
            busybox=(kernel / "busybox").read_bytes(),
            modules=chosen,
            load=wanted,
        )
        _write(initramfs.entries(contents), boot / "initramfs", epoch)
        size = (boot / "initramfs").stat().st_size
        place.say(f"initramfs: {len(chosen.files)} modules of {chosen.release}, {size} bytes")
        if device_tree:
            _device_trees(kernel / "device-trees", boot / "dtb", device_tree)
        if (kernel / "firmware").is_dir():
            shutil.copytree(kernel / "firmware", boot / "firmware")
        for folder, folders, files in os.walk(boot):
            for name in (*folders, *files):
                os.utime(os.path.join(folder, name), (epoch, epoch))
        os.utime(boot, (epoch, epoch))
    except OSError as error:
        raise map_os_error(error, "cannot fill the boot folder", where=error.filename) from error


def _device_trees(source: Path, target: Path, name: str) -> None:
    """Copies the board's device tree with those of its vendor; of kernels that know no vendors, that one."""
    path = source / name
    target = target / name
    if path.is_file() and "/" in name:
        shutil.copytree(path.parent, target.parent)
        return
    flat = path if path.is_file() else source / path.name
    if not flat.is_file():
        known = {str(each.relative_to(source)) for each in source.rglob("*.dtb")} if source.is_dir() else set()
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        raise NotFound(
            f"the kernel has no device tree {name!r}",
            where="board/board.yaml: device_tree",
            hint=f"did you mean {near[0]!r}?" if near else f"it has {len(known)}",
        )
    target.parent.mkdir(parents=True)
    shutil.copyfile(flat, target)


def _write(entries: Iterable[Entry], path: Path, epoch: int) -> None:
    import zstandard

    with open(path, "wb") as file, zstandard.ZstdCompressor(level=LEVEL).stream_writer(file) as out:
        write_cpio(entries, out, time_s=epoch)
