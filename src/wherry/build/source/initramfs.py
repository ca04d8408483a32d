"""The steps ``base``, ``root`` and ``boot``: busybox' root, what layers lay over it, and the initramfs that holds it.

::

    base    root/        busybox and its names, libcap's programs, the kernel's modules
    root    root/        with overlays, users and hooks of layers
    boot    boot/        kernel, initramfs, dtb/, kconfig-report.json

The initramfs is a cpio archive in the form "newc" of all of the root, by GNU cpio: names in the order of their bytes,
inodes counted, everything root's, times the build's. ``/init`` in it is what the kernel starts: a layer has it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from wherry.build.hosttree import EMPTY, OVER
from wherry.build.overlaying import merge_trees
from wherry.build.source import busybox, kernel, libcap
from wherry.build.source.options import Compression
from wherry.core.errors import InvalidInput
from wherry.core.jsonio import loads, pretty

if TYPE_CHECKING:
    from wherry.build.steps import Place

BASE, ROOT, BOOT = "base", "root", "boot"
INIT = "init"
FOLDERS = ("dev", "etc", "mnt", "proc", "root", "run", "sys", "tmp", "var")
ACCOUNTS = "root:x:0:0:root:/root:/bin/sh\n"
GROUP = "root:x:0:\n"
_PACKERS = {
    # The kernel's own unpacker knows no other check than CRC32, and has little memory for a dictionary.
    Compression.XZ: (["xz", "--check=crc32", "--lzma2=preset=9e,dict=4MiB", "--threads=1"], ".xz"),
    Compression.GZIP: (["gzip", "-9", "--no-name"], ".gz"),
}


def make_base(place: Place) -> None:
    """Fills the step ``base``."""
    root = place.output / "root"
    root.mkdir()
    for name in FOLDERS:
        (root / name).mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "root").chmod(0o700)
    (root / "etc/passwd").write_text(ACCOUNTS)
    (root / "etc/group").write_text(GROUP)
    made = place.inputs[busybox.STEP]
    _program(made / busybox.PROGRAM, root / "bin/busybox")
    for line in (made / busybox.LINKS).read_text().splitlines():
        path = PurePosixPath(line)
        if not path.is_absolute() or ".." in path.parts:
            raise InvalidInput(f"no name of busybox': {line[:80]!r}")
        link = root / str(path).lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(link):
            link.symlink_to("/bin/busybox")
    if libcap.STEP in place.inputs:
        for name in libcap.PROGRAMS:
            _program(place.inputs[libcap.STEP] / name, root / "sbin" / name)
    modules = place.inputs[kernel.STEP] / "modules/lib/modules"
    if modules.is_dir():
        shutil.copytree(modules, root / "lib/modules", symlinks=True)


def _program(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755)


def make_root(place: Place) -> None:
    """Fills the step ``root``.

    Raises:
        InvalidInput: nothing in it is what the kernel starts.
    """
    target = place.output / "root"
    target.mkdir()
    merge_trees(place.inputs[BASE] / "root", place.inputs[OVER] / "upper", target, empty=EMPTY)
    init = target / INIT
    if not init.is_symlink() and not os.access(init, os.X_OK):
        raise InvalidInput(
            "nothing for the kernel to start: no program /init in the root",
            hint="the layer tiny/busybox has one; or a root_overlay of your own",
        )


def make_boot(place: Place, compression: Compression, epoch: int) -> None:
    """Fills the step ``boot``."""
    boot = place.output / "boot"
    boot.mkdir()
    made = place.inputs[kernel.STEP]
    shutil.copyfile(made / kernel.IMAGE, boot / "kernel")
    (boot / "kernel").chmod(0o755)
    if (made / "dtb").is_dir():
        shutil.copytree(made / "dtb", boot / "dtb")
    pack(place, place.inputs[ROOT] / "root", boot / "initramfs", compression, epoch)
    whole: dict[str, Any] = {}
    for name in (kernel.CONFIG_STEP, busybox.STEP):
        path = place.inputs[name] / kernel.REPORT_FILE
        whole |= loads(path.read_bytes(), where=path)
    (boot / kernel.REPORT_FILE).write_text(pretty(whole) + "\n")
    sizes = {name: (boot / name).stat().st_size for name in ("kernel", "initramfs")}
    place.say(f"kernel {sizes['kernel']} bytes, initramfs {sizes['initramfs']} bytes, {sum(sizes.values())} together")


def pack(place: Place, root: Path, target: Path, compression: Compression, epoch: int) -> None:
    """Makes an initramfs of a tree, the same of the same tree every time."""
    tree = place.scratch / "initramfs"
    place.run(["cp", "-a", "--", str(root), str(tree)])  # whose times may be set
    names = _names(tree)
    for name in (*reversed(names), b"."):
        os.utime(os.path.join(os.fsencode(tree), name), (epoch, epoch), follow_symlinks=False)
    archive = place.scratch / "initramfs.cpio"
    args = ["cpio", "--quiet", "--null", "--create", "--format=newc", "--owner=0:0", "--reproducible"]
    place.run([*args, f"--file={archive}"], cwd=tree, stdin=b"".join(name + b"\0" for name in names))
    packer = _PACKERS.get(compression)
    if packer is None:
        shutil.copyfile(archive, target)
        return
    args, suffix = packer
    place.run([*args, "--keep", "--force", str(archive)])
    shutil.copyfile(f"{archive}{suffix}", target)


def _names(tree: Path) -> Sequence[bytes]:
    """Returns every path below a tree, a folder before what is in it."""
    top = os.fsencode(tree)
    found: list[bytes] = []
    for folder, folders, files in os.walk(top):
        found += [os.path.relpath(os.path.join(folder, name), top) for name in (*folders, *files)]
    return sorted(found)
