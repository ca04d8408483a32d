"""Control files: read whole, written at once, and what they hold taken apart.

A file that is not there, or whose group is gone, reads as nothing; a value that the kernel refuses is an `OSError`
that names the file and the value.
"""

from __future__ import annotations

import errno
import os

_READ_BYTES = 16 << 10
"""At once: most files are a line, and a buffer of a megabyte would be mapped and unmapped for each."""
_MAX_READ_BYTES = 1 << 26
UNLIMITED_FROM = 1 << 60
"""Version 1 tells "without limit" as the largest multiple of a page."""


def read(directory: str, name: str) -> str:
    """Returns the text of a control file, "" when it is not there or cannot be read now."""
    try:
        fd = os.open(f"{directory}/{name}" if directory else name, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    try:
        data = os.read(fd, _READ_BYTES)
        if not data:
            return ""
        parts, size = [data], len(data)
        while size < _MAX_READ_BYTES and (data := os.read(fd, _READ_BYTES)):
            parts.append(data)
            size += len(data)
        return b"".join(parts).decode(errors="replace")
    except OSError as error:
        # ENODEV: the group was removed meanwhile. EOPNOTSUPP: pressure, on a kernel that booted without it.
        if error.errno in (errno.ENODEV, errno.EOPNOTSUPP):
            return ""
        raise
    finally:
        os.close(fd)


def write(directory: str, name: str, value: str) -> None:
    """Writes a value into a control file."""
    path = f"{directory}/{name}"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror} (writing {value!r})", path) from None


def there(directory: str, name: str) -> bool:
    """Tells whether a group has a control file."""
    return os.path.exists(f"{directory}/{name}")


def number(directory: str, name: str) -> int | None:
    """Returns the number in a file; None when there is none, or ``max``."""
    text = read(directory, name).strip()
    return int(text) if text.isdigit() else None


def limit(directory: str, name: str) -> int | None:
    """Returns the limit in a file; None when there is none."""
    found = number(directory, name)
    return None if found is None or found >= UNLIMITED_FROM else found


def keyed(text: str, key: str) -> int | None:
    """Returns the number after a key, in a text of lines ``KEY NUMBER``."""
    return numbers(text).get(key)


def numbers(text: str) -> dict[str, int]:
    """Returns all of a text of lines ``KEY NUMBER``; other lines are left out."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if value.isdigit():
            found[name] = int(value)
    return found
