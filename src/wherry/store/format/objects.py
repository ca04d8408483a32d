"""The kinds of object in a repository, as values and as bytes.

::

    objects/<2 hex>/<62 hex>.commit     (a{sv}aya(say)sstayay)   metadata parent related subject body time tree meta
                            .dirtree    (a(say)a(sayay))         files: name, checksum; directories: name, tree, meta
                            .dirmeta    (uuua(ayay))             uid gid mode xattrs
                            .file       content                  owner, mode, xattrs as the mode of the repository says
                            .filez      be32 length, 4 NUL, (tuuuusa(ayay)), raw deflate of the content
                            .commitmeta a{sv}                    detached metadata, named by its commit
                            .tombstone-commit   a{sv}            this commit was deleted on purpose; named by it
                            .payload-link       link      named by the SHA-256 of a content, to a file that has it
                            .file-xattrs(-link) a(ayay)          bare-split-xattrs: attributes; the same by file

A metadata object is named by the SHA-256 of its bytes; a file by that of ``be32 length, 4 NUL, (uuuusa(ayay)),
content``. Integers are big-endian, framing little-endian. Refused: names that are not UTF-8, empty, ``.``, ``..``
or have a slash; unsorted or double names; modes of devices, pipes and sockets; anything over the limits below.
"""

from __future__ import annotations

import enum
import hashlib
import re
import stat
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from wherry.core.digest import Checksum, is_checksum
from wherry.core.errors import IntegrityError, InvalidInput
from wherry.store.format import dirtree, variant
from wherry.store.format.variant import Variant

MAX_METADATA_BYTES = 32 * 1024 * 1024
"""The longest commit, dirtree, dirmeta, commitmeta or file header that is read."""
MAX_NAME_BYTES = 255
_HASH_BYTES = 1024 * 1024
COMMIT_TYPE = "(a{sv}aya(say)sstayay)"
DIRTREE_TYPE = "(a(say)a(sayay))"
DIRMETA_TYPE = "(uuua(ayay))"
XATTRS_TYPE = "a(ayay)"

Xattrs = tuple[tuple[bytes, bytes], ...]
"""Extended attributes, sorted by name: (name without its NUL, value)."""


_EXTENSIONS = {
    1: "file",
    2: "dirtree",
    3: "dirmeta",
    4: "commit",
    5: "tombstone-commit",
    6: "commitmeta",
    7: "payload-link",
    8: "file-xattrs",
    9: "file-xattrs-link",
}


class ObjectType(enum.Enum):
    """OSTree's object types, with OSTree's numbers."""

    FILE = 1
    DIRTREE = 2
    DIRMETA = 3
    COMMIT = 4
    TOMBSTONE = 5
    COMMITMETA = 6
    PAYLOAD_LINK = 7
    FILE_XATTRS = 8
    FILE_XATTRS_LINK = 9

    def __init__(self, number: int) -> None:
        self.extension = _EXTENSIONS[number]
        """The end of the file's name; a file's is ``filez`` in an archive repository."""

    __hash__ = object.__hash__  # each member is there once; the enum's own is Python code, and asked for every object


_TYPES = {**{kind.extension: kind for kind in ObjectType}, "filez": ObjectType.FILE}
_TYPES_BARE = {text: kind for text, kind in _TYPES.items() if text != "filez"}
_TYPES_ARCHIVE = {text: kind for text, kind in _TYPES.items() if text != "file"}
_FOLDER = re.compile(r"[0-9a-f]{2}\Z")
_NAMES_IN_FOLDER = re.compile(r"/([0-9a-f]{62})\.([a-z-]+)(?=/)")
_OBJECT_NAME = re.compile(r"([0-9a-f]{2})/([0-9a-f]{62})\.([a-z-]+)\Z")


class Mode(enum.StrEnum):
    """How a repository keeps files."""

    BARE = "bare"
    BARE_USER = "bare-user"
    BARE_USER_ONLY = "bare-user-only"
    BARE_SPLIT_XATTRS = "bare-split-xattrs"
    """Read, never written."""
    ARCHIVE = "archive"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileHeader:
    """All of a regular file or symbolic link but its content."""

    uid: int
    gid: int
    mode: int
    """The whole ``st_mode``, type bits included."""
    symlink_target: str = ""
    xattrs: Xattrs = ()

    @property
    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class DirMeta:
    """Owner, mode and extended attributes of a directory."""

    uid: int = 0
    gid: int = 0
    mode: int = stat.S_IFDIR | 0o755
    xattrs: Xattrs = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DirTree:
    """The entries of one directory, each kind sorted by name."""

    files: tuple[tuple[str, Checksum], ...] = ()
    dirs: tuple[tuple[str, Checksum, Checksum], ...] = ()
    """Name, dirtree, dirmeta."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One commit. `metadata` holds plain values where the type allows it (``variant.to_plain``), else Variants."""

    tree: Checksum
    meta: Checksum
    timestamp_s: int
    """Seconds since 1970; what was made before that is negative, though the type on the disk is not."""
    subject: str = ""
    body: str = ""
    parent: Checksum | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    related: tuple[tuple[str, bytes], ...] = ()


def object_name(kind: ObjectType, checksum: Checksum, mode: Mode) -> str:
    """Returns the name of an object below ``objects/``."""
    extension = "filez" if kind is ObjectType.FILE and mode is Mode.ARCHIVE else kind.extension
    return f"{checksum[:2]}/{checksum[2:]}.{extension}"


def parse_object_name(name: str) -> tuple[ObjectType, Checksum]:
    """Returns type and checksum of an object's name, ``.file`` and ``.filez`` alike.

    Raises:
        InvalidInput: it is not such a name.
    """
    match = _OBJECT_NAME.match(name)
    kind = _TYPES.get(match[3]) if match else None
    if match is None or kind is None:
        raise InvalidInput(f"not the name of an object: {name[:100]!r}", hint="write it as xx/yyyy.filez")
    return kind, Checksum(match[1] + match[2])


def parse_folder(folder: str, names: Iterable[str], mode: Mode) -> list[tuple[ObjectType, Checksum]]:
    """Returns type and checksum of those names in a folder of ``objects/`` that are objects in this mode."""
    if not _FOLDER.match(folder):
        return []
    types = _TYPES_ARCHIVE if mode is Mode.ARCHIVE else _TYPES_BARE
    found = _NAMES_IN_FOLDER.findall(f"/{'/'.join(names)}/")  # no name has a slash in it, so none is cut in two
    return [(types[extension], Checksum(folder + stem)) for stem, extension in found if extension in types]


def check_name(name: str, *, where: object = None) -> str:
    """Returns `name` when it can be that of a directory's entry.

    Raises:
        InvalidInput: it is empty, ``.``, ``..``, too long, not UTF-8, or has a slash or a NUL in it.
    """
    if "/" in name:
        raise InvalidInput(f"Invalid / in filename {name}", where=where, hint="a name is one part of a path")
    if name in ("", ".", "..") or "\0" in name:
        raise InvalidInput(f"not a file name: {name!r}", where=where)
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"Invalid UTF-8 in filename: {name!r} cannot be stored", where=where) from None
    if len(encoded) > MAX_NAME_BYTES:
        raise InvalidInput(f"a file name is longer than {MAX_NAME_BYTES} bytes: {name[:60]!r}", where=where)
    return name


def metadata_checksum(data: bytes) -> Checksum:
    """Returns the name of a commit, dirtree or dirmeta."""
    return Checksum(hashlib.sha256(data).hexdigest())


# --- headers of files


def sorted_xattrs(xattrs: Xattrs) -> Xattrs:
    """Returns extended attributes in the order in which they are hashed."""
    return tuple(sorted(xattrs)) if len(xattrs) > 1 else xattrs


def serialize_xattrs(xattrs: Xattrs) -> bytes:
    """Returns ``a(ayay)``, each name with its NUL."""
    return variant.encode(XATTRS_TYPE, [(name + b"\0", value) for name, value in xattrs]) if xattrs else b""


def parse_xattrs(data: bytes, *, where: object = None) -> Xattrs:
    """Returns the extended attributes in ``a(ayay)``.

    Raises:
        InvalidInput: malformed, a name is empty or does not end in its only NUL.
    """
    if not data:
        return ()
    result = []
    for name, value in variant.decode(XATTRS_TYPE, data, where=where):
        if len(name) < 2 or name.find(b"\0") != len(name) - 1:
            raise InvalidInput("malformed name of an extended attribute", where=where)
        result.append((name[:-1], value))
    return tuple(result)


def _file_head(fixed: bytes, header: FileHeader, xattrs: Xattrs) -> bytes:
    """Returns length, four NUL and the header tuple, whose integers are `fixed`."""
    target = header.symlink_target.encode() + b"\0"
    body = fixed + target + serialize_xattrs(xattrs)
    end = len(fixed) + len(target)
    head = body + end.to_bytes(variant.offset_size(len(body), 1), "little")
    return struct.pack(">I4x", len(head)) + head


def hash_head(header: FileHeader) -> bytes:
    """Returns what a file's hash begins with; the content follows."""
    check_file_mode(header.mode)
    fixed = struct.pack(">IIII", header.uid, header.gid, header.mode, 0)
    return _file_head(fixed, header, sorted_xattrs(header.xattrs))


def file_checksum(header: FileHeader, source: bytes | BinaryIO | None = None) -> Checksum:
    """Returns the checksum of a file object with this content, which is read to its end."""
    digest = hashlib.sha256(hash_head(header))
    if isinstance(source, bytes):
        digest.update(source)
    elif source is not None:
        while piece := source.read(_HASH_BYTES):
            digest.update(piece)
    return Checksum(digest.hexdigest())


def archive_head(header: FileHeader, size: int) -> bytes:
    """Returns what a ``.filez`` object begins with; the deflated content follows."""
    fixed = struct.pack(">QIIII", size, header.uid, header.gid, header.mode, 0)
    return _file_head(fixed, header, header.xattrs)


def parse_archive_head(data: bytes, *, where: object = None) -> tuple[FileHeader, int]:
    """Returns the header in the tuple ``(tuuuusa(ayay))`` and the size of the content.

    Args:
        data: the tuple, without the length before it.
        where: the object, for errors.

    Raises:
        InvalidInput: malformed.
    """
    width = 1 if len(data) <= 0xFF else 2 if len(data) <= 0xFFFF else 4
    end = int.from_bytes(data[-width:], "little")
    if not 24 < end <= len(data) - width or variant.offset_size(len(data) - width, 1) != width:
        raise InvalidInput("malformed file header", where=where)
    size, uid, gid, mode, rdev = struct.unpack_from(">QIIII", data)
    target = data[24:end]
    if rdev or target.find(b"\0") != len(target) - 1:
        raise InvalidInput("malformed file header", where=where)
    check_file_mode(mode, where=where)
    try:
        text = target[:-1].decode()
    except UnicodeDecodeError:
        raise InvalidInput("the target of a symbolic link is not UTF-8", where=where) from None
    if stat.S_ISLNK(mode) != bool(text):
        raise InvalidInput("a symbolic link without a target, or a file with one", where=where)
    if text and size:
        raise InvalidInput("a symbolic link has no content", where=where)
    xattrs = parse_xattrs(data[end:-width], where=where)
    return FileHeader(uid=uid, gid=gid, mode=mode, symlink_target=text, xattrs=xattrs), size


def check_file_mode(mode: int, *, where: object = None) -> None:
    """Refuses modes of anything but regular files and symbolic links.

    Raises:
        InvalidInput: it is such a mode.
    """
    if stat.S_IFMT(mode) not in (stat.S_IFREG, stat.S_IFLNK) or mode & ~(stat.S_IFMT(mode) | 0o7777):
        raise InvalidInput(f"neither a regular file nor a symbolic link: mode {mode:o}", where=where)


# --- directories


def serialize_dirmeta(meta: DirMeta) -> bytes:
    """Returns the bytes of a dirmeta object."""
    fixed = struct.pack(">III", meta.uid, meta.gid, meta.mode)
    return fixed + serialize_xattrs(sorted_xattrs(meta.xattrs))


def parse_dirmeta(data: bytes, *, where: object = None) -> DirMeta:
    """Returns a dirmeta object.

    Raises:
        InvalidInput: malformed, or not of a directory.
    """
    if len(data) < 12:
        raise InvalidInput("malformed dirmeta", where=where)
    uid, gid, mode = struct.unpack_from(">III", data)
    if stat.S_IFMT(mode) != stat.S_IFDIR or mode & ~(stat.S_IFDIR | 0o7777):
        raise InvalidInput(f"a dirmeta with the mode of no directory: {mode:o}", where=where)
    return DirMeta(uid=uid, gid=gid, mode=mode, xattrs=parse_xattrs(data[12:], where=where))


def parse_file_meta(data: bytes, *, where: object = None) -> tuple[int, int, int, Xattrs]:
    """Returns uid, gid, mode and extended attributes from ``user.ostreemeta``, ``(uuua(ayay))``.

    Raises:
        InvalidInput: malformed.
    """
    if len(data) < 12:
        raise InvalidInput("malformed user.ostreemeta", where=where)
    uid, gid, mode = struct.unpack_from(">III", data)
    check_file_mode(mode, where=where)
    return uid, gid, mode, parse_xattrs(data[12:], where=where)


def serialize_file_meta(header: FileHeader) -> bytes:
    """Returns ``user.ostreemeta`` of a file in a bare-user repository."""
    return struct.pack(">III", header.uid, header.gid, header.mode) + serialize_xattrs(header.xattrs)


def serialize_dirtree(tree: DirTree) -> bytes:
    """Returns the bytes of a dirtree object."""
    return dirtree.write(tree.files, tree.dirs)


def parse_dirtree(data: bytes, *, where: object = None) -> DirTree:
    """Returns a dirtree object.

    Raises:
        InvalidInput: malformed, or a name is bad, out of order, or there twice.
    """
    quick = dirtree.read(data)
    if quick is not None:
        return DirTree(files=tuple(quick[0]), dirs=tuple(quick[1]))
    files, dirs = variant.decode(DIRTREE_TYPE, data, where=where)
    for entries in (files, dirs):
        last = b""
        for entry in entries:
            name = check_name(entry[0], where=where).encode()
            if name <= last:
                raise InvalidInput(f"names of a dirtree are not in order: {entry[0]!r}", where=where)
            last = name
            if any(len(csum) != 32 for csum in entry[1:]):
                raise InvalidInput("a checksum in a dirtree has not 32 bytes", where=where)
    if files and dirs:
        both = {entry[0] for entry in files} & {entry[0] for entry in dirs}
        if both:
            raise InvalidInput(f"both a file and a directory: {min(both)!r}", where=where)
    return DirTree(
        files=tuple((name, Checksum(csum.hex())) for name, csum in files),
        dirs=tuple((name, Checksum(csum.hex()), Checksum(meta.hex())) for name, csum, meta in dirs),
    )


# --- commits


def serialize_commit(commit: Commit) -> bytes:
    """Returns the bytes of a commit object; the metadata's keys stand in the order in which they are given."""
    metadata = {key: variant.from_plain(value) for key, value in commit.metadata.items()}
    return variant.encode(
        COMMIT_TYPE,
        (
            metadata,
            bytes.fromhex(commit.parent) if commit.parent else b"",
            list(commit.related),
            commit.subject,
            commit.body,
            int.from_bytes((commit.timestamp_s % (1 << 64)).to_bytes(8, "big"), "little"),
            bytes.fromhex(commit.tree),
            bytes.fromhex(commit.meta),
        ),
    )


def parse_commit(data: bytes, *, where: object = None) -> Commit:
    """Returns a commit object.

    Raises:
        InvalidInput: malformed.
    """
    metadata, parent, related, subject, body, time, tree, meta = variant.decode(COMMIT_TYPE, data, where=where)
    if len(parent) not in (0, 32) or len(tree) != 32 or len(meta) != 32:
        raise InvalidInput("a checksum in a commit has not 32 bytes", where=where)
    return Commit(
        metadata={key: variant.to_plain(value) for key, value in metadata.items()},
        parent=Checksum(parent.hex()) if parent else None,
        related=tuple(related),
        subject=subject,
        body=body,
        timestamp_s=int.from_bytes(time.to_bytes(8, "little"), "big", signed=True),
        tree=Checksum(tree.hex()),
        meta=Checksum(meta.hex()),
    )


def serialize_dict(metadata: Mapping[str, Any]) -> bytes:
    """Returns plain values as ``a{sv}``, keys sorted: detached metadata."""
    return variant.encode("a{sv}", {key: variant.from_plain(metadata[key]) for key in sorted(metadata)})


def parse_dict(data: bytes, *, where: object = None) -> dict[str, Any]:
    """Returns ``a{sv}`` as plain values.

    Raises:
        InvalidInput: malformed.
    """
    found: dict[str, Variant] = variant.decode("a{sv}", data, where=where)
    return {key: variant.to_plain(value) for key, value in found.items()}


def corrupted(
    kind: ObjectType, expected: Checksum, found: Checksum, *, where: object = None, hint: str | None = None
) -> IntegrityError:
    """Returns the error for an object that is not what its name says, in the words that scripts look for."""
    what = f"Corrupted {kind.extension} object; checksum expected='{expected}' actual='{found}'"
    return IntegrityError(what, where=where, hint=hint)


def check_object(kind: ObjectType, data: bytes, checksum: Checksum | None, *, where: object = None) -> Checksum:
    """Parses a metadata object that comes from outside, and checks its name.

    Returns:
        Its checksum; for detached metadata the one given.

    Raises:
        IntegrityError: it has another checksum.
        InvalidInput: malformed or too long.
    """
    if len(data) > MAX_METADATA_BYTES:
        raise InvalidInput(f"a {kind.extension} object is longer than {MAX_METADATA_BYTES} bytes", where=where)
    if kind in (ObjectType.COMMITMETA, ObjectType.TOMBSTONE):  # named by their commit, not by their bytes
        parse_dict(data, where=where)
        if checksum is None or not is_checksum(checksum):
            raise InvalidInput(f"a {kind.extension} object needs the name of its commit", where=where)
        return checksum
    found = metadata_checksum(data)
    if checksum is not None and found != checksum:
        raise corrupted(kind, checksum, found, where=where)
    parser = {ObjectType.COMMIT: parse_commit, ObjectType.DIRTREE: parse_dirtree, ObjectType.DIRMETA: parse_dirmeta}
    if kind not in parser:
        raise InvalidInput(f"not a metadata object: {kind.extension}", where=where)
    parser[kind](data, where=where or found)
    return found
