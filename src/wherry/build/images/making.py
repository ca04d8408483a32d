"""Images, made: each under its final name once it is whole, and not before.

::

    FOLDER/NAME.EXT             an image
    FOLDER/.NAME.EXT.making     one that is being made, or was when the power failed: removed by the next try

The same host and layout give the same bytes: in another folder, on another machine with the same tools, at any time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build.images.compression import CHOICES, SUFFIXES
from wherry.build.images.layout import Kind
from wherry.core import trace
from wherry.core.durable import fsync_dir, make_dirs, map_os_error
from wherry.core.jsonio import canonical
from wherry.spec.codec import encode

if TYPE_CHECKING:
    from wherry.build.images.layout import Image, Layout
    from wherry.build.images.product import Product
    from wherry.build.steps import Place

_EXTENSIONS = {
    Kind.DISK: ".img",
    Kind.EROFS: ".erofs",
    Kind.SQUASHFS: ".squashfs",
    Kind.EXT4: ".ext4",
    Kind.INITRAMFS: ".cpio",
    Kind.OCI: ".oci.tar",
    Kind.TAR: ".tar",
    Kind.WSL: ".wsl",
}


def file_name(name: str, image: Image) -> str:
    """Returns what the file of an image is called."""
    suffix = ""
    if image.kind in (Kind.INITRAMFS, Kind.TAR):
        suffix = SUFFIXES[image.compression or next(iter(CHOICES[image.kind]))]
    return name + _EXTENSIONS[image.kind] + suffix


def digest_of(layout: Layout, name: str) -> str:
    """Returns what names all that the layout says of an image, and of those that it is made of: 64 hex digits."""
    said = {each: encode(layout.image(each)) for each in layout.needed(name)}
    return hashlib.sha256(canonical(said)).hexdigest()


def make_image(layout: Layout, name: str, product: Product, folder: Path, place: Place) -> Path:
    """Makes an image, and before it those that it is made of.

    Args:
        layout: all images.
        name: the one that is wanted.
        product: the host.
        folder: where the files go.
        place: where tools run; its scratch folder is used, and left empty of this.

    Returns:
        The file.

    Raises:
        NotFound: there is no such image, or the host has not what the layout names.
        InvalidInput: something does not fit; names the layer and the key.
        NoSpace: the disk is full; nothing has the final name.
        ToolError: a tool failed.
    """
    made: dict[str, Path] = {}
    for each in layout.needed(name):
        made[each] = make_one(layout, each, product, folder, place, made)
    return made[name]


def make_one(layout: Layout, name: str, product: Product, folder: Path, place: Place, made: Mapping[str, Path]) -> Path:
    """Makes one image.

    Args:
        layout: all images.
        name: the one that is wanted.
        product: the host.
        folder: where its file goes.
        place: where tools run.
        made: the images that it is made of, by their names.

    Returns:
        The file.
    """
    image = layout.image(name)
    make_dirs(folder)
    final = folder / file_name(name, image)
    making = folder / f".{final.name}.making"
    scratch = place.scratch / f"image-{name}"
    _remove(making)
    _remove(scratch)
    place.say(f"make {final.name}: {image.kind}")
    try:
        scratch.mkdir()
        _make(place, scratch, product, layout, name, made, making)
        _finish(making, final)
    except OSError as error:
        raise map_os_error(error, "cannot make an image", where=final) from error
    finally:
        _remove(making)
        _remove(scratch)
    return final


def _make(
    place: Place, scratch: Path, product: Product, layout: Layout, name: str, made: Mapping[str, Path], out: Path
) -> None:
    from wherry.build.images import archives, container, ext4, readonly
    from wherry.build.images.disk import make_disk
    from wherry.build.images.filling import tree_of
    from wherry.build.images.trees import walk, within

    image = layout.image(name)
    if image.kind is Kind.DISK:
        make_disk(place, scratch, product, layout, name, made, out)
        return
    where = layout.where(name, "from")
    top = tree_of(product, image.source, where)
    tree = within(top, image.below)
    match image.kind:
        case Kind.EROFS:
            readonly.make_erofs(
                place,
                product,
                tree,
                out,
                name=name,
                compression=image.compression,
                level=image.level,
                cluster_bytes=layout.size(image.cluster, name, "cluster"),
            )
        case Kind.SQUASHFS:
            readonly.make_squashfs(place, product, tree, out, compression=image.compression, level=image.level)
        case Kind.EXT4:
            entries = walk(tree, xattrs=False)
            wanted = ext4.Ext4(
                name=(name,),
                size=layout.size(image.size, name, "size") or ext4.size_for(entries),
                where=layout.where(name),
                label=image.label,
                tree=tree,
                files=len(entries),
            )
            ext4.make_ext4(place, scratch, product, wanted, out)
        case Kind.INITRAMFS:
            archives.make_initramfs(product, tree, out, compression=image.compression, level=image.level)
        case Kind.TAR:
            archives.make_tar(product, tree, out, say=place.say, compression=image.compression, level=image.level)
        case Kind.WSL:
            archives.make_wsl(product, tree, out, say=place.say, level=image.level)
        case Kind.OCI:
            container.make_container(place, scratch, product, tree, out)


def _finish(making: Path, final: Path) -> None:
    """Gives an image its name, once its bytes are on the disk."""
    fd = os.open(making, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fchmod(fd, 0o644)
        os.fsync(fd)
    finally:
        os.close(fd)
    trace.reach("build.image.made")
    os.replace(making, final)
    fsync_dir(final.parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
