"""Images that are made of a root tree: a directory, or a root tar. What no config says is found out here."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry.core.digest import Checksum, Digest
from wherry.core.errors import InvalidInput
from wherry.core.progress import QUIET, Progress
from wherry.image.changes import apply_changes
from wherry.image.config import EPOCH, ImageConfig, make_config
from wherry.image.layers import Flattener, is_kept_xattr
from wherry.image.platforms import ELF_HEAD_BYTES, TELLING_FILES, Platform, architecture_of
from wherry.image.recording import tree_digest
from wherry.image.unpacking import Unpacker, tree_size
from wherry.linux import usernamespace
from wherry.store.format.objects import DirMeta
from wherry.store.tree.commit import write_directory
from wherry.store.tree.modifier import OVERFLOW_ID, Modifier
from wherry.store.tree.mutable import TreeBuilder
from wherry.store.tree.tar import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from wherry.image.packed import LayerBlob
    from wherry.store.repository import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """An image's tree, written, and its config."""

    tree: Checksum
    meta: Checksum
    size_bytes: int
    config: ImageConfig
    digest: Digest
    manifest: bytes = b""
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A directory that is, or becomes part of, a root tree."""

    path: Path
    at: str = ""
    """Where in the tree it belongs: ``usr``, ``boot/efi``; "" for the root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """How root trees become images. Use it within ``with repo.transaction()``."""

    repo: Repository
    changes: Sequence[str] = ()
    platform: Platform | None = None
    """What they are for; None: their programs say."""
    limits: Limits = DEFAULT_LIMITS
    progress: Progress = QUIET
    note: Callable[[str], None] = lambda text: None

    def from_tar(self, layer: LayerBlob, *, empty: Sequence[str] = ()) -> Content:
        """Reads a root tar.

        Args:
            layer: the archive.
            empty: directories at the top that are made where they are not in it.
        """
        flat = self._flattener()
        unpacker = Unpacker(repo=self.repo, note=self.note, limits=self.limits, progress=self.progress)
        diff_id = unpacker.unpack_single(flat, layer)
        for name in empty:
            if flat.tree.lookup(name) is None:
                flat.tree.mkdir(name, DirMeta(uid=0, gid=0, mode=stat.S_IFDIR | (0o1777 if name == "tmp" else 0o755)))
        config = self.changed(self._new_config(flat, [diff_id]))
        return self._written(flat, config, config.digest)

    def from_directories(self, places: Sequence[Place], *, left_out: Callable[[str], bool] | None = None) -> Content:
        """Reads a root tree.

        Args:
            places: the root first, then what else belongs to it.
            left_out: called with each path in the whole tree, such as ``/var/tmp``; True leaves it out.

        Raises:
            InvalidInput: something in it cannot be stored, or there is too much of it.
        """
        # without root: a tree that somebody else made is a tree of root's, as it would be if root imported it
        apart = usernamespace.inside()
        modifier = Modifier(skip_special=True, unknown_to_root=apart, keeps_xattr=is_kept_xattr)
        flat = self._flattener()
        for place in places:
            check_size(place.path, self.limits)
            skip = _below(left_out, place.at) if left_out is not None else None
            tree, meta = write_directory(self.repo, place.path, replace(modifier, skip=skip), progress=self.progress)
            if place.at and flat.tree.lookup(place.at) is None:
                flat.tree.mkdir(place.at, parents=True)
            flat.tree.overlay_tree(tree, meta, place.at)
        if apart and os.stat(places[0].path).st_uid == OVERFLOW_ID:
            self.note("files that are neither this user's nor of their subordinate ids are root's in the image")
        config = self.changed(self._new_config(flat, []))
        tree, meta = flat.tree.write()
        return self._written(flat, config, tree_digest(config, tree, meta))

    def changed(self, config: ImageConfig) -> ImageConfig:
        """Returns a config with ``--change`` done to it."""
        if not self.changes:
            return config
        document = config.document()
        document["config"] = apply_changes(document.get("config") or {}, self.changes)
        return make_config(document, where="--change")

    def _flattener(self) -> Flattener:
        return Flattener(repo=self.repo, tree=TreeBuilder(self.repo), note=self.note)

    def _written(self, flat: Flattener, config: ImageConfig, digest: Digest) -> Content:
        tree, meta = flat.tree.write()
        size = tree_size(self.repo, tree, flat.sizes)
        return Content(tree=tree, meta=meta, size_bytes=size, config=config, digest=digest)

    def _new_config(self, flat: Flattener, diff_ids: list[Digest]) -> ImageConfig:
        found = self.platform or Platform(architecture=_architecture(self.repo, flat))
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


def _below(left_out: Callable[[str], bool], at: str) -> Callable[[str], bool]:
    """Returns the same question for paths below a part of the tree."""
    return lambda path: left_out(f"/{at}{path}" if at else path)


def check_size(path: Path, limits: Limits) -> None:
    """Refuses a directory tree of more than there may be, before any of it is read.

    Raises:
        InvalidInput: too many entries, a file that is too long, or too much of all.
    """
    entries = total = 0
    pending = [os.fspath(path)]
    while pending:
        folder = pending.pop()
        with os.scandir(folder) as found:
            for entry in found:
                entries += 1
                if entries > limits.entries:
                    raise InvalidInput(f"more than {limits.entries} files", where=path)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                    continue
                if not entry.is_file(follow_symlinks=False):
                    continue
                size = entry.stat(follow_symlinks=False).st_size
                if size > limits.file_bytes:
                    raise InvalidInput(f"a file of {size} bytes: {entry.name[:80]!r}", where=path)
                total += size
                if total > limits.total_bytes:
                    raise InvalidInput(
                        f"more than {limits.total_bytes} bytes of files", where=path, hint="see --max-size"
                    )


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
