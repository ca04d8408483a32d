"""The options of a mount in an OCI specification, each word with what it becomes. Pure.

Three kinds of words: attributes of one mount (``ro``, ``nosuid``; with an ``r`` before them, of all the mounts below it
too), options that every file system has (``sync``), and those that a runtime acts on (``rbind``, ``idmap``,
``tmpcopyup``). Whatever is none of these goes to the file system, which refuses what it does not know. Of two words
that contradict each other the later one counts, as in mount(8).
Source: Runtime Specification 1.2.0, config.md, "Linux mount options"; crun(1) 1.8 to 1.20.
"""

from __future__ import annotations

from wherry.core.errors import InvalidInput
from wherry.core.value import Value
from wherry.linux import x
from wherry.linux.mount import MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, MS_UNBINDABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wherry.linux.idmap import Range
    from wherry.runtime.spec import IdMapping

MAX_RANGES = 340
"""As many as the kernel takes in one map (user_namespaces(7))."""
_MAX_ID = 0xFFFFFFFF

_SET = {
    "ro": x.MOUNT_ATTR_RDONLY,
    "nosuid": x.MOUNT_ATTR_NOSUID,
    "nodev": x.MOUNT_ATTR_NODEV,
    "noexec": x.MOUNT_ATTR_NOEXEC,
    "nodiratime": x.MOUNT_ATTR_NODIRATIME,
    "nosymfollow": x.MOUNT_ATTR_NOSYMFOLLOW,
}
_CLEAR = {
    "rw": x.MOUNT_ATTR_RDONLY,
    "suid": x.MOUNT_ATTR_NOSUID,
    "dev": x.MOUNT_ATTR_NODEV,
    "exec": x.MOUNT_ATTR_NOEXEC,
    "diratime": x.MOUNT_ATTR_NODIRATIME,
    "symfollow": x.MOUNT_ATTR_NOSYMFOLLOW,
}
_ATIME = {
    "noatime": x.MOUNT_ATTR_NOATIME,
    "strictatime": x.MOUNT_ATTR_STRICTATIME,
    # The rest means the kernel's own choice, which has been relatime since Linux 2.6.30, and is 0 among the attributes.
    "relatime": 0,
    "atime": 0,
    "norelatime": 0,
    "nostrictatime": 0,
}
_SUPERBLOCK = {
    "sync": ("sync", "sync"),
    "async": ("sync", "async"),
    "dirsync": ("dirsync", "dirsync"),
    "nodirsync": ("dirsync", ""),
    "mand": ("mand", "mand"),
    "nomand": ("mand", "nomand"),
    "lazytime": ("lazytime", "lazytime"),
    "nolazytime": ("lazytime", "nolazytime"),
}
"""Word -> what it is about, and what the file system is told."""
_PROPAGATION = {
    "private": MS_PRIVATE,
    "slave": MS_SLAVE,
    "shared": MS_SHARED,
    "unbindable": MS_UNBINDABLE,
}
PROPAGATION = {**_PROPAGATION, **{f"r{word}": flag | MS_REC for word, flag in _PROPAGATION.items()}}
"""The words of ``rootfsPropagation`` and of mounts."""
_IGNORED = frozenset(("defaults", "silent", "loud", "z", "Z"))
"""Nothing is changed by these: the default; whether the kernel logs; SELinux labels, which are not set here."""


class IdMap(Value):
    """How the owners of files are shown: (id in the file system, id shown, how many)."""

    uids: tuple[Range, ...]
    gids: tuple[Range, ...]
    recursive: bool = False


class Options(Value):
    """The options of one mount, sorted."""

    bind: bool = False
    recursive: bool = False
    remount: bool = False
    attr_set: int = 0
    attr_clr: int = 0
    all_set: int = 0
    """As `attr_set`, for the mount and those below it."""
    all_clr: int = 0
    propagation: int = 0
    """``MS_PRIVATE`` and so on, with ``MS_REC`` for those below too; 0 where nothing is said."""
    superblock: tuple[str, ...] = ()
    iversion: bool = False
    idmap: str | None = None
    """What stands behind ``idmap=``; "" means the container's own user namespace."""
    idmap_recursive: bool = False
    copy_up: bool = False
    copy_symlink: bool = False
    follow_source: bool = True
    follow_target: bool = True
    data: tuple[str, ...] = ()
    """For the file system."""


class _Bits:
    """Attributes that are set and cleared one after the other."""

    def __init__(self) -> None:
        self.set = self.clr = 0

    def take(self, word: str) -> bool:
        if word in _SET:
            self.set |= _SET[word]
            self.clr &= ~_SET[word]
        elif word in _CLEAR:
            self.clr |= _CLEAR[word]
            self.set &= ~_CLEAR[word]
        elif word in _ATIME:
            self.set = self.set & ~x.MOUNT_ATTR__ATIME | _ATIME[word]
            self.clr |= x.MOUNT_ATTR__ATIME
        else:
            return False
        return True


def parse_options(words: Iterable[str]) -> Options:
    """Sorts the options of a mount."""
    one, every = _Bits(), _Bits()
    superblock: dict[str, str] = {}
    found: dict[str, object] = {}
    data: list[str] = []
    for word in words:
        if one.take(word) or word in _IGNORED or not word:
            continue
        if word in PROPAGATION:
            found["propagation"] = PROPAGATION[word]
        elif word in ("bind", "rbind"):
            found["bind"], found["recursive"] = True, word == "rbind"
        elif word[0] == "r" and every.take(word[1:]):
            continue
        elif word in _SUPERBLOCK:
            about, told = _SUPERBLOCK[word]
            superblock[about] = told
        elif word in _FLAGS:
            name, value = _FLAGS[word]
            found[name] = value
        elif word.partition("=")[0] in ("idmap", "ridmap"):
            kind, _, maps = word.partition("=")
            found["idmap"], found["idmap_recursive"] = maps, kind == "ridmap"
        else:
            data.append(word)
    return Options(
        attr_set=one.set,
        attr_clr=one.clr,
        all_set=every.set,
        all_clr=every.clr,
        superblock=tuple(filter(None, superblock.values())),
        data=tuple(data),
        **found,  # type: ignore[arg-type]
    )


_FLAGS = {
    "remount": ("remount", True),
    "iversion": ("iversion", True),
    "noiversion": ("iversion", False),
    "tmpcopyup": ("copy_up", True),
    "copy-symlink": ("copy_symlink", True),
    "src-nofollow": ("follow_source", False),
    "dest-nofollow": ("follow_target", False),
}


def id_map(
    options: Options,
    mount_uids: Sequence[IdMapping],
    mount_gids: Sequence[IdMapping],
    container_uids: Sequence[IdMapping],
    container_gids: Sequence[IdMapping],
    where: str,
) -> IdMap | None:
    """Returns how the owners of a bind mount's files are shown; None when they are shown as they are.

    Args:
        options: of the mount; ``idmap=uids=0-1-10#10-11-10;gids=@0-0-65536`` is crun's: id in the file system, id
            shown, how many; behind ``@``, the id shown is one of the container's.
        mount_uids: the mount's own maps.
        mount_gids: the mount's own maps.
        container_uids: of the container's user namespace.
        container_gids: of the container's user namespace.
        where: the mount, for the error.

    Raises:
        InvalidInput: a map is malformed, or there is none.
    """
    if options.idmap is None and not mount_uids and not mount_gids:
        return None
    if options.idmap:
        uids, gids = _parse_maps(options.idmap, container_uids, container_gids, where)
    elif mount_uids or mount_gids:
        uids, gids = _ranges(mount_uids), _ranges(mount_gids)
    else:
        uids, gids = _ranges(container_uids), _ranges(container_gids)
    if not uids or not gids:
        raise InvalidInput("an id-mapped mount needs maps of users and of groups", where=where)
    if len(uids) > MAX_RANGES or len(gids) > MAX_RANGES:
        raise InvalidInput(f"a map has at most {MAX_RANGES} ranges", where=where)
    return IdMap(uids=uids, gids=gids, recursive=options.idmap_recursive)


def _ranges(mappings: Sequence[IdMapping]) -> tuple[Range, ...]:
    return tuple((item.container_id, item.host_id, item.size) for item in mappings)


def _parse_maps(
    text: str, container_uids: Sequence[IdMapping], container_gids: Sequence[IdMapping], where: str
) -> tuple[tuple[Range, ...], tuple[Range, ...]]:
    maps: dict[str, tuple[Range, ...]] = {}
    for part in text.split(";"):
        name, _, ranges = part.partition("=")
        if name not in ("uids", "gids") or name in maps or not ranges:
            raise InvalidInput("not uids=INSIDE-OUTSIDE-COUNT;gids=INSIDE-OUTSIDE-COUNT", where=f"{where}: {text}")
        own = container_uids if name == "uids" else container_gids
        maps[name] = tuple(_parse_range(item, own, where) for item in ranges.split("#"))
    return maps.get("uids", ()), maps.get("gids", ())


def _parse_range(text: str, own: Sequence[IdMapping], where: str) -> Range:
    numbers = text.removeprefix("@").split("-")
    if len(numbers) != len(("inside", "outside", "count")) or not all(part.isdecimal() for part in numbers):
        raise InvalidInput("not INSIDE-OUTSIDE-COUNT", where=f"{where}: {text}")
    inside, outside, count = map(int, numbers)
    if not count or max(inside, outside) + count - 1 >= _MAX_ID:
        raise InvalidInput("not a range of ids", where=f"{where}: {text}")
    if text.startswith("@"):
        for item in own:
            if item.container_id <= outside and outside + count <= item.container_id + item.size:
                return inside, outside - item.container_id + item.host_id, count
        raise InvalidInput("not within one range of the container's own map", where=f"{where}: {text}")
    return inside, outside, count


def known_options() -> tuple[str, ...]:
    """Returns every option that is not handed on to a file system, for ``features``."""
    recursive = [f"r{word}" for word in (*_SET, *_CLEAR, *_ATIME)]
    others = ("bind", "rbind", "idmap", "ridmap", *PROPAGATION, *_FLAGS, *_SUPERBLOCK, *_IGNORED)
    return tuple(sorted({*_SET, *_CLEAR, *_ATIME, *recursive, *others}))
