"""Packages that rpm installed, from its database in SQLite.

The older forms, Berkeley DB (``Packages``) and NDB (``Packages.db``), are not read; a warning says so. The database is
a stranger's: it is opened on a copy, read-only, with limits on time and sizes, and its schema is not trusted.

Source: RPM manual, "RPM Database"; sqlite.org, "Defense Against The Dark Arts".
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import BinaryIO, cast

from wherry.image.sbom import rpmheader as tags
from wherry.image.sbom.findings import Findings
from wherry.image.sbom.licences import expression
from wherry.image.sbom.model import Basis, Component, Kind
from wherry.image.sbom.rpmheader import Value, parse_header
from wherry.image.sbom.tree import Tree, Unreadable

FOLDERS = ("usr/lib/sysimage/rpm", "var/lib/rpm")
UNREAD = {"Packages": "Berkeley DB", "Packages.db": "NDB"}
MAX_DATABASE_BYTES = 1024 * 1024 * 1024
MAX_HEADER_BYTES = 64 * 1024 * 1024
MAX_STEPS = 200_000
"""Of a thousand instructions of SQLite each."""
_LICENCE_FILE = 1 << 7
_SOURCE = re.compile(r"(.+)-([^-]+-[^-]+)\.(?:no)?src\.rpm\Z")
_WANTED = frozenset(
    value
    for name, value in vars(tags).items()
    if name.isupper() and isinstance(value, int) and not name.startswith("MAX_")
)


def find_rpm(tree: Tree, findings: Findings) -> None:
    """Finds the packages of rpm."""
    done: set[str] = set()
    for folder in FOLDERS:
        for name, kind in UNREAD.items():
            real = tree.real(f"{folder}/{name}")
            if real is not None and real not in done:
                done.add(real)
                findings.warn(real, f"rpm's packages are not listed: its database is {kind}, which is not read")
        path = f"{folder}/rpmdb.sqlite"
        real = tree.real(path)
        if real is None or real in done:
            continue
        done.add(real)
        try:
            _find(tree, findings, real)
        except Unreadable as error:
            findings.warn(real, f"rpm's packages are not all listed: {error.what}")


def _find(tree: Tree, findings: Findings, path: str) -> None:
    found: list[tuple[Component, dict[int, Value]]] = []
    try:
        for blob in _blobs(tree, path):
            with findings.reading():
                header = _header(blob, path)
                component = _component(tree, findings, path, header)
                if component is None:
                    findings.warn(path, "a header without a name or a version")
                elif component.name != "gpg-pubkey":  # a key that is kept beside the packages
                    found.append((component, header))
    finally:
        provided: dict[str, str] = {}
        for component, header in found:
            for name in (component.name, *_texts(header, tags.PROVIDENAME), *_files(header)):
                provided.setdefault(name, component.key)
        for component, header in found:
            keys = {provided[name] for name in _texts(header, tags.REQUIRENAME) if name in provided}
            findings.add(replace(component, depends=tuple(sorted(keys - {component.key}))))


def _header(blob: object, path: str) -> dict[int, Value]:
    if not isinstance(blob, bytes):
        raise Unreadable("a row that is no header", where=path)
    try:
        return parse_header(blob, _WANTED)
    except Unreadable as error:
        raise Unreadable(error.what, where=path) from None


def _blobs(tree: Tree, path: str) -> Iterator[object]:
    with tempfile.NamedTemporaryFile(prefix="wherry-rpmdb-") as copy:
        with tree.open(path) as file:
            shutil.copyfileobj(cast(BinaryIO, _Bounded(file)), copy)
        copy.flush()
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return int(steps > MAX_STEPS)

        try:
            with closing(sqlite3.connect(f"file:{copy.name}?mode=ro&immutable=1", uri=True)) as connection:
                connection.set_progress_handler(count, 1000)
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_HEADER_BYTES)
                connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
                connection.execute("PRAGMA trusted_schema=OFF")
                connection.execute("PRAGMA cell_size_check=ON")
                for (blob,) in connection.execute("SELECT blob FROM Packages ORDER BY hnum"):
                    yield blob
        except sqlite3.Error as error:
            raise Unreadable(f"the database is damaged ({error})", where=path) from None


class _Bounded:
    def __init__(self, file: BinaryIO) -> None:
        self._read = file.read
        self._left = MAX_DATABASE_BYTES

    def read(self, size: int) -> bytes:
        """Returns the next bytes."""
        data = self._read(size)
        self._left -= len(data)
        if self._left < 0:
            raise Unreadable(f"longer than {MAX_DATABASE_BYTES} bytes")
        return data


def _component(tree: Tree, findings: Findings, path: str, header: dict[int, Value]) -> Component | None:
    name, version = _text(header, tags.NAME), _text(header, tags.VERSION)
    if not name or not version:
        return None
    release, architecture = _text(header, tags.RELEASE), _text(header, tags.ARCH)
    epoch = header.get(tags.EPOCH, ())
    source = _SOURCE.match(_text(header, tags.SOURCERPM))
    licence = expression(_text(header, tags.LICENSE))
    pairs = {"arch": architecture, "distro": findings.distro, "epoch": str(epoch[0]) if epoch else ""}
    files = {real for file in _files(header, _LICENCE_FILE) if (real := tree.real(file)) and tree.is_file(real)}
    checksum = _text(header, tags.SHA256HEADER)
    return Component(
        kind=Kind.RPM,
        name=name,
        version=f"{version}-{release}" if release else version,
        namespace=findings.system.identifier,
        architecture=architecture,
        qualifiers=tuple(sorted((key, value) for key, value in pairs.items() if value)),
        licence=licence,
        basis=Basis.DECLARED if licence else Basis.UNKNOWN,
        licence_files=tuple(sorted(files)),
        supplier=_text(header, tags.VENDOR),
        homepage=_text(header, tags.URL),
        summary=_text(header, tags.SUMMARY),
        source=f"{source[1]} {source[2]}" if source and source[1] != name else "",
        properties=(("rpm:sha256header", checksum),) if checksum else (),
        found_in=path,
    )


def _texts(header: dict[int, Value], tag: int) -> tuple[str, ...]:
    return tuple(value for value in header.get(tag, ()) if isinstance(value, str))


def _text(header: dict[int, Value], tag: int) -> str:
    return next(iter(_texts(header, tag)), "")


def _files(header: dict[int, Value], flag: int = 0) -> Iterator[str]:
    """Gives the paths of a package's files; with `flag` only those that have it."""
    folders, names = _texts(header, tags.DIRNAMES), _texts(header, tags.BASENAMES)
    indexes, flags = header.get(tags.DIRINDEXES, ()), header.get(tags.FILEFLAGS, ())
    for number, name in enumerate(names):
        index = indexes[number] if number < len(indexes) else -1
        has = flags[number] if number < len(flags) else 0
        if isinstance(index, int) and 0 <= index < len(folders) and (not flag or (isinstance(has, int) and has & flag)):
            yield folders[index] + name
