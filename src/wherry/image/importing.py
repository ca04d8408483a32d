"""Bringing an image into the store: from a root tree, a root tar, an OCI layout or a ``docker save`` archive.

An image becomes one commit of its flattened tree (``catalog.py`` says what stands in its metadata). The same source
gives the same commit, on any machine and in any repository: the time is the image's own or 0, the tree is sorted,
and nothing of the importing machine goes in. All of it is one transaction: after an error nothing is there.

====================  =====================================================================================
source                the digest that names it
====================  =====================================================================================
OCI layout            of the platform's manifest
``docker save``       of the config (docker's image ID), as there is no manifest
root tar              of the config made here, which names the digest of the uncompressed archive
root tree             of config, dirtree and dirmeta together
====================  =====================================================================================
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wherry.core.digest import Checksum, Digest
from wherry.core.errors import InvalidInput, NotFound, UsageError
from wherry.core.progress import QUIET, Progress
from wherry.image.blobs import ArchiveBlobs, DirectoryBlobs
from wherry.image.catalog import ImageRecord
from wherry.image.changes import apply_changes
from wherry.image.config import EPOCH, ImageConfig, make_config
from wherry.image.dockersave import is_docker_archive, read_docker_archive
from wherry.image.kept import KeptBlobs
from wherry.image.layers import Flattener
from wherry.image.layout import is_layout, read_layout
from wherry.image.packed import LayerBlob, PackedImage
from wherry.image.platforms import ELF_HEAD_BYTES, TELLING_FILES, Platform, architecture_of
from wherry.image.recognise import recognise
from wherry.image.recording import record_image, tree_digest
from wherry.image.reference import Reference
from wherry.image.unpacking import Unpacker, tree_size
from wherry.linux import usernamespace
from wherry.store.repository import Repository
from wherry.store.tree.commit import write_directory
from wherry.store.tree.modifier import OVERFLOW_ID, Modifier
from wherry.store.tree.mutable import TreeBuilder
from wherry.store.tree.tar import DEFAULT_LIMITS, Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """An image's tree, written, and its config."""

    tree: Checksum
    meta: Checksum
    size_bytes: int
    config: ImageConfig
    digest: Digest
    manifest: bytes = b""
    names: tuple[str, ...] = ()


def import_image(
    repo: Repository,
    source: str,
    *,
    name: str | None = None,
    changes: Sequence[str] = (),
    platform: str | None = None,
    keep_layers: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress = QUIET,
    note: Callable[[str], None] = lambda text: None,
) -> ImageRecord:
    """Imports an image and names it.

    Args:
        repo: where it goes.
        source: a directory or a file, recognised by what is in it; or ``oci:DIR[:TAG]``, ``oci-archive:FILE[:TAG]``,
            ``docker-archive:FILE[:NAME]``, ``dir:DIR``, ``tar:FILE``.
        name: the reference that it gets; None: the one that the source gives it.
        changes: ``CMD ["x"]``, ``ENV A=b`` ..., done to the config; see ``changes.py``.
        platform: which one to take where there are several, such as ``linux/arm64``; None: this machine's.
        keep_layers: whether compressed layers are kept as they are, so that the image can be pushed again unchanged.
        limits: how much to take.
        progress: is told how many bytes, or files, have been read.
        note: is told what was left out.

    Returns:
        The image; its ref is set and durable.

    Raises:
        NotFound: there is no such source, or no such image in it.
        InvalidInput: it is malformed, or `name` is.
        IntegrityError: something has not the digest that it should have, or is cut short.
        UsageError: no name was given and the source has none.
    """
    reference = Reference.parse(name) if name is not None else None
    work = _Import(
        repo=repo,
        changes=changes,
        wanted=Platform.parse(platform) if platform else Platform.of_this_machine(),
        explicit=platform is not None,
        limits=limits,
        progress=progress,
        note=note,
        keep=KeptBlobs(repo) if keep_layers else None,
    )
    with repo.transaction():
        content = work.read(source)
        if reference is None:
            reference = _own_name(content.names, source)
        return record_image(
            repo,
            reference,
            tree=content.tree,
            meta=content.meta,
            size_bytes=content.size_bytes,
            config=content.config,
            digest=content.digest,
            manifest=content.manifest,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Import:
    repo: Repository
    changes: Sequence[str]
    wanted: Platform
    explicit: bool
    limits: Limits
    progress: Progress
    note: Callable[[str], None]
    keep: KeptBlobs | None

    def read(self, source: str) -> _Content:
        """Finds out what `source` is, and writes its tree."""
        kind, path, choice = recognise(source, self.limits)
        if kind == "dir":
            return self._directory(path)
        if kind == "tar":
            return self._root_tar(path)
        with self._packed(kind, path, choice) as packed:
            return self._layers(packed, path)

    @contextmanager
    def _packed(self, kind: str, path: Path, choice: str | None) -> Iterator[PackedImage]:
        if kind == "oci" and path.is_dir():
            yield read_layout(DirectoryBlobs(path), tag=choice, platform=self.wanted, where=path)
            return
        blobs = ArchiveBlobs(path, scratch=self.repo.path / "tmp", limits=self.limits)
        try:
            if kind != "docker-archive" and is_layout(blobs):
                yield read_layout(blobs, tag=choice, platform=self.wanted, where=path)
            elif is_docker_archive(blobs):
                yield read_docker_archive(blobs, name=choice, where=path)
            else:
                raise InvalidInput("neither an image layout nor a docker archive", where=path)
        finally:
            blobs.close()

    # --- trees

    def _layers(self, packed: PackedImage, path: Path) -> _Content:
        found = self._unpacker().unpack(packed, where=path)
        self._check_platform(found.config)
        changed = self._changed(found.config)
        same = packed.digest is not None and changed is found.config
        return _Content(
            tree=found.tree,
            meta=found.meta,
            size_bytes=found.size_bytes,
            config=changed,
            digest=packed.digest if packed.digest is not None and same else changed.digest,
            manifest=packed.manifest if same else b"",
            names=packed.names,
        )

    def _unpacker(self) -> Unpacker:
        return Unpacker(repo=self.repo, note=self.note, limits=self.limits, progress=self.progress, keep=self.keep)

    def _root_tar(self, path: Path) -> _Content:
        flat = Flattener(repo=self.repo, tree=TreeBuilder(self.repo), note=self.note)
        file = path.resolve()
        blobs = DirectoryBlobs(file.parent)
        layer = LayerBlob(blobs=blobs, name=file.name, where=str(path), size=blobs.size(file.name))
        diff_id = self._unpacker().unpack_single(flat, layer)
        config = self._changed(self._new_config(flat, [diff_id]))
        return self._written(flat, config, config.digest, ())

    def _directory(self, path: Path) -> _Content:
        # without root: a tree that somebody else made is a tree of root's, as it would be if root imported it
        apart = usernamespace.inside()
        modifier = Modifier(skip_special=True, unknown_to_root=apart)
        tree, meta = write_directory(self.repo, path, modifier, progress=self.progress)
        if apart and os.stat(path).st_uid == OVERFLOW_ID:
            self.note("files that are neither this user's nor of their subordinate ids are root's in the image")
        flat = Flattener(repo=self.repo, tree=TreeBuilder(self.repo), note=self.note)
        flat.tree.overlay_tree(tree, meta)
        config = self._changed(self._new_config(flat, []))
        content = self._written(flat, config, config.digest, ())
        return replace(content, digest=tree_digest(config, content.tree, content.meta))

    def _written(self, flat: Flattener, config: ImageConfig, digest: Digest, names: tuple[str, ...]) -> _Content:
        tree, meta = flat.tree.write()
        size = tree_size(self.repo, tree, flat.sizes)
        return _Content(tree=tree, meta=meta, size_bytes=size, config=config, digest=digest, names=names)

    # --- configs

    def _new_config(self, flat: Flattener, diff_ids: list[Digest]) -> ImageConfig:
        found = self.wanted if self.explicit else Platform(architecture=_architecture(self.repo, flat))
        document: dict[str, Any] = {
            "architecture": found.architecture,
            "config": {},
            "created": EPOCH,
            "os": found.os,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        if found.variant:
            document["variant"] = found.variant
        return make_config(document)

    def _changed(self, config: ImageConfig) -> ImageConfig:
        if not self.changes:
            return config
        document = config.document()
        document["config"] = apply_changes(document.get("config") or {}, self.changes)
        return make_config(document, where="--change")

    def _check_platform(self, config: ImageConfig) -> None:
        if not config.architecture or (config.os, config.architecture) == (self.wanted.os, self.wanted.architecture):
            return
        if self.explicit:
            raise NotFound(f"the image is for {config.platform}, not for {self.wanted}")
        self.note(f"the image is for {config.platform}; this machine is {self.wanted}")


def _own_name(names: tuple[str, ...], source: str) -> Reference:
    for name in names:
        try:
            reference = Reference.parse(name)
        except InvalidInput:
            continue
        if ":" in name or "/" in name:  # a bare word in a layout is a tag, not a name
            return reference
    raise UsageError("the source does not say what the image is called", where=source, hint="give --name")


def _architecture(repo: Repository, flat: Flattener) -> str:
    """Returns the architecture of a well-known program of a root tree; "" when none says."""
    for name in TELLING_FILES:
        try:
            path = flat.follow(name)
        except InvalidInput:
            continue
        found = flat.tree.lookup(path) if path is not None else None
        if not isinstance(found, str):
            continue
        _, content = repo.load_file(found)
        if content is None:
            continue
        with content:
            architecture = architecture_of(content.read(ELF_HEAD_BYTES))
        if architecture:
            return architecture
    return ""
