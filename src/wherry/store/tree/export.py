"""A commit's tree as a tar archive."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, BinaryIO

from wherry.core.digest import Checksum
from wherry.core.errors import InvalidInput
from wherry.core.progress import QUIET, Progress
from wherry.store.format.objects import FileHeader
from wherry.store.tree.tar import EntryType
from wherry.store.tree.tarwrite import TarWriter
from wherry.store.tree.walk import check_depth, lookup

if TYPE_CHECKING:
    from wherry.store.repository import Repository

_TELL_EVERY = 256


def export(
    repo: Repository,
    commit: Checksum,
    out: BinaryIO,
    *,
    subpath: str = "/",
    prefix: str = "",
    no_xattrs: bool = False,
    progress: Progress = QUIET,
) -> None:
    """Writes a commit's tree as a tar archive: ustar, with extended headers of pax where they are needed.

    Args:
        repo: where it lies.
        commit: the commit; its time is that of every entry.
        out: where to.
        subpath: the directory of the commit that becomes the root of the archive.
        prefix: stands in front of every path as it is; write ``usr/`` for a directory.
        no_xattrs: leave extended attributes out.
        progress: is told how many files are done.

    Raises:
        NotFound: the commit lacks an object, or `subpath`.
        InvalidInput: `subpath` is a file.
    """
    found = lookup(repo, commit, subpath)
    if not isinstance(found, tuple):
        raise InvalidInput("Not a directory, which only can become an archive", where=subpath)
    writer = TarWriter(out, time_s=repo.load_commit(commit).timestamp_s)
    _Exporter(repo, writer, prefix, progress, no_xattrs=no_xattrs).directory(*found, "", 0)
    writer.close()


class _Exporter:
    def __init__(
        self, repo: Repository, writer: TarWriter, prefix: str, progress: Progress, *, no_xattrs: bool
    ) -> None:
        self._repo = repo
        self._writer = writer
        self._prefix = prefix
        self._progress = progress
        self._no_xattrs = no_xattrs
        self._names: dict[Checksum, str] = {}
        self._done = 0

    def directory(self, tree: Checksum, meta: Checksum, path: str, depth: int) -> None:
        """Writes a directory and all below it; `path` is empty, or ends in a slash."""
        check_depth(depth, path)
        found = self._repo.load_dirmeta(meta)
        self._writer.add(
            EntryType.DIRECTORY,
            self._prefix + path or "./",
            mode=stat.S_IMODE(found.mode),
            uid=found.uid,
            gid=found.gid,
            xattrs=() if self._no_xattrs else found.xattrs,
        )
        entries = self._repo.load_dirtree(tree)
        for name, checksum in entries.files:
            self._file(checksum, self._prefix + path + name)
        for name, subtree, submeta in entries.dirs:
            self.directory(subtree, submeta, f"{path}{name}/", depth + 1)

    def _file(self, checksum: Checksum, path: str) -> None:
        self._done += 1
        if self._done % _TELL_EVERY == 0:
            self._progress.update("exporting", self._done, None, unit="files")
        header, content = self._repo.load_file(checksum)
        if content is None:
            self._add(EntryType.SYMLINK, path, header, target=header.symlink_target)
            return
        with content:
            first = self._names.setdefault(checksum, path)
            if first != path:
                self._add(EntryType.HARD_LINK, path, header, target=first)
                return
            self._add(EntryType.FILE, path, header, size=self._size(checksum, content), content=content)

    def _add(
        self, kind: EntryType, path: str, header: FileHeader, *, size: int = 0, target: str = "",
        content: BinaryIO | None = None,
    ) -> None:  # fmt: skip
        self._writer.add(
            kind,
            path,
            mode=stat.S_IMODE(header.mode),
            uid=header.uid,
            gid=header.gid,
            size=size,
            target=target,
            xattrs=() if self._no_xattrs or kind is EntryType.HARD_LINK else header.xattrs,
            content=content,
        )

    def _size(self, checksum: Checksum, content: BinaryIO) -> int:
        from wherry.store.disk.stored import content_size

        return content_size(self._repo, checksum, content)
