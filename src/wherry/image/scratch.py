"""Folders for what an import needs for a while: an unpacked disk, files that a tool took out, an archive from a pipe.

::

    REPO/tmp/wherry-import-XXXXXXXX/    locked (flock) by the process that made it, as long as it lives

They can be as large as what is imported. Of a process that was killed they are removed by the next import that needs
one, and by ``image prune``: whoever gets the lock may remove it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "wherry-import-"


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Gives an empty folder that is gone after the block."""
    remove_leftovers(parent)
    path = Path(tempfile.mkdtemp(dir=parent, prefix=_PREFIX))
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield path
    finally:
        try:
            shutil.rmtree(path)
        finally:
            os.close(fd)


def remove_leftovers(parent: Path) -> int:
    """Removes the folders of processes that are gone.

    Returns:
        The bytes that are free now.
    """
    freed = 0
    for path in parent.glob(f"{_PREFIX}*"):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # gone meanwhile
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            freed += _size(path)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(fd)
    return freed


def _size(path: Path) -> int:
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    return total
