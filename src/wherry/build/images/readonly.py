"""Read-only file systems: EROFS and squashfs of a folder of the host, by their own tools.

All times are the host's one: a squashfs would keep those before it otherwise, and a checkout has others elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.build.images.compression import CHOICES, GZIP, LZ4, NONE, XZ, ZSTD
from wherry.build.images.layout import Kind
from wherry.build.images.tools import run_tool

if TYPE_CHECKING:
    from pathlib import Path

    from wherry.build.images.product import Product
    from wherry.build.steps import Place

_CLUSTER_BYTES = 16 * 1024
"""With lz4 a root is 9 % larger than by lz4hc in single pages, and made in a sixth of the time. It wants Linux 5.13."""
_SQUASHFS_LEVELS = {ZSTD: 9, GZIP: 9}
"""zstd: with 15 a root is 6 % smaller, and takes ten times as long."""
_WITHOUT_EPOCH: tuple[str | Path, ...] = ("env", "-u", "SOURCE_DATE_EPOCH")
"""With that variable set both tools leave the times of what is older as they are, whatever they are told."""
_LEVEL_OPTION = "-Xcompression-level"


def make_erofs(
    place: Place,
    product: Product,
    tree: Path,
    out: Path,
    *,
    name: str,
    compression: str = "",
    level: int | None = None,
    cluster_bytes: int = 0,
) -> None:
    """Makes an EROFS.

    Args:
        place: where the tool runs.
        product: the host.
        tree: what is in it.
        out: the file.
        name: of the image, for its UUID.
        compression: "" for the usual one.
        level: of it; None for the tool's own.
        cluster_bytes: how much is compressed as one piece, at the most; 0 for the usual.
    """
    word = compression or next(iter(CHOICES[Kind.EROFS]))
    pressed: list[str] = []
    if word != NONE:
        pressed = [f"-z{word}" + (f",{level}" if level is not None else ""), f"-C{cluster_bytes or _CLUSTER_BYTES}"]
    identity = [f"-T{product.epoch}", f"-U{product.uuid(name, 'filesystem')}"]
    run_tool(place, product, [*_WITHOUT_EPOCH, "mkfs.erofs", "--quiet", *pressed, *identity, out, tree], out=out)


def make_squashfs(
    place: Place, product: Product, tree: Path, out: Path, *, compression: str = "", level: int | None = None
) -> None:
    """Makes a squashfs; it has no UUID.

    Args:
        place: where the tool runs.
        product: the host.
        tree: what is in it.
        out: the file, which is not there yet.
        compression: "" for the usual one.
        level: of it; None for the usual one.
    """
    word = compression or next(iter(CHOICES[Kind.SQUASHFS]))
    options = ["-noI", "-noD", "-noF", "-noX"] if word == NONE else ["-comp", word]
    chosen = level if level is not None else _SQUASHFS_LEVELS.get(word)
    if chosen is not None and word not in (NONE, XZ, LZ4):
        options += [_LEVEL_OPTION, str(chosen)]
    times = ["-mkfs-time", str(product.epoch), "-all-time", str(product.epoch)]
    args = [*_WITHOUT_EPOCH, "mksquashfs", tree, out]
    run_tool(place, product, [*args, "-noappend", "-no-progress", "-quiet", *options, *times], out=out)
