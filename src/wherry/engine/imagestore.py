"""The store that images come from, opened when it must be: a start that finds all in place need not."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.store.repository import Repository


class ImageStore:
    """A repository by its folder.

    Args:
        path: the folder; a repository is known to be there.
        repo: the repository, when it is open already.
    """

    def __init__(self, path: str | os.PathLike[str], repo: Repository | None = None) -> None:
        self.path = os.fspath(path)
        self._repo = repo

    @property
    def repo(self) -> Repository:
        """The repository, opened now if it is not open yet.

        Raises:
            Unsupported: it is of another version or mode than this program knows.
        """
        if self._repo is None:
            from pathlib import Path

            from wherry.store.repository import Repository

            self._repo = Repository.open(Path(self.path))
        return self._repo


def image_store(given: Repository | ImageStore | None) -> ImageStore | None:
    """Returns a repository, or what stands for one, as an image store."""
    return given if given is None or isinstance(given, ImageStore) else ImageStore(given.path, given)
