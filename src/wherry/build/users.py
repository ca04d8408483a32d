"""Tables of users, as Buildroot's makeuser has them, carried out on a root's own files: passwd, shadow, group.

A line is ``NAME UID GROUP GID PASSWORD HOME SHELL GROUPS COMMENT``. A uid or gid of -1 is any free one from 1000, -2
any free one of the system's, from 100. A password is ``-`` (none is set), ``*`` (no login by password), a hash of
crypt(3), ``=CLEAR`` (is hashed), each with ``!`` before it for locked. A home of ``-`` is ``/`` and is not made; a
shell of ``-`` is ``/bin/false``; groups are a list with commas, ``-`` for none. A name of ``-`` is a group alone.

Source: the Buildroot manual, "Makeuser syntax documentation"; passwd(5), shadow(5), group(5).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from wherry.core.errors import InvalidInput

if TYPE_CHECKING:
    from wherry.build.contributions import Line
    from wherry.build.overlaying import Over

_FIELDS = 9
FIRST_ID, LAST_ID = 1000, 60000
FIRST_SYSTEM_ID, LAST_SYSTEM_ID = 100, 999
_PASSWD, _SHADOW, _GROUP, _GSHADOW = (PurePosixPath("etc", name) for name in ("passwd", "shadow", "group", "gshadow"))


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One line of a table."""

    name: str
    uid: int
    group: str
    gid: int
    password: str
    home: str
    shell: str
    groups: tuple[str, ...]
    comment: str


def parse_user(line: Line) -> User:
    """Returns a line of a table.

    Raises:
        InvalidInput: it is none; says where.
    """
    where = f"{line.layer}: {line.path}:{line.line}"
    words = line.text.split(None, _FIELDS - 1)
    if len(words) < _FIELDS - 1:
        raise InvalidInput(f"not a line of a table of users: {line.text[:60]!r}", where=where)
    name, uid, group, gid, password, home, shell, groups = words[:8]
    for word in (name, group, home, shell, groups):
        if ":" in word or "\n" in word:
            raise InvalidInput(f"a colon cannot stand in {word[:60]!r}", where=where)
    try:
        numbers = int(uid), int(gid)
    except ValueError:
        raise InvalidInput(f"not numbers: {uid[:20]} {gid[:20]}", where=where) from None
    if min(numbers) < -2 or max(numbers) >= 2**32 - 1:
        raise InvalidInput(f"no such ids: {uid[:20]} {gid[:20]}", where=where)
    if home != "-" and not home.startswith("/"):
        raise InvalidInput(f"a home is an absolute path or -: {home[:60]!r}", where=where)
    return User(
        name=name,
        uid=numbers[0],
        group=group if group != "-" else name,
        gid=numbers[1],
        password=password,
        home="/" if home == "-" else home,
        shell="/bin/false" if shell == "-" else shell,
        groups=() if groups == "-" else tuple(each for each in groups.split(",") if each),
        comment=words[8].replace(":", " ") if len(words) > 8 and words[8] != "-" else "",
    )


class Accounts:
    """The users and groups of a root, changed in memory and written at the end."""

    def __init__(self, over: Over, hash_password: Callable[[str, str], str]) -> None:
        self._over = over
        self._hash = hash_password
        self._passwd = self._read(_PASSWD)
        self._shadow = self._read(_SHADOW)
        self._group = self._read(_GROUP)
        self._gshadow = self._read(_GSHADOW)
        self._homes: list[tuple[str, int, int]] = []

    def add(self, user: User) -> None:
        """Adds a user with groups, or changes one that is there."""
        gid = self._add_group(user.group, user.gid)
        for name in user.groups:
            self._add_group(name, -2)
        if user.name == "-":
            return
        old = self._passwd.get(user.name)
        uid = int(old[2]) if old and user.uid < 0 else self._id(user.uid, self._passwd)
        self._passwd[user.name] = [user.name, "x", str(uid), str(gid), user.comment, user.home, user.shell]
        self._shadow[user.name] = [user.name, self._password(user), "", "0", "99999", "7", "", "", ""]
        for name in user.groups:
            for table, index in ((self._group, 3), (self._gshadow, 3)):
                if name in table and user.name not in table[name][index].split(","):
                    table[name][index] = ",".join(word for word in (table[name][index], user.name) if word)
        if user.home != "/":
            self._homes.append((user.home, uid, gid))

    def write(self) -> None:
        """Writes the files, and makes the homes that are missing."""
        for path, table, mode in (
            (_PASSWD, self._passwd, 0o644),
            (_GROUP, self._group, 0o644),
            (_SHADOW, self._shadow, 0o640),
            (_GSHADOW, self._gshadow, 0o640),
        ):
            if path == _GSHADOW and not self._gshadow:
                continue
            text = "".join(":".join(fields) + "\n" for fields in table.values())
            there = self._over.find(path) is not None
            gid = int(self._group["shadow"][2]) if "shadow" in self._group and mode == 0o640 else 0
            self._over.write(path, text.encode(), mode=None if there else mode, gid=gid)
        for home, uid, gid in self._homes:
            self._make_home(PurePosixPath(home.lstrip("/")), uid, gid)

    def _make_home(self, home: PurePosixPath, uid: int, gid: int) -> None:
        """Makes a home, and gives what overlays have put there to its owner."""
        new = self._over.find(home, follow=True) is None
        folder = self._over.folder(home, mode=0o700 if uid else 0o755, uid=uid, gid=gid)
        if not new and self._over.find(home, follow=True) is None:
            return
        for top, folders, names in os.walk(folder):
            for path in (top, *(os.path.join(top, name) for name in (*folders, *names))):
                os.chown(path, uid, gid, follow_symlinks=False)

    def _add_group(self, name: str, gid: int) -> int:
        if name in self._group and (gid < 0 or int(self._group[name][2]) == gid):
            return int(self._group[name][2])
        number = self._id(gid, self._group)
        members = self._group[name][3] if name in self._group else ""
        self._group[name] = [name, "x", str(number), members]
        if self._gshadow:
            self._gshadow.setdefault(name, [name, "!", "", ""])
        return number

    @staticmethod
    def _id(wanted: int, table: dict[str, list[str]]) -> int:
        if wanted >= 0:
            return wanted
        first, last = (FIRST_ID, LAST_ID) if wanted == -1 else (FIRST_SYSTEM_ID, LAST_SYSTEM_ID)
        taken = {int(fields[2]) for fields in table.values() if len(fields) > 2 and fields[2].isdigit()}
        free = next((number for number in range(first, last + 1) if number not in taken), None)
        if free is None:
            raise InvalidInput(f"no free id from {first} to {last}")
        return free

    def _password(self, user: User) -> str:
        text = user.password
        locked = "!" if text.startswith("!") else ""
        text = text.removeprefix("!")
        if text.startswith("="):
            text = self._hash(text[1:], salt_of(user.name, text))
        elif text == "-":
            text = ""
        return locked + (text or ("*" if locked else ""))

    def _read(self, path: PurePosixPath) -> dict[str, list[str]]:
        data = self._over.read(path) or b""
        rows = (line.split(":") for line in data.decode(errors="surrogateescape").splitlines() if line.strip())
        return {fields[0]: fields for fields in rows}


def salt_of(name: str, text: str) -> str:
    """Returns a salt that is the same in every build of a password, and another one for each name and password."""
    return hashlib.sha256(f"wherry user {name}\n{text}".encode()).hexdigest()[:16]
