"""``--output``: what a build came to as files, an archive of files, or an archive of the image.

A folder gets the files of the image laid over what is in it, everything the caller's, as docker has it. An archive of
files keeps owners. Of several platforms each has a folder of its own, ``linux_amd64/``; an archive of the image has
them all in one index. The same outcome gives the same bytes.

Source: docs.docker.com/build/exporters.
"""

from __future__ import annotations

import enum
import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from wherry.core.durable import make_dirs, replacing
from wherry.core.progress import QUIET, Progress

if TYPE_CHECKING:
    from wherry.image.catalog import ImageRecord
    from wherry.image.layertar import LayerTar
    from wherry.image.outgoing import OutgoingImage
    from wherry.image.outgoingindex import OutgoingIndex
    from wherry.image.reference import Reference
    from wherry.image.saving import Named
    from wherry.store.repository import Repository

STDOUT = "-"


class Kind(enum.StrEnum):
    """What is written; the words that a user types."""

    LOCAL = "local"
    TAR = "tar"
    OCI = "oci"
    DOCKER = "docker"
    IMAGE = "image"
    """An image in the store, as without any ``--output``."""
    REGISTRY = "registry"
    """The same, pushed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One ``--output``."""

    kind: Kind
    dest: str = ""
    """A file or a directory; `STDOUT` is standard output."""
    names: tuple[Reference, ...] = ()
    """In the place of those of ``--tag``."""
    push: bool = False
    folder: bool = False
    """Of ``oci``: a directory instead of an archive (``tar=false``)."""

    @property
    def in_store(self) -> bool:
        """Whether the image stays in the store."""
        return self.kind in (Kind.IMAGE, Kind.REGISTRY)


def write(
    repo: Repository,
    output: Output,
    images: Sequence[ImageRecord],
    names: Sequence[Reference],
    stdout: BinaryIO,
    *,
    progress: Progress = QUIET,
) -> None:
    """Writes one output that is not an image in the store.

    Args:
        repo: where the images' trees are.
        output: which.
        images: one for each platform.
        names: what they are called; may be none.
        stdout: standard output.
        progress: is told how far it is.

    Raises:
        NoSpace: the disk is full.
    """
    if output.kind is Kind.LOCAL:
        _write_folder(repo, Path(output.dest), images)
    elif output.kind is Kind.TAR:
        archive = _archive(repo, images)
        with ExitStack() as stack:
            if output.dest == STDOUT:
                out = stdout
            elif os.path.exists(output.dest) and not os.path.isfile(output.dest):  # a device or a fifo is not replaced
                out = stack.enter_context(open(output.dest, "wb"))
            else:
                out = stack.enter_context(replacing(os.path.realpath(output.dest)))
            for piece in archive.pieces():
                out.write(piece)
            out.flush()
    else:
        _write_image(repo, output, images, output.names or names, stdout, progress)


def _write_folder(repo: Repository, top: Path, images: Sequence[ImageRecord]) -> None:
    from wherry.store.tree.checkout import Union, checkout

    for image in images:
        place = top / _folder_of(image) if len(images) > 1 else top
        make_dirs(place)
        checkout(repo, image.commit, place, user_mode=True, union=Union.FILES, force_copy=True)


def _folder_of(image: ImageRecord) -> str:
    return image.config.platform.replace("/", "_")


def _archive(repo: Repository, images: Sequence[ImageRecord]) -> LayerTar:
    """Returns the files of all images as one archive."""
    from wherry.image.layertar import LayerTar
    from wherry.store.format import objects
    from wherry.store.format.objects import DirMeta, DirTree, ObjectType

    time_s = max(image.created_s for image in images)
    loaded = [(_folder_of(image), repo.load_commit(image.commit)) for image in images]
    if len(loaded) == 1:
        return LayerTar(repo=repo, tree=loaded[0][1].tree, meta=loaded[0][1].meta, time_s=time_s)
    above = DirTree(dirs=tuple(sorted((name, commit.tree, commit.meta) for name, commit in loaded)))
    meta = DirMeta(uid=0, gid=0, mode=stat.S_IFDIR | 0o755)
    with repo.transaction() as transaction:
        return LayerTar(
            repo=repo,
            tree=transaction.write_metadata(ObjectType.DIRTREE, objects.serialize_dirtree(above)),
            meta=transaction.write_metadata(ObjectType.DIRMETA, objects.serialize_dirmeta(meta)),
            time_s=time_s,
        )


def _write_image(
    repo: Repository,
    output: Output,
    images: Sequence[ImageRecord],
    names: Sequence[Reference],
    stdout: BinaryIO,
    progress: Progress,
) -> None:
    from wherry.image.saving import Format, plan, save_archive, save_directory, write_archive

    form = Format.DOCKER_ARCHIVE if output.kind is Kind.DOCKER else Format.OCI_ARCHIVE
    files = plan(_named(repo, images, names, progress), Format.OCI_DIR if output.folder else form)
    if output.folder:
        save_directory(files, Path(output.dest), progress=progress)
    elif output.dest == STDOUT:
        write_archive(files, stdout, progress=progress)
        stdout.flush()
    else:
        save_archive(files, Path(output.dest), progress=progress)


def _named(
    repo: Repository, images: Sequence[ImageRecord], names: Sequence[Reference], progress: Progress
) -> list[Named]:
    from wherry.image.indexes import IndexRecord
    from wherry.image.outgoing import outgoing
    from wherry.image.outgoingindex import assemble_index
    from wherry.image.saving import Named

    members = tuple(outgoing(repo, image, progress=progress) for image in images)
    first = images[0]
    whole: OutgoingImage | OutgoingIndex = members[0]
    main = members[0]
    if len(images) > 1:
        index = IndexRecord(reference=first.reference, commit=first.commit, members=tuple(images), raw=b"")
        whole = assemble_index(index, members)
        main = members[images.index(index.main)]
    return [Named(leaving=whole, reference=name, main=main) for name in names or (None,)]
