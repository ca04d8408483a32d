"""What is kept to mount commits: their images, and checked-out trees where the kernel cannot mount those.

::

    extensions/wherry/images/COMMIT.KIND-1.erofs    an image; 1 is the number of this writer's format
    extensions/wherry/images/.*.tmp                 half made: garbage
    extensions/wherry/trees/COMMIT/tree/            the tree as files
                                   /empty/          what overlayfs wants besides
    extensions/wherry/trees/.COMMIT.*               half made, or half removed: garbage

``extensions/`` is OSTree's place for what is not its own; it leaves it alone. All of it can be made again from the
objects at any time. An image or tree is made under its name in one step, durably, while the repository's lock is held
shared; prune, which holds it alone, removes what belongs to commits that are gone, and garbage. A mount that is there
keeps its image, though its name is gone, but not the objects: so prune keeps the commits that it sees mounted.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from wherry.core.digest import Checksum, is_checksum
from wherry.core.durable import fsync_dir, make_dirs
from wherry.core.errors import NoSpace, NotPermitted, Unsupported, WherryError
from wherry.core.trace import reach
from wherry.store.format.objects import Mode
from wherry.store.mount.composefs import expected_digest, write_image
from wherry.store.repository import Repository

FORMAT = 1
FOLDER = "extensions/wherry"


class Kind(StrEnum):
    """What an image has in it."""

    PLAIN = "plain"
    """The tree."""
    DIGESTS = "digests"
    """The tree, and the fs-verity digest of every content."""
    OSTREE = "ostree"
    """The same with OSTree's top folders: the image whose digest a commit may carry."""


@contextmanager
def image(repo: Repository, commit: Checksum, kind: Kind = Kind.PLAIN) -> Iterator[Path]:
    """Gives the image of a commit, made when it is not kept yet.

    Where the repository cannot be written to, it is a file that is gone after the block; a mount keeps what it needs.

    Args:
        repo: not an archive.
        commit: the commit.
        kind: of the image.

    Raises:
        NotFound: an object is missing.
        Unsupported: the repository is an archive.
        IntegrityError: an `OSTREE` image has not the digest that the commit carries.
        NoSpace: the disk is full.
    """
    path = repo.path / FOLDER / "images" / f"{commit}.{kind}-{FORMAT}.erofs"
    if path.exists():
        yield path
        return
    try:
        make_dirs(path.parent)
        with repo.lock(shared=True):
            _write(repo, commit, path, kind)
    except (WherryError, OSError) as error:
        if not _is_read_only(error):
            raise
    else:
        reach("store.image.made")
        yield path
        return
    with tempfile.TemporaryDirectory(prefix=".wherry-image-") as folder:
        path = Path(folder, path.name)
        _write(repo, commit, path, kind)
        yield path


def _write(repo: Repository, commit: Checksum, path: Path, kind: Kind) -> None:
    if kind is not Kind.OSTREE:
        write_image(repo, commit, path, digests=kind is Kind.DIGESTS)
        return
    from wherry.store.mount.composefs import checkout_image

    _refuse_archive(repo)
    checkout_image(repo, commit, path)


def kind_with_digests(repo: Repository, commit: Checksum) -> Kind:
    """Returns which kind of image with digests belongs to a commit: the one whose digest it carries, if any."""
    return Kind.DIGESTS if expected_digest(repo, commit) is None else Kind.OSTREE


def tree(repo: Repository, commit: Checksum) -> Path:
    """Returns a commit's tree as files, made when it is not kept yet. Nobody may write to it.

    Files are hard links to objects where those have the owner, mode and attributes of the file (bare and
    bare-user-only), else copies.

    Raises:
        NotFound: an object is missing.
        Unsupported: the repository is an archive.
        NoSpace: the disk is full; nothing is left of it.
    """
    from wherry.linux.syncfs import syncfs
    from wherry.store.tree.checkout import checkout

    _refuse_archive(repo)
    folder = repo.path / FOLDER / "trees"
    path = folder / commit / "tree"
    if path.is_dir():
        return path
    make_dirs(folder)
    with repo.lock(shared=True):
        new = Path(tempfile.mkdtemp(prefix=f".{commit}.", dir=folder))
        try:
            (new / "empty").mkdir()
            checkout(repo, commit, new / "tree", user_mode=repo.mode is Mode.BARE_USER_ONLY)
            syncfs(folder)
            reach("store.tree.made")
            if _rename_unless_there(new, folder / commit):
                fsync_dir(folder)
        except BaseException:
            shutil.rmtree(new)
            raise
    return path


def _rename_unless_there(new: Path, path: Path) -> bool:
    """Renames a folder; when somebody was faster it is removed instead."""
    try:
        new.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        shutil.rmtree(new)
        return False
    return True


def _refuse_archive(repo: Repository) -> None:
    if repo.mode is Mode.ARCHIVE:
        raise Unsupported(
            "the objects of an archive repository are compressed and cannot be mounted",
            where=repo.path,
            hint="pull the commit into a bare-user repository (`wherry store pull-local`)",
        )


def _is_read_only(error: Exception) -> bool:
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError):
        return cause.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
    return isinstance(error, NotPermitted) and not isinstance(error, NoSpace)


def prune_images(repo: Repository, has_commit: Callable[[Checksum], bool], *, dry_run: bool = False) -> int:
    """Removes images and trees of commits that are gone, and what was left half made. The lock must be held alone.

    Args:
        repo: the repository.
        has_commit: tells whether a commit stays.
        dry_run: only counts.

    Returns:
        How many bytes were freed.
    """
    freed = 0
    for folder in (repo.path / FOLDER / "images", repo.path / FOLDER / "trees"):
        names = os.listdir(folder) if folder.is_dir() else []
        for name in names:
            commit = name.partition(".")[0]
            if is_checksum(commit) and has_commit(Checksum(commit)) and _is_current(name):
                continue
            freed += _remove(folder / name, dry_run=dry_run)
    return freed


def _is_current(name: str) -> bool:
    return not name.endswith(".erofs") or name.endswith(f"-{FORMAT}.erofs")


def _remove(path: Path, *, dry_run: bool) -> int:
    status = os.lstat(path)
    if not path.is_dir() or path.is_symlink():
        if not dry_run:
            path.unlink()
        return status.st_size
    size = 0
    for top, _, names in os.walk(path):
        for name in names:
            status = os.lstat(os.path.join(top, name))
            size += status.st_size if status.st_nlink == 1 else 0
    if not dry_run:
        if not path.name.startswith("."):  # half a tree must not be taken for a whole one
            path = path.rename(path.with_name(f".{path.name}.old"))
        shutil.rmtree(path)
    return size
