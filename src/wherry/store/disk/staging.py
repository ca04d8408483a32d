"""Staging folders: where a transaction keeps its objects until they are durable, ``tmp/staging-<boot id>-<random>``.

Each has a lock file beside it, ``<name>-lock``, which its transaction holds, as OSTree's do. One that nobody holds was
left by a process that ended early: of this boot, its objects are whole and are taken over; of another boot, some may
never have reached the disk, and all go.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from wherry.store.disk import ofd

_PREFIX = "staging-"
_boot_id = ""


def boot_id() -> str:
    """Returns the kernel's name for this boot, as OSTree writes it into names of staging folders."""
    return _boot_id or Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def use_boot_id(text: str) -> None:
    """Takes another name for this boot from now on: where the kernel's is hidden, or for tests of a reboot."""
    global _boot_id
    _boot_id = text


def take(repo_path: Path) -> tuple[Path, int]:
    """Takes over a left staging folder of this boot, or makes a new one; removes those of other boots.

    Returns:
        The folder, and the descriptor that holds its lock.
    """
    tmp = repo_path / "tmp"
    prefix = f"{_PREFIX}{boot_id()}-"
    found: tuple[Path, int] | None = None
    for path in sorted(tmp.glob(f"{_PREFIX}*")):
        mine = path.name.startswith(prefix)
        if path.name.endswith("-lock") or (mine and found) or not path.is_dir():
            continue
        fd = ofd.take(path.with_name(f"{path.name}-lock"))
        if fd is None:
            continue
        if mine and path.is_dir():
            found = path, fd
            _clean(path)
        else:
            drop(path, fd)
    while found is None:
        path = tmp / f"{prefix}{os.urandom(4).hex()}"
        fd = ofd.take(path.with_name(f"{path.name}-lock"))
        if fd is not None:
            found = path, fd
            os.mkdir(path, 0o755)
    return found


def _clean(stage: Path) -> None:
    """Leaves the objects of an ended transaction, and nothing half done: commits may lack some of theirs."""
    for entry in list(stage.iterdir()):
        if entry.name.startswith("tmp-"):
            entry.unlink()
        elif entry.is_dir():
            for path in [*entry.glob("*.commit"), *entry.glob("*.commitmeta")]:
                path.unlink()


def drop(path: Path, lock_fd: int) -> None:
    """Removes a staging folder whose lock is held, and its lock file, then lets go."""
    from shutil import rmtree  # only where there is something to remove: prune has nothing most times

    try:
        rmtree(path, ignore_errors=True)
        path.with_name(f"{path.name}-lock").unlink(missing_ok=True)
    finally:
        os.close(lock_fd)


def cleanup(repo_path: Path, *, expired: Callable[[Path], bool]) -> int:
    """Removes staging folders that nobody holds, and other entries of ``tmp/`` that are `expired`.

    Returns:
        How many were removed.
    """
    count = 0
    for path in sorted((repo_path / "tmp").iterdir()):
        if path.name == "cache" or path.name.endswith("-lock"):
            continue
        if path.name.startswith(_PREFIX) and path.is_dir():
            fd = ofd.take(path.with_name(f"{path.name}-lock"))
            if fd is not None:
                drop(path, fd)
                count += 1
        elif expired(path):
            from shutil import rmtree

            rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
            count += 1
    return count
