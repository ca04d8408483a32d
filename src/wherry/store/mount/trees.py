"""A commit's tree as a folder: mounted where the kernel can, else laid out as files and mounted from there.

``mount_commit`` brings together the parts: ``images.py`` (what is kept), ``mounting.py`` (the kernel) and fs-verity.
With verity the chain has no gap: each object is measured by the kernel, then checked against its name, which the commit
reaches; the image holds the kernel's digests, and the kernel checks every read against them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from wherry.core.digest import Checksum
from wherry.core.durable import map_os_error
from wherry.core.errors import IntegrityError, NotFound, Unsupported
from wherry.core.progress import QUIET, Progress
from wherry.linux import fsverity
from wherry.store.config import Config
from wherry.store.format import objects
from wherry.store.format.objects import Mode, ObjectType
from wherry.store.mount import images, verity
from wherry.store.mount.composefs import expected_digest
from wherry.store.mount.images import Kind
from wherry.store.mount.mounting import DataLayer, Plan, mount
from wherry.store.repository import Repository

_SECTION = "ex-integrity"
_READ_BYTES = 1024 * 1024
_PROGRESS_STEP = 100


class Verity(StrEnum):
    """Whether the kernel checks every read by fs-verity."""

    NO = "no"
    MAYBE = "maybe"
    """Where file system and kernel can."""
    REQUIRE = "require"


@dataclass(frozen=True, slots=True, kw_only=True)
class MountedTree:
    """What was done."""

    commit: Checksum
    target: Path
    how: str
    """``composefs``, or ``checkout`` where the kernel cannot mount an image."""
    data_layer: DataLayer | None
    loop: bool
    read_only: bool
    verity: bool
    image: Path | None
    """Where it is kept."""


def configured_verity(config: Config) -> Verity:
    """Returns what a repository's config asks for, by OSTree's keys ``ex-integrity.fsverity`` and ``.composefs``."""
    words = {"yes": Verity.REQUIRE, "true": Verity.REQUIRE, "1": Verity.REQUIRE, "maybe": Verity.MAYBE}
    composefs = words.get(config.get(_SECTION, "composefs"), Verity.NO)
    default = "no" if composefs is Verity.NO else "maybe"
    return words.get(config.get(_SECTION, "fsverity", default), Verity.NO)


def mount_commit(
    repo: Repository,
    commit: Checksum,
    target: Path,
    *,
    check: Verity | None = None,
    upper: Path | None = None,
    work: Path | None = None,
    in_memory: bool = False,
    flags: int = 0,
    data_layers: tuple[DataLayer, ...] = (DataLayer.DATA_ONLY, DataLayer.LOWER),
    loop: bool | None = None,
    may_check_out: bool = True,
    progress: Progress = QUIET,
) -> MountedTree:
    """Mounts a commit's tree at a folder.

    Args:
        repo: of any mode but archive.
        commit: which.
        target: the folder to mount on.
        check: by fs-verity; None: as the repository's config says.
        upper: a folder that takes what is written; without, and without `in_memory`, nothing can be.
        work: an empty folder on the same file system as `upper`.
        in_memory: what is written goes to memory, and is gone with the mount.
        flags: further ``MS_*``.
        data_layers: how the objects are given to the kernel, in order of trial.
        loop: use a loop device; None: where it is needed.
        may_check_out: lay the tree out as files where the kernel cannot mount its image.
        progress: told of the objects that get verity.

    Raises:
        NotFound: an object is missing, or the folder.
        Unsupported: an archive; the kernel lacks overlayfs; verity is required and not to be had.
        NotPermitted: root is needed.
        IntegrityError: an object or the image is not what it should be.
    """
    wanted = configured_verity(repo.config) if check is None else check

    def plan(image: Path, *, verity: bool = False, checked_out: Path | None = None) -> Plan:
        return Plan(
            commit=commit,
            image=image,
            objects=repo.objects_dir.absolute(),
            target=target,
            upper=upper,
            work=work,
            in_memory=in_memory,
            verity=verity,
            flags=flags,
            data_layers=data_layers,
            loop=loop,
            checked_out=checked_out,
        )

    if wanted is not Verity.NO:
        try:
            with images.image(repo, commit, _prepare_verity(repo, commit, progress)) as path:
                _protect_image(repo, commit, path)
                return _told(plan(path, verity=True), path)
        except Unsupported:
            if wanted is Verity.REQUIRE:
                raise
    try:
        with images.image(repo, commit) as path:
            return _told(plan(path), path)
    except Unsupported:
        if not may_check_out or repo.mode is Mode.ARCHIVE:
            raise
    return _told(plan(Path(), checked_out=images.tree(repo, commit).absolute()), None)


def _told(plan: Plan, image: Path | None) -> MountedTree:
    done = mount(plan)
    return MountedTree(
        commit=done.commit,
        target=done.target.absolute(),
        how="composefs" if plan.checked_out is None else "checkout",
        data_layer=done.data_layer if plan.checked_out is None else None,
        loop=done.loop,
        read_only=done.read_only,
        verity=done.verity,
        image=image,
    )


def _prepare_verity(repo: Repository, commit: Checksum, progress: Progress) -> Kind:
    if repo.mode is not Mode.ARCHIVE:
        enable_verity(repo, commit, progress=progress)
    return images.kind_with_digests(repo, commit)


def _protect_image(repo: Repository, commit: Checksum, path: Path) -> None:
    """Has the kernel check the image too, and checks its digest against the commit's."""
    if not fsverity.enable_path(path):
        raise _no_verity(path)
    with open(path, "rb") as file:
        digest = fsverity.measure(file.fileno())
    expected = expected_digest(repo, commit)
    if expected is not None and digest != expected:
        raise IntegrityError(
            f"the image has the digest {digest.hex() if digest else '(none)'}, the commit says {expected.hex()}",
            where=path,
            hint="remove the file; it is made again",
        )


def _no_verity(path: Path) -> Unsupported:
    return Unsupported(
        "the file system has no fs-verity",
        where=path,
        hint="`tune2fs -O verity` on ext4, Linux 5.4 with CONFIG_FS_VERITY; or mount with --verity=no",
    )


def enable_verity(repo: Repository, commit: Checksum, *, progress: Progress = QUIET) -> int:
    """Has the kernel check every content of a commit from now on, and checks each object against its name before.

    Args:
        repo: not an archive.
        commit: all of its file objects get fs-verity.
        progress: told of each.

    Returns:
        How many objects got it; those that had it before are neither counted nor checked again.

    Raises:
        Unsupported: the file system has none.
        IntegrityError: an object is not what its name says.
        NotFound: an object is missing.
    """
    count = 0
    for seen, checksum in enumerate(_files(repo, commit)):
        path = repo.object_path(ObjectType.FILE, checksum)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise NotFound("a file of the commit is not in the repository", where=checksum) from None
        except OSError as error:
            if os.path.islink(path):
                continue
            raise map_os_error(error, "cannot open an object", where=path) from error
        try:
            if fsverity.measure(fd) is None:
                _enable(repo, checksum, fd, path)
                count += 1
        except OSError as error:
            raise map_os_error(error, "cannot enable fs-verity", where=path) from error
        finally:
            os.close(fd)
        if not seen % _PROGRESS_STEP:
            progress.update("enabling fs-verity", seen, None, unit="objects")
    return count


def _enable(repo: Repository, checksum: Checksum, fd: int, path: Path) -> None:
    """Enables verity on one object: first its bytes are checked, then the kernel must have measured those bytes."""
    header, content = repo.load_file(checksum)
    named = hashlib.sha256(objects.hash_head(header))
    measured = verity.Digester()
    if content is not None:
        with content:
            while piece := content.read(_READ_BYTES):
                named.update(piece)
                measured.update(piece)
    if named.hexdigest() != checksum:
        raise IntegrityError("an object is not what its name says", where=checksum, hint="run `wherry store fsck`")
    if not fsverity.enable(fd):
        raise _no_verity(path)
    if content is not None and fsverity.measure(fd) != measured.digest():
        raise IntegrityError("an object was changed meanwhile", where=checksum, hint="run `wherry store fsck`")


def _files(repo: Repository, commit: Checksum) -> Iterator[Checksum]:
    from wherry.store.tree.walk import reachable

    yield from reachable(repo, commit).of(ObjectType.FILE)
