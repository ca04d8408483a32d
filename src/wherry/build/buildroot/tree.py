"""A tree of Buildroot, and what names it by content.

To read fifteen thousand files takes seconds; so the digest is remembered beside what lstat(2) says of every file: while
that is the same, with its time of change, which nobody can set back, so is the content.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from wherry.build.contributions import digest_of
from wherry.core.durable import make_dirs, map_os_error, write_file
from wherry.core.errors import WherryError
from wherry.core.jsonio import canonical, loads

USED = frozenset({".git", ".gitlab-ci.yml", ".config", ".config.old", "dl", "output"})
"""What is left out of a tree of Buildroot: what it was used for."""
MEMO = "buildroot-tree.json"
_VERSION = re.compile(r"^export BR2_VERSION := (\S+)$", re.MULTILINE)


def version_of(tree: Path) -> str:
    """Returns the version that a tree of Buildroot says it has; "" where it says none."""
    found = _VERSION.search((tree / "Makefile").read_text(encoding="utf-8", errors="replace"))
    return found[1] if found else ""


def digest(tree: Path, remembered: Path) -> str:
    """Returns what names a tree by content: 64 hex digits.

    Args:
        tree: the folder.
        remembered: a folder for what is remembered of it.

    Raises:
        InvalidInput: it holds what is neither a file, a folder nor a link.
    """
    looks = hashlib.sha256()
    try:
        for line in _looks(tree, tree):
            looks.update(line)
    except OSError as error:
        raise map_os_error(error, "cannot read", where=tree) from error
    seen = looks.hexdigest()
    memo = remembered / MEMO
    with suppress(OSError, WherryError):
        said = loads(memo.read_bytes(), where=memo)
        if isinstance(said, dict) and said.get("seen") == seen and isinstance(said.get("digest"), str):
            return str(said["digest"])
    whole = hashlib.sha256()
    for name in _own(tree):
        whole.update(f"{name} {digest_of(tree / name)}\n".encode(errors="surrogateescape"))
    found = whole.hexdigest()
    with suppress(WherryError):  # it is only slower without
        make_dirs(remembered)
        write_file(memo, canonical({"seen": seen, "digest": found}))
    return found


def _own(tree: Path) -> list[str]:
    return sorted((name for name in os.listdir(tree) if name not in USED), key=os.fsencode)


def _looks(tree: Path, folder: Path) -> Iterator[bytes]:
    with os.scandir(folder) as entries:
        every = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    for entry in every:
        if folder == tree and entry.name in USED:
            continue
        status = entry.stat(follow_symlinks=False)
        words = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
        yield os.fsencode(entry.path) + repr(words).encode()
        if entry.is_dir(follow_symlinks=False):
            yield from _looks(tree, Path(entry.path))
