"""Archives of the host's tree: an initramfs, a tar, and what the Windows Subsystem for Linux imports.

The kernel's archive may have device nodes, and has no attributes; a tar has attributes, and no device nodes, since a
host makes its own in ``/dev``. Owners are numbers.

Source: Microsoft, "Import any Linux distribution to use with WSL" and "Build a custom Linux distribution for WSL".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, cast

from wherry.build.images.compression import CHOICES, GZIP, compressed
from wherry.build.images.contents import opened
from wherry.build.images.cpio import CONSOLE, DEV, write_cpio
from wherry.build.images.layout import Kind
from wherry.build.images.trees import walk
from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput
from wherry.store.tree.tar import EntryType
from wherry.store.tree.tarwrite import TarWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from wherry.build.images.product import Product
    from wherry.build.images.trees import Entry

_PERMISSIONS = 0o7777


def make_initramfs(product: Product, top: Path, out: Path, *, compression: str = "", level: int | None = None) -> None:
    """Makes an initramfs; ``/dev/console`` is in it whatever the tree has."""
    entries = walk(top, xattrs=False)
    paths = {entry.path for entry in entries}
    entries += [entry for entry in (DEV, CONSOLE) if entry.path not in paths]
    entries.sort(key=lambda entry: entry.path.split("/") if entry.path else [])
    word = compression or next(iter(CHOICES[Kind.INITRAMFS]))
    try:
        with open(out, "xb") as file, compressed(file, word, level) as writer:
            write_cpio(entries, writer, time_s=product.epoch)
    except OSError as error:
        raise map_os_error(error, "cannot write an initramfs", where=out) from error


def make_tar(
    product: Product,
    top: Path,
    out: Path,
    *,
    say: Callable[[str], None],
    compression: str = "",
    level: int | None = None,
) -> None:
    """Makes a tar archive.

    Args:
        product: the host.
        top: the tree.
        out: the file, which is not there yet.
        say: told of what is left out.
        compression: "" for the usual one.
        level: of it.
    """
    word = compression or next(iter(CHOICES[Kind.TAR]))
    _tar(walk(top), out, word, level, product.epoch, say)


def make_wsl(product: Product, top: Path, out: Path, *, say: Callable[[str], None], level: int | None = None) -> None:
    """Makes what ``wsl --import`` takes, and newer versions install by a double click.

    Raises:
        InvalidInput: the tree is none that WSL could start.
    """
    entries = walk(top)
    paths = {entry.path for entry in entries}
    if "etc/passwd" not in paths:
        raise InvalidInput("WSL starts nothing without /etc/passwd", where=top)
    if not paths & {"bin/sh", "usr/bin/sh"}:
        raise InvalidInput("WSL starts nothing without /bin/sh", where=top)
    _tar(entries, out, GZIP, level, product.epoch, say)


def _tar(
    entries: Iterable[Entry], out: Path, word: str, level: int | None, time_s: int, say: Callable[[str], None]
) -> None:
    try:
        with open(out, "xb") as file, compressed(file, word, level) as stream:
            writer = TarWriter(cast(BinaryIO, stream), time_s=time_s)
            for entry in entries:
                _add(writer, entry, say)
            writer.close()
    except OSError as error:
        raise map_os_error(error, "cannot write an archive", where=out) from error


def _add(writer: TarWriter, entry: Entry, say: Callable[[str], None]) -> None:
    name = f"./{entry.path}" if entry.path else "./"
    try:
        name.encode(), entry.target.encode()
    except UnicodeEncodeError:
        raise InvalidInput("a name that is no UTF-8", where=repr(name[:120])) from None
    mode, uid, gid = entry.mode & _PERMISSIONS, entry.uid, entry.gid
    if entry.same_as:
        writer.add(EntryType.HARD_LINK, name, mode=mode, uid=uid, gid=gid, target=f"./{entry.same_as}")
    elif entry.is_directory:
        name = name if name.endswith("/") else f"{name}/"
        writer.add(EntryType.DIRECTORY, name, mode=mode, uid=uid, gid=gid, xattrs=entry.xattrs)
    elif entry.is_link:
        writer.add(EntryType.SYMLINK, name, mode=mode, uid=uid, gid=gid, target=entry.target, xattrs=entry.xattrs)
    elif entry.is_file and entry.source is not None:
        with opened(entry.source) as file:
            kind, xattrs = EntryType.FILE, entry.xattrs
            writer.add(kind, name, mode=mode, uid=uid, gid=gid, size=entry.size, xattrs=xattrs, content=file)
    else:
        say(f"left out, as it is neither a file, a folder nor a link: /{entry.path}")
