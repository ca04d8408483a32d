"""The layers of an image become one tree of the store, each checked while it is read.

Layers that an earlier image began with are not read again (`layercache.py`): what only names a blob, such as a
registry, is asked for none of them. Where blobs are kept (`kept.py`), each is written down as it passes by.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum, Digest
from wherry.core.errors import IntegrityError, InvalidInput, Unsupported
from wherry.core.progress import QUIET, Progress
from wherry.image import layercache
from wherry.image.config import ImageConfig, make_config, parse_config
from wherry.image.kept import KeptBlobs, KeptWriter
from wherry.image.layers import Flattener
from wherry.image.packed import LayerBlob, PackedImage
from wherry.store.tree.compression import HashingReader, decompressed
from wherry.store.tree.mutable import TreeBuilder
from wherry.store.tree.tar import DEFAULT_LIMITS, FREE_BYTES, Limits, TarReader

if TYPE_CHECKING:
    from wherry.store.repository import Repository
    from wherry.store.tree.compression import Readable


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """The tree that an image's layers make."""

    tree: Checksum
    meta: Checksum
    size_bytes: int
    config: ImageConfig
    reused_layers: int = 0
    """How many of the first layers were not read, as they had been unpacked before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacker:
    """How images are unpacked. Use it within ``with repo.transaction()``."""

    repo: Repository
    note: Callable[[str], None] = lambda text: None
    """Told about what is left out."""
    limits: Limits = DEFAULT_LIMITS
    progress: Progress = QUIET
    keep: KeptBlobs | None = None
    """Where the layers' blobs are kept, too; None: nowhere."""

    def unpack(self, packed: PackedImage, *, where: object) -> Unpacked:
        """Lays an image's layers over one another.

        Args:
            packed: the image.
            where: its name, for errors.

        Raises:
            InvalidInput: it is malformed, or has a name in it that no image may have.
            IntegrityError: a layer has not the digest that it should have, or is cut short.
            NotFound: a blob is not there.
        """
        config = parse_config(packed.config, where=where)
        if packed.complete and len(config.diff_ids) != len(packed.layers):
            raise InvalidInput(f"{len(packed.layers)} layers, but a config for {len(config.diff_ids)}", where=where)
        known = layercache.find(self.repo, config.diff_ids) if packed.complete else None
        flat = Flattener(repo=self.repo, tree=TreeBuilder(self.repo), note=self.note)
        if known is not None:
            flat.tree.overlay_tree(known.tree, known.meta)
        skipped = known.layers if known else 0
        total = sum(layer.size for layer in packed.layers)
        diff_ids: list[Digest] = list(config.diff_ids[:skipped])
        plain_bytes = known.plain_bytes if known else 0
        done = 0
        for index, layer in enumerate(packed.layers):
            expected = config.diff_ids[index] if packed.complete else None
            if index < skipped:
                self._keep_only(layer, expected, done, total)
            else:
                diff_id, size = self._layer(flat, layer, expected, plain_bytes, done, total)
                diff_ids.append(diff_id)
                plain_bytes += size
                self._remember(flat, diff_ids, plain_bytes)
            done += layer.size
        if not packed.complete:
            document = config.document()
            document["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
            config = make_config(document, where=where)
        tree, meta = flat.tree.write()
        return Unpacked(
            tree=tree,
            meta=meta,
            size_bytes=tree_size(self.repo, tree, flat.sizes),
            config=config,
            reused_layers=skipped,
        )

    def unpack_single(self, flat: Flattener, layer: LayerBlob) -> Digest:
        """Lays one archive over a tree; returns the digest of its uncompressed form."""
        return self._layer(flat, layer, None, 0, 0, layer.size)[0]

    def _remember(self, flat: Flattener, diff_ids: list[Digest], plain_bytes: int) -> None:
        tree, meta = flat.tree.write()
        chain = layercache.chain_ids(diff_ids)[-1]
        layercache.remember(self.repo, chain, tree=tree, meta=meta, plain_bytes=plain_bytes)

    def check(self, layer: LayerBlob, expected: Digest) -> None:
        """Reads a layer, and holds it against what the config says that it is uncompressed.

        Raises:
            IntegrityError: it has another digest, compressed or not, or is cut short.
        """
        self._layer(None, layer, expected, 0, 0, layer.size)

    def _keep_only(self, layer: LayerBlob, expected: Digest | None, done: int, total: int) -> None:
        """Keeps the blob of a layer whose tree is known already, once it is seen to be that layer."""
        if self.keep is not None and layer.digest is not None and not self.keep.has(layer.digest):
            self._layer(None, layer, expected, 0, done, total)

    def _layer(
        self,
        flat: Flattener | None,
        layer: LayerBlob,
        expected: Digest | None,
        before_bytes: int,
        done: int,
        total: int,
    ) -> tuple[Digest, int]:
        """Reads one layer, and applies it unless there is nothing to apply it to.

        Returns:
            Digest and size of its uncompressed form.
        """
        limits = replace(self.limits, total_bytes=self.limits.total_bytes - before_bytes)
        with ExitStack() as stack:
            file: Readable = stack.enter_context(layer.blobs.open(layer.name))
            writer: KeptWriter | None = None
            if self.keep is not None and layer.digest is not None and not self.keep.has(layer.digest):
                writer = stack.enter_context(self.keep.writer())
                file = _Copying(file, writer)
            packed = HashingReader(
                file,
                where=layer.where,
                told=lambda size: self.progress.update("importing", done + size, total or None, unit="B"),
            )
            try:
                plain = HashingReader(
                    decompressed(packed, where=layer.where),
                    max_bytes=limits.total_bytes,
                    where=layer.where,
                    told=lambda size: _check_ratio(size, packed.size, limits.ratio, layer.where),
                )
                if flat is not None:
                    reader = TarReader(plain, where=layer.where, limits=limits, needs_end=expected is None, sparse=True)
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
            if writer is not None and layer.digest is not None:
                writer.finish(layer.digest)
        return plain.digest, plain.size


def _check_ratio(plain_bytes: int, packed_bytes: int, ratio: int, where: object) -> None:
    """Refuses an archive that comes to far more than its compressed size: a bomb."""
    if plain_bytes > FREE_BYTES and plain_bytes > ratio * packed_bytes:
        raise InvalidInput(
            f"a few bytes that come to very many: {plain_bytes} from {packed_bytes}",
            where=where,
            hint="if they are meant to, say how many there may be with --max-size",
        )


class _Copying:
    """A stream whose bytes are kept as they are read."""

    def __init__(self, inner: Readable, writer: KeptWriter) -> None:
        self._inner, self._writer = inner, writer

    def read(self, size: int, /) -> bytes:
        data = self._inner.read(size)
        self._writer.write(data)
        return data


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


def brought_bytes(repo: Repository, old: Checksum | None, new: Checksum) -> int:
    """Returns the bytes of the files below `new` that are not the same below `old`; equal directories are not read."""
    if old == new:
        return 0
    after = repo.load_dirtree(new)
    before = repo.load_dirtree(old) if old is not None else None
    files = dict(before.files) if before is not None else {}
    dirs = {name: tree for name, tree, _ in before.dirs} if before is not None else {}
    total = sum(file_size(repo, checksum) for name, checksum in after.files if files.get(name) != checksum)
    return total + sum(brought_bytes(repo, dirs.get(name), tree) for name, tree, _ in after.dirs)


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
