"""What happens to containers, volumes, networks and images: docker's events, a line of JSON each.

::

    <run>/events.jsonl      the newest; docker's message of /events, one line each
    <run>/events.jsonl.1    those before; one file of MAX_FILE_BYTES is kept

Any process writes, each line by one write(2) at the end of the file, under a shared flock(2) of the file itself. Who
rotates holds that lock alone, so nothing is ever written to a file that was moved away, and a reader that has reached
the end of such a file has all of it. What is *not* promised: that events outlive a reboot, or are told at all when
the disk is full: an event must never stop what it tells of.

`emit` is part of every container's life and imports nothing that is not there anyway. `read` may be slow to begin.
Source: Docker Engine API 1.45, "Monitor events"; the attributes are docker's.
"""

from __future__ import annotations

import fcntl
import os
import time
from _json import encode_basestring_ascii

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, Protocol

    class HasRun(Protocol):
        """Anything that knows where state lies that a reboot may clear: ``state.Paths``."""

        @property
        def run(self) -> os.PathLike[str] | str: ...  # noqa: D102


FILE_NAME = "events.jsonl"
MAX_FILE_BYTES = 1 << 20
MAX_LINE_BYTES = 16 * 1024
MAX_VALUE_CHARS = 1024
"""Of one attribute; what is longer is cut short."""
_TRIES = 16
_NS = 1_000_000_000

EVENT_TYPES = ("container", "image", "network", "volume", "secret")


def emit(
    paths: HasRun,
    action: str,
    *,
    type: str = "container",  # noqa: A002 docker's word
    actor_id: str = "",
    name: str = "",
    attributes: Mapping[str, object] | None = None,
) -> None:
    """Tells that something has happened; a failure is not told.

    Args:
        paths: of the engine root.
        action: docker's word: ``create``, ``start``, ``die`` ...
        type: one of ``EVENT_TYPES``.
        actor_id: the container's id, or the name of a volume or network.
        name: the container's name.
        attributes: more of it, such as ``image``, ``exitCode``; values are written as text.
    """
    given: dict[str, object] = {**attributes} if attributes else {}
    if name:
        given["name"] = name
    line = format_line(action, kind=type, actor_id=actor_id, attributes=given, time_ns=time.time_ns())
    try:
        _append(f"{os.fspath(paths.run)}/{FILE_NAME}", line)
    except OSError:
        pass  # a full disk, or a run root that was cleared: what happened has happened all the same


def format_line(action: str, *, kind: str, actor_id: str, attributes: Mapping[str, object], time_ns: int) -> bytes:
    """Returns one event as a line of at most ``MAX_LINE_BYTES``; attributes that do not fit are left out."""
    quote = encode_basestring_ascii
    image = str(attributes.get("image", ""))[:MAX_VALUE_CHARS]
    head = f'{{"Type":{quote(kind)},"Action":{quote(action)},"Actor":{{"ID":{quote(actor_id)},"Attributes":{{'
    legacy = f'"status":{quote(action)},"id":{quote(actor_id)},"from":{quote(image)},' if kind == "container" else ""
    tail = f'}}}},{legacy}"scope":"local","time":{time_ns // _NS},"timeNano":{time_ns}}}\n'
    room = MAX_LINE_BYTES - len(head) - len(tail)
    items: list[str] = []
    for key in sorted(attributes):
        item = f"{quote(key)}:{quote(str(attributes[key])[:MAX_VALUE_CHARS])}"
        if len(item) + 1 > room:
            continue
        room -= len(item) + 1
        items.append(item)
    return f"{head}{','.join(items)}{tail}".encode("ascii")


def _append(path: str, line: bytes) -> None:
    for _ in range(_TRIES):
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            if not _is_at(fd, path):
                continue  # moved away between open and lock
            if os.fstat(fd).st_size + len(line) <= MAX_FILE_BYTES:
                os.write(fd, line)
                return
            # not atomic: somebody else may come first, so the look at the path is repeated
            fcntl.flock(fd, fcntl.LOCK_EX)
            if _is_at(fd, path):
                os.rename(path, f"{path}.1")
        finally:
            os.close(fd)


def _is_at(fd: int, path: str) -> bool:
    return _inode(path) == os.fstat(fd).st_ino


# --- reading


def read(
    paths: HasRun,
    *,
    since_s: float | None = None,
    until_s: float | None = None,
    filters: Mapping[str, Sequence[str]] | None = None,
    follow: bool = True,
) -> Iterator[dict[str, Any]]:
    """Gives events, the oldest first.

    Args:
        paths: of the engine root.
        since_s: also those from then on, in seconds since 1970; None: only those that are still to come, or all of
            them without `follow`.
        until_s: the end; it is waited for when it is still to come.
        filters: see `matches`.
        follow: wait for more, until `until_s` or for ever.
    """
    from wherry.core import jsonio

    begin_s = time.time() if since_s is None and follow else since_s or 0.0
    for line in _lines(f"{os.fspath(paths.run)}/{FILE_NAME}", until_s, follow=follow):
        try:
            event: dict[str, Any] = jsonio.loads(line, max_bytes=MAX_LINE_BYTES)
            at_s = event["timeNano"] / _NS
        except Exception:  # noqa: BLE001, S112 a power cut may have cut a line short
            continue
        if until_s is not None and at_s > until_s:
            return
        if at_s >= begin_s and matches(event, filters or {}):
            yield event


def matches(event: Mapping[str, Any], filters: Mapping[str, Sequence[str]]) -> bool:
    """Tells whether an event passes: one of the values of each key, and every ``label``.

    Keys: ``container image volume network secret`` (name or id), ``event``, ``type``, ``label``, ``scope``.
    """
    actor = event.get("Actor", {})
    attributes: Mapping[str, str] = actor.get("Attributes", {})

    def fits(key: str, value: str) -> bool:
        if key == "event":
            action = str(event.get("Action", ""))
            return value == action or action.startswith(f"{value}:")  # "exec_start: sh" passes as exec_start
        if key == "type":
            return bool(event.get("Type") == value)
        if key == "scope":
            return bool(event.get("scope") == value)
        if key == "image":
            image = attributes.get("image", "")
            return value in (image, image.rpartition(":")[0], image.rpartition("/")[2])
        if key == "label":
            name, equals, wanted = value.partition("=")
            return name in attributes and (not equals or attributes[name] == wanted)
        identity = str(actor.get("ID", ""))
        name = attributes.get("name", "") if key == "container" else attributes.get(key, "")
        mine = event.get("Type") == key and bool(identity.startswith(value) or value == name)
        return mine or attributes.get(key) == value

    for key, values in filters.items():
        test = all if key == "label" else any
        if not test(fits(key, value) for value in values):
            return False
    return True


def _lines(path: str, until_s: float | None, *, follow: bool) -> Iterator[bytes]:
    """Gives whole lines of the older file and of the newest, and those that follow."""
    watch = _Watch(os.path.dirname(path)) if follow else None
    fd, rest, moved = -1, b"", True
    try:
        while True:
            if moved:
                following = _after(fd, path)
                if following >= 0:
                    if fd >= 0:
                        os.close(fd)
                    fd, rest = following, b""
            if fd >= 0:
                moved = not _is_at(fd, path)  # looked at before reading: nothing is added to it after that
                while chunk := os.read(fd, MAX_FILE_BYTES):
                    *whole, rest = (rest + chunk).split(b"\n")
                    yield from whole
                if moved and os.path.exists(path):
                    continue
            if watch is None or not watch.wait(until_s):
                return
    finally:
        if fd >= 0:
            os.close(fd)
        if watch is not None:
            watch.close()


def _after(fd: int, path: str) -> int:
    """Opens the file that came after the one that was read to its end (-1: the oldest); -1 when there is none yet."""
    for _ in range(_TRIES):
        older = _open(f"{path}.1")
        if older >= 0:
            if fd < 0 or os.fstat(older).st_ino != os.fstat(fd).st_ino:
                return older
            os.close(older)
        newest = _open(path)
        if _inode(f"{path}.1") == (None if older < 0 else os.fstat(fd).st_ino):
            return newest
        if newest >= 0:
            os.close(newest)  # rotated between the two looks
    return -1


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return -1


def _inode(path: str) -> int | None:
    try:
        return os.stat(path, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return None


class _Watch:
    """Wakes when something in a directory has changed."""

    def __init__(self, folder: str) -> None:
        from wherry.linux import inotify

        os.makedirs(folder, mode=0o711, exist_ok=True)
        self._fd = inotify.inotify_init1()
        mask = inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_FROM | inotify.IN_MOVED_TO
        inotify.inotify_add_watch(self._fd, folder, mask)

    def wait(self, until_s: float | None) -> bool:
        """Tells whether something has changed since the last call; waits for it, until a point in time."""
        import select

        from wherry.linux import inotify

        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        while True:
            left_s = None if until_s is None else max(0.0, until_s - time.time())
            # an hour at most: the clock may be set meanwhile
            if poller.poll(3_600_000 if left_s is None else min(3600.0, left_s) * 1000 + 1):
                inotify.drain(self._fd)
                return True
            if left_s is not None and left_s <= 3600:
                return False

    def close(self) -> None:
        os.close(self._fd)
