"""Who a container's process is: docker's ``USER[:GROUP]`` looked up in the container's own passwd and group files.

`look_up` is pure. `read_identity` is for the process itself, which is in the container's root. The texts are not
trusted: they are bounded, found without leaving the root, and odd lines are skipped.
"""

from __future__ import annotations

import os

from wherry.core.errors import InvalidInput, NotFound
from wherry.core.value import Value
from wherry.linux.beneath import open_in_root

MAX_FILE_BYTES = 1024 * 1024
MAX_ID = 2**31 - 1
"""As docker has it; the two highest ids of 32 bits mean "no change" to the kernel."""
_PASSWD_FIELDS, _GROUP_FIELDS = 6, 4


class Identity(Value):
    """The ids of a process, and where it is at home."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


class _Passwd(Value):
    name: str
    uid: int
    gid: int
    home: str


class _Group(Value):
    name: str
    gid: int
    members: tuple[str, ...]


def read_identity(root_fd: int, text: str, more: tuple[str, ...] = ()) -> Identity:
    """Returns the ids that ``USER[:GROUP]`` means in the root that `root_fd` is open on; see `look_up`."""
    return look_up(text, _read(root_fd, "etc/passwd"), _read(root_fd, "etc/group"), more)


def home_of(root_fd: int, uid: int) -> str:
    """Returns where a user of the root that `root_fd` is open on is at home, ``/`` when no file says it."""
    return next((user.home for user in _parse_passwd(_read(root_fd, "etc/passwd")) if user.uid == uid), "/")


def _read(root_fd: int, path: str) -> str:
    try:
        fd = open_in_root(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return ""
    try:
        found = b""
        while len(found) < MAX_FILE_BYTES and (piece := os.read(fd, MAX_FILE_BYTES - len(found))):
            found += piece
        return found.decode(errors="replace")
    except OSError:
        return ""  # a directory, or a pipe that nobody writes to
    finally:
        os.close(fd)


def look_up(text: str, passwd: str, group: str, more: tuple[str, ...] = ()) -> Identity:
    """Returns the ids that ``USER[:GROUP]`` means.

    Args:
        text: names or numbers; "" is root.
        passwd: the text of the image's ``/etc/passwd``, "" when it has none.
        group: the text of its ``/etc/group``.
        more: further groups, names or numbers.

    Raises:
        NotFound: a name is not in the files.
        InvalidInput: a number is out of range.
    """
    user_word, _, group_word = text.partition(":")
    user_word = user_word or "0"
    users, groups = _parse_passwd(passwd), _parse_group(group)
    entry = next((user for user in users if user.name == user_word), None)
    if entry is None and user_word.isascii() and user_word.isdigit():
        number = _checked(user_word)
        entry = next((user for user in users if user.uid == number), None) or _Passwd(
            name="", uid=number, gid=0, home="/"
        )
    if entry is None:
        raise NotFound(f"the image has no user {user_word!r}", hint="name one of its /etc/passwd, or give a number")
    added = tuple(_group_id(word, groups) for word in more)
    if group_word:
        return Identity(uid=entry.uid, gid=_group_id(group_word, groups), groups=added, home=entry.home)
    own = tuple(sorted({item.gid for item in groups if entry.name and entry.name in item.members} - {entry.gid}))
    return Identity(uid=entry.uid, gid=entry.gid, groups=tuple(dict.fromkeys((*own, *added))), home=entry.home)


def _group_id(word: str, groups: list[_Group]) -> int:
    for item in groups:
        if item.name == word:
            return item.gid
    if word.isascii() and word.isdigit():
        return _checked(word)
    raise NotFound(f"the image has no group {word!r}", hint="name one of its /etc/group, or give a number")


def _checked(word: str) -> int:
    if len(word) > 10 or int(word) > MAX_ID:
        raise InvalidInput(f"a user or group id is at most {MAX_ID}: {word[:20]}")
    return int(word)


def _parse_passwd(text: str) -> list[_Passwd]:
    found = []
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= _PASSWD_FIELDS and _is_id(fields[2]) and _is_id(fields[3]):
            found.append(_Passwd(name=fields[0], uid=int(fields[2]), gid=int(fields[3]), home=fields[5] or "/"))
    return found


def _parse_group(text: str) -> list[_Group]:
    found = []
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= _GROUP_FIELDS and _is_id(fields[2]):
            members = tuple(member for member in fields[3].split(",") if member)
            found.append(_Group(name=fields[0], gid=int(fields[2]), members=members))
    return found


def _is_id(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= 10 and int(word) <= MAX_ID
