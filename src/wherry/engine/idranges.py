"""Which ids of the host the users of a container are: ``--userns``, ``--uidmap``, ``--subuidname``.

A container of its own user namespace has ids 0 and up, and is, outside, users that nobody else is. What the words
mean is pure; the subordinate ids of a name are read from ``/etc/subuid`` and ``/etc/subgid`` (subuid(5)). Ranges for
``auto`` are chosen when a container is made, beside those of every other container of the engine root, and stay its own
for as long as it is there. Nothing on the disk has these ids: the container's files are shown by them (``rootfs``).
"""

from __future__ import annotations

import os

from wherry.core.errors import InvalidInput, NoSpace, NotFound
from wherry.core.value import Value
from wherry.engine.isolation import AUTO_COUNT, IdRange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wherry.engine.state import Paths

AUTO_SIZE = 65536
"""How many ids `auto` gives: those of the usual users, ``nobody`` among them."""
MAX_ID = 2**32 - 2
"""The highest one, -1, is nobody's."""
MAX_RANGES = 340
"""What the kernel takes in one map (user_namespaces(7), Linux 4.15)."""
AUTO_NAME = "containers"
"""Whose lines of /etc/subuid and /etc/subgid `auto` takes its ranges from, as podman does."""
AUTO_FIRST = 0x70000000
"""Where `auto` takes them from without such lines: what systemd's list of the ids of Linux (UIDS-GIDS.md) calls unused,
between the ids of systemd-nspawn's containers and those that programs show as negative."""
NOBODY = 65534
"""The kernel's overflowuid: whom files belong to that belong to nobody of a user namespace."""
_MAX_FILE_BYTES = 1 << 20


def parse_range(text: str, flag: str) -> IdRange:
    """Returns what ``CONTAINER:HOST[:SIZE]`` means; the size is 1 when it is missing.

    Raises:
        InvalidInput: it is not of that form.
    """
    words = text.split(":")
    if len(words) == 2:
        words.append("1")
    if len(words) != 3 or not all(word.isascii() and word.isdigit() and len(word) <= 10 for word in words):
        raise InvalidInput(
            f"{flag}: not ranges of ids: {text!r}", hint="write it as CONTAINER:HOST:SIZE, as 0:100000:65536"
        )
    first, host, size = map(int, words)
    if not size or first + size - 1 > MAX_ID or host + size - 1 > MAX_ID:
        raise InvalidInput(f"{flag}: {text!r} has no ids, or goes past {MAX_ID}")
    return IdRange(container_id=first, host_id=host, size=size)


def check_ranges(ranges: Sequence[IdRange], flag: str) -> None:
    """Refuses ranges that the kernel would, by name.

    Raises:
        InvalidInput: two overlap, there are too many, or root is nobody.
    """
    if len(ranges) > MAX_RANGES:
        raise InvalidInput(f"{flag}: the kernel takes {MAX_RANGES} ranges, not {len(ranges)}")
    for place in ("container_id", "host_id"):
        end = -1
        for first, size in sorted((getattr(item, place), item.size) for item in ranges):
            if first <= end:
                raise InvalidInput(f"{flag}: two ranges overlap at {first}")
            end = first + size - 1
    if ranges and not any(item.container_id == 0 for item in ranges):
        raise InvalidInput(f"{flag}: nobody is root of the container", hint="map 0, as in 0:100000:65536")


def subordinate(name: str, file: str) -> tuple[IdRange, ...]:
    """Returns the ids that a user may give away, one after the other from 0 up.

    Args:
        name: of a user.
        file: ``/etc/subuid`` or ``/etc/subgid``.

    Raises:
        NotFound: the file has no line for that user.
    """
    found: list[IdRange] = []
    first = 0
    for host, size in _lines(name, file):
        found.append(IdRange(container_id=first, host_id=host, size=size))
        first += size
    if not found:
        raise NotFound(f"{name!r} has no ids to give away", where=file, hint=f"add a line: {name}:100000:65536")
    return tuple(found)


def _lines(name: str, file: str) -> Iterable[tuple[int, int]]:
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        text = os.read(fd, _MAX_FILE_BYTES).decode(errors="replace")
    finally:
        os.close(fd)
    for line in text.splitlines():
        words = line.strip().split(":")
        if len(words) == 3 and words[0] == name and words[1].isdigit() and words[2].isdigit():
            host, size = int(words[1]), int(words[2])
            if size and host + size - 1 <= MAX_ID:
                yield host, size


def first_free(pool: Iterable[tuple[int, int]], taken: Iterable[tuple[int, int]], size: int) -> int:
    """Returns where in a pool the first range of a size is that meets none of others; pure.

    Args:
        pool: first ids and sizes.
        taken: the same, of what is others'.
        size: how many are wanted.

    Raises:
        NoSpace: there is none.
    """
    others = sorted(taken)
    for first, count in sorted(pool):
        place = first
        for other, other_size in others:
            if other + other_size <= place:
                continue
            if other >= place + size:
                break
            place = other + other_size
        if place + size <= first + count:
            return place
    raise NoSpace(
        f"no {size} ids in a row are free for --userns=auto", hint="remove containers, or give fewer: auto:size="
    )


def choose(paths: Paths, size: int) -> tuple[IdRange, IdRange]:
    """Returns ranges of user and group ids that no container has; the caller keeps others from choosing."""
    from wherry.engine.state import all_ids, read_config

    uids: list[tuple[int, int]] = []
    gids: list[tuple[int, int]] = []
    for container_id in all_ids(paths):
        try:
            parts = read_config(paths, container_id).spec.isolation
        except NotFound:
            continue
        uids += [(item.host_id, item.size) for item in parts.uids]
        gids += [(item.host_id, item.size) for item in parts.gids]
    found = []
    for file, taken in (("/etc/subuid", uids), ("/etc/subgid", gids)):
        pool = tuple(_lines(AUTO_NAME, file)) or ((AUTO_FIRST, AUTO_COUNT),)
        found.append(IdRange(container_id=0, host_id=first_free(pool, taken, size), size=size))
    return found[0], found[1]


def outside(ranges: Sequence[IdRange], container_id: int) -> int:
    """Returns who an id of a container is on the host; without ranges, itself.

    Raises:
        InvalidInput: the container has no such id.
    """
    for item in ranges:
        if item.container_id <= container_id < item.container_id + item.size:
            return container_id - item.container_id + item.host_id
    if ranges:
        raise InvalidInput(f"the container's user namespace has no id {container_id}", hint="leave out -a")
    return container_id


def inside(ranges: Sequence[IdRange], host_id: int) -> int:
    """Returns who an id of the host is in a container, nobody for a foreign one; without ranges, itself."""
    for item in ranges:
        if item.host_id <= host_id < item.host_id + item.size:
            return host_id - item.host_id + item.container_id
    return NOBODY if ranges else host_id


class Owners(Value):
    """Whose files are in a root that is looked at from the host; without ranges, those that one sees."""

    uids: tuple[IdRange, ...] = ()
    gids: tuple[IdRange, ...] = ()

    def of(self, status: os.stat_result) -> tuple[int, int]:
        """Returns the user and the group that a file has in the container."""
        return inside(self.uids, status.st_uid), inside(self.gids, status.st_gid)

    def to(self, owner: tuple[int, int]) -> tuple[int, int]:
        """Returns what a file is given for it to have a user and a group in the container."""
        return outside(self.uids, owner[0]), outside(self.gids, owner[1])


AS_SEEN = Owners()
