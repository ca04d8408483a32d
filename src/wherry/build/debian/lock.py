"""``debian.lock``: which packages a host is made of, byte for byte. People keep it in git and read what changes in it.

::

    format 1
    suite bookworm
    architecture arm64
    variant essential
    components main
    recommends no
    wants root systemd-sysv
    wants boot linux-image-arm64
    boot linux-image-6.1.0-56-arm64 6.1.192-2 arm64 68123456 1f…e0 pool/main/l/…/linux-image-….deb
    root adduser 3.134 all 115760 39…bb pool/main/a/adduser/adduser_3.134_all.deb

UTF-8, lines end with a line feed, words are parted by one space; lines that begin with ``#`` and empty ones are
passed over. First the head, one line for each key, in this order; then ``wants``, what was asked for, and then the
packages: the role, the name, the version, the architecture, the size in bytes, the SHA-256 and the path below a
mirror; both in the order of their bytes. A package of the role ``root`` is installed in the host's root; one of the
role ``boot`` is only unpacked for its kernel, firmware or busybox.

No mirror is named: any that has the file will do, and a file with another digest is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from wherry.core.digest import parse_checksum
from wherry.core.durable import map_os_error
from wherry.core.errors import Conflict, InvalidInput, NotFound

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = "1"
HEAD = ("format", "suite", "architecture", "variant", "components", "recommends")
MAX_LOCK_BYTES = 16 * 1024 * 1024
MAX_PACKAGE_BYTES = 4 * 1024 * 1024 * 1024
COMMENT = "# Packages of this host; `wherry host lock` writes this file. Keep it in git.\n"

_WANTS = "wants"
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{1,120}\Z")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~:-]{0,160}\Z")
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9-]{0,40}\Z")
_PATH = re.compile(r"[A-Za-z0-9+.~_%:-]+(?:/[A-Za-z0-9+.~_%:-]+)*\.deb\Z")


class Role(StrEnum):
    """What a package is for."""

    BOOT = "boot"
    ROOT = "root"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Package:
    """One pinned package."""

    role: Role
    name: str
    version: str
    architecture: str
    size: int
    sha256: str
    path: str
    """Below a mirror."""

    @property
    def file_name(self) -> str:
        """As apt names it in its cache: NAME_VERSION_ARCHITECTURE.deb, a colon in the version as ``%3a``."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A lock file."""

    suite: str
    architecture: str
    variant: str
    components: tuple[str, ...] = ("main",)
    recommends: bool = False
    wants: frozenset[tuple[Role, str]] = frozenset()
    """What was asked for."""
    packages: tuple[Package, ...] = ()

    def of(self, role: Role) -> list[Package]:
        """Returns the packages of one role, in order."""
        return [package for package in self.packages if package.role == role]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockChanges:
    """What a new lock is beside the one before."""

    path: Path
    new: bool
    """Whether there was none before."""
    added: tuple[Package, ...] = ()
    removed: tuple[Package, ...] = ()
    changed: tuple[tuple[Package, Package], ...] = ()
    """Each as it was, and as it is."""

    def __bool__(self) -> bool:
        """Tells whether anything is different."""
        return self.new or bool(self.added or self.removed or self.changed)


def serialize(lock: Lock) -> bytes:
    """Returns a lock as the bytes of its file."""
    head = (
        FORMAT,
        lock.suite,
        lock.architecture,
        lock.variant,
        " ".join(lock.components),
        "yes" if lock.recommends else "no",
    )
    lines = [f"{key} {value}" for key, value in zip(HEAD, head, strict=True)]
    lines += sorted(f"{_WANTS} {role} {name}" for role, name in lock.wants)
    lines += sorted(
        f"{one.role} {one.name} {one.version} {one.architecture} {one.size} {one.sha256} {one.path}"
        for one in lock.packages
    )
    return (COMMENT + "".join(f"{line}\n" for line in lines)).encode()


def parse(data: bytes, *, where: object = None) -> Lock:
    """Returns what a lock file says.

    Args:
        data: its bytes.
        where: its path, for errors.

    Raises:
        InvalidInput: a line is not what it must be; says which.
    """
    if len(data) > MAX_LOCK_BYTES:
        raise InvalidInput(f"more than {MAX_LOCK_BYTES} bytes", where=where)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise InvalidInput("not text in UTF-8", where=where) from None
    head: dict[str, list[str]] = {}
    wants: set[tuple[Role, str]] = set()
    packages: dict[tuple[Role, str, str], Package] = {}
    for place, words in _lines(text, where):
        first = words[0]
        if first in HEAD:
            if first in head or len(words) < 2:
                raise InvalidInput(
                    f"{first!r} is there twice" if first in head else f"{first!r}: no value", where=place
                )
            head[first] = words[1:]
            if first == "format" and words[1:] != [FORMAT]:
                raise InvalidInput(
                    f"format {' '.join(words[1:])[:40]!r}, and this version knows {FORMAT}",
                    where=place,
                    hint="use a newer version of wherry, or run `wherry host lock`",
                )
        elif first == _WANTS:
            if len(words) != 3 or words[1] not in tuple(Role) or not _NAME.match(words[2]):
                raise InvalidInput(f"not a line of what is wanted: {' '.join(words)[:80]!r}", where=place)
            wants.add((Role(words[1]), words[2]))
        else:
            package = _package(words, place)
            known = packages.setdefault((package.role, package.name, package.architecture), package)
            if known is not package:
                raise InvalidInput(f"{package.name} is there twice", where=place, hint="run `wherry host lock`")
    missing = [key for key in HEAD if key not in head]
    if missing:
        raise InvalidInput(f"no line {missing[0]!r}", where=where, hint="run `wherry host lock`")
    return Lock(
        suite=head["suite"][0],
        architecture=head["architecture"][0],
        variant=head["variant"][0],
        components=tuple(head["components"]),
        recommends=head["recommends"] == ["yes"],
        wants=frozenset(wants),
        packages=tuple(sorted(packages.values())),
    )


def _lines(text: str, where: object) -> Iterator[tuple[object, list[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        place = number if where is None else f"{where}:{number}"
        if line.startswith(("<<<<<<<", "=======", ">>>>>>>")):
            raise InvalidInput("a conflict of git's", where=place, hint="settle it, or run `wherry host lock`")
        if line.strip() and not line.startswith("#"):
            yield place, line.split()


def _package(words: list[str], place: object) -> Package:
    if len(words) != 7 or words[0] not in tuple(Role):
        raise InvalidInput(
            f"not a line of a lock: {' '.join(words)[:80]!r}",
            where=place,
            hint="role, name, version, architecture, size, SHA-256, path",
        )
    role, name, version, architecture, size, checksum, path = words
    for value, form, what in (
        (name, _NAME, "a package's name"),
        (version, _VERSION, "a version"),
        (architecture, _ARCHITECTURE, "an architecture"),
        (path, _PATH, "a path below a mirror"),
    ):
        if not form.match(value):
            raise InvalidInput(f"not {what}: {value[:80]!r}", where=place)
    if any(part in (".", "..") for part in path.split("/")):
        raise InvalidInput(f"not a path below a mirror: {path[:80]!r}", where=place)
    if not (size.isascii() and size.isdecimal()) or not 0 < int(size[:20]) <= MAX_PACKAGE_BYTES:
        raise InvalidInput(f"not a package's size: {size[:40]!r}", where=place)
    return Package(
        role=Role(role),
        name=name,
        version=version,
        architecture=architecture,
        size=int(size),
        sha256=parse_checksum(checksum, where=place),
        path=path,
    )


def read(path: Path) -> Lock:
    """Returns what the lock file at a path says.

    Raises:
        NotFound: there is none.
        InvalidInput: it is malformed.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_LOCK_BYTES + 1)
    except FileNotFoundError:
        raise NotFound("no lock of this host's packages", where=path, hint="run `wherry host lock`") from None
    except OSError as error:
        raise map_os_error(error, "cannot read", where=path) from error
    return parse(data, where=path)


def changes(path: Path, before: Lock | None, after: Lock) -> LockChanges:
    """Returns what is different."""
    old = {(one.role, one.name, one.architecture): one for one in (before.packages if before else ())}
    new = {(one.role, one.name, one.architecture): one for one in after.packages}
    return LockChanges(
        path=path,
        new=before is None,
        added=tuple(one for key, one in new.items() if key not in old),
        removed=tuple(one for key, one in old.items() if key not in new),
        changed=tuple((old[key], one) for key, one in new.items() if key in old and old[key] != one),
    )


def check_fits(lock: Lock, asked: Lock, *, where: object) -> None:
    """Refuses a lock that was made for something else than what is asked for now.

    Args:
        lock: what the file says.
        asked: what would be its head and its wishes.
        where: its path.

    Raises:
        Conflict: says what is different, and what to do.
    """
    different = [
        f"{key} {_word(was)} there, {_word(now)} asked for"
        for key, was, now in (
            ("suite", lock.suite, asked.suite),
            ("architecture", lock.architecture, asked.architecture),
            ("variant", lock.variant, asked.variant),
            ("components", lock.components, asked.components),
            ("recommends", lock.recommends, asked.recommends),
        )
        if was != now
    ]
    different += _names("new", asked.wants - lock.wants)
    different += _names("no longer wanted", lock.wants - asked.wants)
    if different:
        raise Conflict(
            f"the lock is of another list of packages: {'; '.join(different)}",
            where=where,
            hint="run `wherry host lock`",
        )


def _names(what: str, wants: Iterable[tuple[Role, str]]) -> list[str]:
    names = sorted({name for _, name in wants})
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return [f"{what}: {shown}"] if names else []


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(value) if isinstance(value, tuple) else str(value)
