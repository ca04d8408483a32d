"""What goes into a partition: the contents that a layout names, put together as one tree.

A later content's folders are laid over an earlier one's; one file from two of them is a mistake, and is refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build.images.contents import copy_sparse
from wherry.build.images.layout import BOOT, BOOT_ENTRIES, IMAGE, ROOT, Content
from wherry.build.images.trees import Entry, walk, within
from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput

if TYPE_CHECKING:
    from wherry.build.bootloaders.entry import Files
    from wherry.build.images.product import Product

_FILE, _DIRECTORY = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755


def tree_of(product: Product, source: str, where: str) -> Path:
    """Returns the folder that ``from: root`` or ``from: boot`` means.

    Raises:
        InvalidInput: the host has no such thing.
    """
    found = product.root if source == ROOT else product.boot
    if found is None:
        what = "the host has no root" if source == ROOT else "the host has nothing that boots"
        raise InvalidInput(what, where=where, hint="take another builder, or leave this image out")
    return found


def collect(
    product: Product, contents: Iterable[Content], made: Mapping[str, Path], boot_files: Files, where: str
) -> list[Entry]:
    """Returns the tree that some contents make together: each folder before what is in it.

    Args:
        product: the host.
        contents: what the layout names.
        made: images that are there already, by their names.
        boot_files: what ``boot-entries`` means.
        where: the place in the layout, for errors.

    Raises:
        InvalidInput: two contents have one file.
        NotFound: the host has not what is named.
    """
    found: dict[str, Entry] = {}
    for content in contents:
        for entry in _entries(product, content, made, boot_files, where):
            _put(found, entry, where)
    return [found[path] for path in sorted(found, key=lambda path: path.split("/") if path else [])]


def _put(found: dict[str, Entry], entry: Entry, where: str) -> None:
    parent = entry.path.rpartition("/")[0]
    if parent and parent not in found:
        _put(found, Entry(path=parent, mode=_DIRECTORY), where)
    if parent and not found[parent].is_directory:
        raise InvalidInput(f"two contents of one partition have {parent[:120]!r}", where=where)
    other = found.get(entry.path)
    if other is not None and not (other.is_directory and entry.is_directory):
        raise InvalidInput(f"two contents of one partition have {entry.path[:120]!r}", where=where)
    found[entry.path] = entry


def _entries(
    product: Product, content: Content, made: Mapping[str, Path], boot_files: Files, where: str
) -> Iterator[Entry]:
    if content.source == BOOT_ENTRIES:
        for path, source in boot_files.items():
            yield _file(path, source)
    elif content.source.startswith(IMAGE):
        image = made[content.source.removeprefix(IMAGE)]
        yield _file(content.to or image.name, image)
    else:
        top = within(tree_of(product, content.source, where), content.below)
        if content.source == BOOT and top.is_file():
            yield _file(content.to or top.name, top)
            return
        for entry in walk(top):
            if entry.path or not content.to:
                yield _moved(entry, content.to)
            else:
                yield replace(entry, path=content.to)


def _moved(entry: Entry, to: str) -> Entry:
    if not to:
        return entry
    same_as = f"{to}/{entry.same_as}" if entry.same_as else ""
    return replace(entry, path=f"{to}/{entry.path}", same_as=same_as)


def _file(path: str, source: Path | bytes) -> Entry:
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    return Entry(path=path, mode=_FILE, size=size, source=source)


def lay_out(entries: Iterable[Entry], folder: Path) -> None:
    """Makes a tree in an empty folder: owners, modes and attributes as they are said, not as the umask has them.

    Raises:
        NoSpace: the disk is full.
        NotPermitted: this user cannot give files away.
    """
    try:
        for entry in entries:
            path = folder / entry.path
            if entry.same_as:
                os.link(folder / entry.same_as, path, follow_symlinks=False)
                continue
            if entry.is_directory:
                path.mkdir(exist_ok=True)
            elif entry.is_link:
                path.symlink_to(entry.target)
            elif entry.is_file:
                _write(entry, path)
            else:
                os.mknod(path, entry.mode, os.makedev(*entry.device))
            os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
            if not entry.is_link:
                path.chmod(stat.S_IMODE(entry.mode))
            for name, value in entry.xattrs:
                os.setxattr(path, name, value, follow_symlinks=False)
    except OSError as error:
        raise map_os_error(error, "cannot put the content of a partition together", where=folder) from error


def _write(entry: Entry, path: Path) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if isinstance(entry.source, bytes):
            with os.fdopen(os.dup(fd), "wb") as file:
                file.write(entry.source)
        elif entry.source is not None:
            os.ftruncate(fd, entry.size)
            copy_sparse(entry.source, fd, 0)
    finally:
        os.close(fd)
