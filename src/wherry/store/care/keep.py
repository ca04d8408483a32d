"""Commits that prune keeps though no ref names them.

::

    extensions/wherry/keep/<name>    checksums of commits, one in a line; # begins a comment

Each file belongs to somebody who knows which commits must stay, such as the components that a revision names, and is
replaced durably as a whole. Names are those of a ref's part. The real ``ostree prune`` knows nothing of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum, parse_checksum
from wherry.core.durable import make_dirs, remove_file, write_file
from wherry.core.errors import InvalidInput

if TYPE_CHECKING:
    from wherry.store.repository import Repository

FOLDER = "extensions/wherry/keep"
MAX_KEEP_BYTES = 64 * 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9_][-._A-Za-z0-9]{0,254}\Z")


def keep_commits(repo: Repository, name: str, commits: Iterable[Checksum]) -> None:
    """Says durably which commits must stay for `name`, in place of those before; none: nothing is kept for it.

    Raises:
        InvalidInput: `name` is none, or one of the checksums is.
    """
    if _NAME.match(name) is None:
        raise InvalidInput(f"not a name for what is kept: {name[:80]!r}", hint="letters, digits, '-', '_' and '.'")
    path = repo.path / FOLDER / name
    lines = [f"{parse_checksum(commit)}\n" for commit in dict.fromkeys(commits)]
    if not lines:
        if path.parent.is_dir():
            remove_file(path)
        return
    make_dirs(path.parent)
    write_file(path, "".join(lines).encode())


def kept_commits(repo: Repository) -> Iterator[Checksum]:
    """Gives the commits that must stay.

    Raises:
        InvalidInput: one of the files is malformed: then nothing may be removed.
    """
    folder = repo.path / FOLDER
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if _NAME.match(name) is None:
            continue  # being written
        path = folder / name
        with open(path, "rb") as file:
            data = file.read(MAX_KEEP_BYTES + 1)
        if len(data) > MAX_KEEP_BYTES:
            raise InvalidInput(f"longer than {MAX_KEEP_BYTES} bytes", where=path)
        for line in data.decode("ascii", errors="replace").splitlines():
            text = line.partition("#")[0].strip()
            if text:
                yield parse_checksum(text, where=path)
