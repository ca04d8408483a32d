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

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wherry.core import jsonio
from wherry.core.digest import Checksum, Digest
from wherry.core.errors import IntegrityError, InvalidInput, NotFound, Unsupported, UsageError
from wherry.core.progress import QUIET, Progress
from wherry.image import catalog
from wherry.image.blobs import ArchiveBlobs, DirectoryBlobs
from wherry.image.catalog import ImageRecord
from wherry.image.changes import apply_changes
from wherry.image.config import EPOCH, ImageConfig, make_config, parse_config
from wherry.image.dockersave import is_docker_archive, read_docker_archive
from wherry.image.layers import Flattener
from wherry.image.layout import is_layout, read_layout
from wherry.image.packed import LayerBlob, PackedImage
from wherry.image.platforms import ELF_HEAD_BYTES, TELLING_FILES, Platform, architecture_of
from wherry.image.recognise import recognise
from wherry.image.reference import Reference
from wherry.linux import usernamespace
from wherry.store.repository import Repository
from wherry.store.tree.commit import commit_tree, write_directory
from wherry.store.tree.compression import HashingReader, decompressed
from wherry.store.tree.modifier import OVERFLOW_ID, Modifier
from wherry.store.tree.mutable import TreeBuilder
from wherry.store.tree.tar import DEFAULT_LIMITS, Limits, TarReader


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """An image's tree, written, and its config."""

    tree: Checksum
    meta: Checksum
    size_bytes: int
    config: ImageConfig
    digest: Digest
    names: tuple[str, ...] = ()


def import_image(
    repo: Repository,
    source: str,
    *,
    name: str | None = None,
    changes: Sequence[str] = (),
    platform: str | None = None,
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
    )
    with repo.transaction():
        content = work.read(source)
        if reference is None:
            reference = _own_name(content.names, source)
        if reference.digest not in (None, content.digest):
            raise IntegrityError(f"the image has the digest {content.digest}", where=str(reference))
        commit = commit_tree(
            repo,
            content.tree,
            content.meta,
            subject=f"image {reference}",
            timestamp_s=content.config.created_s,
            metadata={
                catalog.CONFIG_KEY: content.config.raw.decode(),
                catalog.DIGEST_KEY: content.digest,
                catalog.REFERENCE_KEY: str(reference),
                catalog.SIZE_KEY: content.size_bytes,
            },
            ref=reference.ref,
        )
    return ImageRecord(
        reference=reference,
        commit=commit,
        digest=content.digest,
        config=content.config,
        size_bytes=content.size_bytes,
        created_s=content.config.created_s,
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
        config = parse_config(packed.config, where=path)
        if packed.complete and len(config.diff_ids) != len(packed.layers):
            raise InvalidInput(f"{len(packed.layers)} layers, but a config for {len(config.diff_ids)}", where=path)
        flat = Flattener(repo=self.repo, tree=TreeBuilder(self.repo), note=self.note)
        total = sum(layer.size for layer in packed.layers)
        diff_ids: list[Digest] = []
        done = plain_bytes = 0
        for index, layer in enumerate(packed.layers):
            expected = config.diff_ids[index] if packed.complete else None
            limits = replace(self.limits, total_bytes=self.limits.total_bytes - plain_bytes)
            diff_id, size = self._layer(flat, layer, expected, limits, done, total)
            diff_ids.append(diff_id)
            done += layer.size
            plain_bytes += size
        if not packed.complete:
            document = config.document()
            document["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
            config = make_config(document, where=path)
        self._check_platform(config)
        changed = self._changed(config)
        digest = packed.digest if packed.digest is not None and changed is config else changed.digest
        return self._written(flat, changed, digest, packed.names)

    def _layer(
        self, flat: Flattener, layer: LayerBlob, expected: Digest | None, limits: Limits, done: int, total: int
    ) -> tuple[Digest, int]:
        """Applies one layer; returns digest and size of its uncompressed form."""
        with layer.blobs.open(layer.name) as file:
            packed = HashingReader(
                file,
                where=layer.where,
                told=lambda size: self.progress.update("importing", done + size, total, unit="B"),
            )
            try:
                plain = HashingReader(
                    decompressed(packed, where=layer.where), max_bytes=limits.total_bytes, where=layer.where
                )
                reader = TarReader(plain, where=layer.where, limits=limits, needs_end=expected is None)
                flat.apply(reader, where=layer.where)
                plain.drain()
            except (IntegrityError, InvalidInput, Unsupported):
                if layer.digest is not None:  # a wrong digest says more than what is wrong inside
                    packed.check(layer.digest, "a layer")
                raise
            if layer.digest is not None:
                packed.check(layer.digest, "a layer")
            if expected is not None:
                plain.check(expected, "an uncompressed layer")
        return plain.digest, plain.size

    def _root_tar(self, path: Path) -> _Content:
        flat = Flattener(repo=self.repo, tree=TreeBuilder(self.repo), note=self.note)
        file = path.resolve()
        blobs = DirectoryBlobs(file.parent)
        layer = LayerBlob(blobs=blobs, name=file.name, where=str(path), size=blobs.size(file.name))
        diff_id, _ = self._layer(flat, layer, None, self.limits, 0, layer.size)
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
        whole = jsonio.canonical({"config": config.digest, "dirmeta": content.meta, "dirtree": content.tree})
        return replace(content, digest=Digest("sha256:" + hashlib.sha256(whole).hexdigest()))

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


def tree_size(repo: Repository, tree: Checksum, sizes: dict[Checksum, int] | None = None) -> int:
    """Returns the sum of the sizes of all files below a directory; `sizes` are those that are known already."""
    sizes = {} if sizes is None else sizes
    entries = repo.load_dirtree(tree)
    total = 0
    for _, checksum in entries.files:
        size = sizes.get(checksum)
        if size is None:
            size = sizes[checksum] = file_size(repo, checksum)
        total += size
    return total + sum(tree_size(repo, below, sizes) for _, below, _ in entries.dirs)


def file_size(repo: Repository, checksum: Checksum) -> int:
    """Returns the bytes of a regular file's content; 0 for a symbolic link."""
    _, content = repo.load_file(checksum)
    if content is None:
        return 0
    with content:
        try:
            return os.fstat(content.fileno()).st_size
        except OSError:  # inflated on the fly: an archive repository
            return sum(map(len, iter(lambda: content.read(1 << 20), b"")))
