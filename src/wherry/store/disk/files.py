"""File objects as they lie on the disk, in each mode of repository.

==============  =========================================  ===================================
mode            regular file                               symbolic link
==============  =========================================  ===================================
bare            owner, mode, xattrs on the inode           a symbolic link
bare-user       mode & 0775 | 0400, user.ostreemeta        a file: target, NUL; user.ostreemeta
bare-user-only  mode & 0775; owner 0:0, no xattrs          a symbolic link
bare-split-...  owner and mode on the inode; attributes    a symbolic link; the same
                in .file-xattrs-link beside it
archive         .filez: header, raw deflate                .filez: header alone
==============  =========================================  ===================================

A bare-split-xattrs repository is read, not written: OSTree itself does not write it yet. The link is a hard link to a
``.file-xattrs`` object, ``a(ayay)`` named by its SHA-256. The modification time of bare files is 0. Objects are never
changed once they lie there.
"""

from __future__ import annotations

import io
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, NotFound, Unsupported
from wherry.store.format import objects
from wherry.store.format.objects import FileHeader, Mode, Xattrs

OSTREEMETA = "user.ostreemeta"
UNCOMPRESSED_CACHE = "uncompressed-objects-cache"
"""A folder of an archive: its files as plain ones, for checkouts to link to."""
MAX_TARGET_BYTES = 4096
MAX_XATTRS_BYTES = 1024 * 1024
"""All extended attributes of a file, as a bare-split-xattrs repository keeps them."""


def read_xattrs(target: int | Path | str, *, follow: bool = True) -> Xattrs:
    """Returns the extended attributes of an open file or a path, sorted; none where there is no support.

    Those without a value are left out, as OSTree does: else equal trees had two checksums.
    """
    try:
        names = os.listxattr(target, follow_symlinks=follow)
    except OSError as error:
        if error.errno in (95, 22):  # EOPNOTSUPP; EINVAL by some pseudo file systems
            return ()
        raise
    if not names:
        return ()
    found = [(os.fsencode(name), os.getxattr(target, name, follow_symlinks=follow)) for name in names]
    return tuple(sorted(pair for pair in found if pair[1]))


def apply_content_mode(fd: int, header: FileHeader, mode: Mode) -> None:
    """Gives a finished, not yet linked file object its owner, mode, attributes and time.

    Raises:
        OSError: the file system or the kernel says no.
    """
    if mode is Mode.BARE:
        os.fchown(fd, header.uid, header.gid)
        for name, value in header.xattrs:
            os.setxattr(fd, os.fsdecode(name), value)
        os.fchmod(fd, stat.S_IMODE(header.mode))
    elif mode is Mode.BARE_USER:
        os.setxattr(fd, OSTREEMETA, objects.serialize_file_meta(header))
        os.fchmod(fd, 0o644 if header.is_symlink else header.mode & 0o775 | 0o400)
    elif mode is Mode.BARE_USER_ONLY:
        os.fchmod(fd, stat.S_IMODE(header.mode))
    else:
        os.fchmod(fd, 0o644)
        return
    os.utime(fd, ns=(0, 0))


def check_written(mode: Mode) -> None:
    """Refuses to write objects to a repository of a mode that is only read.

    Raises:
        Unsupported: it is such a mode.
    """
    if mode is Mode.BARE_SPLIT_XATTRS:
        raise Unsupported(
            "a bare-split-xattrs repository can be read, not written",
            hint="pull from it into one of mode bare, bare-user or archive",
        )


def check_header_fits(header: FileHeader, mode: Mode) -> None:
    """Refuses files that a repository of this mode cannot keep.

    Raises:
        Unsupported: a bare-user-only repository, and a file with an owner, attributes or special mode bits.
    """
    check_written(mode)
    if mode is not Mode.BARE_USER_ONLY:
        return
    bits = 0 if header.is_symlink else header.mode & 0o7777 & ~0o775
    if bits:
        raise Unsupported(
            f"Content object of an invalid mode 0{header.mode:o} with bits 0{bits:o}, not for bare-user-only",
            hint="commit with --canonical-permissions, or use mode bare-user",
        )
    if header.uid or header.gid or header.xattrs:
        raise Unsupported(
            "a bare-user-only repository cannot keep owners and extended attributes",
            where=f"mode {header.mode:o}, owner {header.uid}:{header.gid}",
            hint="commit with --canonical-permissions and --no-xattrs, or use mode bare-user",
        )


def open_object(path: Path | str, mode: Mode) -> tuple[FileHeader, BinaryIO | None]:
    """Opens a file object.

    Returns:
        Its header, and its plain content, open for reading; None for a symbolic link.

    Raises:
        NotFound: it is not there.
        InvalidInput: it is malformed.
    """
    try:
        if mode is Mode.ARCHIVE:
            return _open_archived(path)
        if mode is Mode.BARE_USER:
            return _open_bare_user(path)
        if mode is Mode.BARE_SPLIT_XATTRS:
            return _open_split(path)
        return _open_bare(path, plain=mode is Mode.BARE_USER_ONLY)
    except FileNotFoundError:
        raise NotFound("Couldn't find file object", where=path, hint="run `wherry store fsck`") from None
    except OSError as error:
        raise map_os_error(error, "cannot read an object", where=path) from error


def _open_archived(path: Path | str) -> tuple[FileHeader, BinaryIO | None]:
    from wherry.store.disk import content as archived  # the library that inflates is loaded for those who need it

    file: BinaryIO = open(path, "rb")  # noqa: SIM115 handed to the caller
    try:
        header, size = archived.read_archive_head(file, where=path)
        if header.is_symlink:
            file.close()
            return header, None
        return header, io.BufferedReader(archived.InflatingFile(file, size, where=path), archived.CHUNK_BYTES)
    except BaseException:
        file.close()
        raise


def _open_bare_user(path: Path | str) -> tuple[FileHeader, BinaryIO | None]:
    file: BinaryIO = open(path, "rb", buffering=0)  # noqa: SIM115 handed to the caller
    try:
        try:
            raw = os.getxattr(file.fileno(), OSTREEMETA)
        except OSError as error:
            raise InvalidInput(f"a file object without {OSTREEMETA}: {error.strerror}", where=path) from error
        uid, gid, mode, xattrs = objects.parse_file_meta(raw, where=path)
        if stat.S_ISREG(mode):
            return FileHeader(uid=uid, gid=gid, mode=mode, xattrs=xattrs), file
        data = file.read(MAX_TARGET_BYTES + 1)
        file.close()
        # OSTree writes the target with a NUL; one without is read as well, as OSTree does.
        target = _target(data.removesuffix(b"\0"), path)
        return FileHeader(uid=uid, gid=gid, mode=mode, symlink_target=target, xattrs=xattrs), None
    except BaseException:
        file.close()
        raise


def _open_split(path: Path | str) -> tuple[FileHeader, BinaryIO | None]:
    header, content = _open_bare(path, plain=True)
    try:
        status = os.lstat(path)
        with open(Path(path).with_suffix(".file-xattrs-link"), "rb") as file:
            raw = file.read(MAX_XATTRS_BYTES + 1)
        if len(raw) > MAX_XATTRS_BYTES:
            raise InvalidInput("more extended attributes than any file may have", where=path)
        xattrs = objects.parse_xattrs(raw, where=path)
    except BaseException:
        if content is not None:
            content.close()
        raise
    return replace(header, uid=status.st_uid, gid=status.st_gid, xattrs=xattrs), content


def _open_bare(path: Path | str, *, plain: bool) -> tuple[FileHeader, BinaryIO | None]:
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        target = _target(os.fsencode(os.readlink(path)), path)
        xattrs = () if plain else read_xattrs(path, follow=False)
        return _bare_header(status, target, xattrs, plain=plain), None
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        status = os.fstat(fd)
        xattrs = () if plain else read_xattrs(fd)
        header = _bare_header(status, "", xattrs, plain=plain)
        objects.check_file_mode(header.mode, where=path)
        return header, os.fdopen(fd, "rb", buffering=0)
    except BaseException:
        os.close(fd)
        raise


def _bare_header(status: os.stat_result, target: str, xattrs: Xattrs, *, plain: bool) -> FileHeader:
    uid, gid = (0, 0) if plain else (status.st_uid, status.st_gid)
    return FileHeader(uid=uid, gid=gid, mode=status.st_mode, symlink_target=target, xattrs=xattrs)


def _target(data: bytes, where: object) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise InvalidInput("the target of a symbolic link is not UTF-8", where=where) from None
    if not text or "\0" in text or len(data) > MAX_TARGET_BYTES:
        raise InvalidInput("malformed target of a symbolic link", where=where)
    return text
