"""Making deltas: what changed is found, encoded by several threads, and packed into parts, in bounded memory.

Files are put beside files like them (xz finds more), contents that do not compress into parts of their own, which
are packed in a hurry. Neither depends on time or chance: the same commits give the same parts.

::

    folder/.part-RANDOM.tmp    parts, whole and synced
    folder/0, 1, 2, ...        renamed when all are there
    folder/superblock          last: a delta is there once it has one

A crash leaves files that the next generation there removes.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.durable import fsync_dir, map_os_error, write_file
from wherry.core.progress import QUIET, Progress
from wherry.core.trace import reach
from wherry.store.format import objects
from wherry.store.format.objects import ObjectType, object_name
from wherry.store.static_delta import names
from wherry.store.static_delta.build import PartBuilder
from wherry.store.static_delta.candidates import Changes, NewFile, find_changes
from wherry.store.static_delta.encode import Copied, Encoder, Encoding, Memory, Patched
from wherry.store.static_delta.superblock import Endianness, Fallback, NewPart, build_superblock

if TYPE_CHECKING:
    from wherry.store.repository import Repository

MEGABYTE = 1_000_000
_AHEAD_FILES = 256
_AHEAD_BYTES = 32 * 1024 * 1024
"""So much may have been read or encoded before it has its turn."""
_LARGE_BYTES = 4 * 1024 * 1024

Sign = Callable[[bytes], bytes]
"""Given a superblock, returns what is written in its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a delta is made."""

    min_fallback_bytes: int = 4 * MEGABYTE
    """Files over this that have no old one are fetched by themselves; 0: none is."""
    max_bsdiff_bytes: int = 128 * MEGABYTE
    """Old and new file together; 0: no patches."""
    max_chunk_bytes: int = 32 * MEGABYTE
    """A part's blob."""
    inline: bool = False
    endianness: Endianness = Endianness.LITTLE
    jobs: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    timestamp_s: int | None = None


@dataclass(slots=True, kw_only=True)
class Report:
    """What was made."""

    modified: int = 0
    new_metadata: int = 0
    new_files: int = 0
    new_symlinks: int = 0
    parts: list[NewPart] = field(default_factory=list)
    fallbacks: list[Fallback] = field(default_factory=list)
    copied: int = 0
    copied_bytes: int = 0
    patched: int = 0
    loose_bytes: int = 0
    superblock_bytes: int = 0

    @property
    def compressed_bytes(self) -> int:
        """Of all parts."""
        return sum(part.size_bytes for part in self.parts)

    @property
    def unpacked_bytes(self) -> int:
        """Of all objects in parts."""
        return sum(part.unpacked_bytes for part in self.parts)


def generate(
    repo: Repository,
    origin: Checksum | None,
    target: Checksum,
    *,
    options: Options | None = None,
    path: Path | None = None,
    sign: Sign | None = None,
    progress: Progress = QUIET,
) -> Report:
    """Makes a delta.

    Args:
        repo: where both commits are, whole.
        origin: what it leads from; None: from nothing.
        target: what it leads to.
        options: how.
        path: the superblock's file; parts lie beside it. None: where a pull looks for it.
        sign: signs the superblock.
        progress: is told how many files are done.

    Returns:
        What was made.

    Raises:
        NotFound: an object of the commits is missing.
        NoSpace: the disk is full.
        Unsupported: bsdiff is not installed here.
    """
    file = path or repo.path / names.delta_path(origin, target)
    try:
        if path is None:
            file.parent.mkdir(parents=True, exist_ok=True)
        _clean(file.parent)
        return _Generation(repo, origin, target, options or Options(), file, progress).run(sign)
    except OSError as error:
        raise map_os_error(error, "cannot write a delta", where=file.parent) from error


class _Generation:
    def __init__(
        self,
        repo: Repository,
        origin: Checksum | None,
        target: Checksum,
        options: Options,
        file: Path,
        progress: Progress,
    ) -> None:
        self._repo = repo
        self._origin = origin
        self._target = target
        self._options = options
        self._file = file
        self._progress = progress
        self._report = Report()
        self._builders: list[PartBuilder] = []
        self._finished: list[Future[NewPart]] = []
        self._stored: PartBuilder | None = None
        self._packed: PartBuilder | None = None
        self._encoder = Encoder(repo=repo, max_bsdiff_bytes=options.max_bsdiff_bytes, memory=Memory())

    def run(self, sign: Sign | None) -> Report:
        changes = find_changes(self._repo, self._origin, self._target)
        report = self._report
        report.modified = sum(1 for file in changes.files if file.sources)
        report.new_metadata = len(changes.metadata) + 1  # the commit too
        report.new_files = len(changes.files)
        report.new_symlinks = len(changes.symlinks)
        pool = ThreadPoolExecutor(max_workers=max(1, self._options.jobs))
        try:
            self._fill(changes, pool)
            report.parts = [future.result() for future in self._finished]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            for builder in self._builders:
                builder.close()
            _clean(self._file.parent)
            raise
        finally:
            pool.shutdown(wait=True)
        self._publish(sign)
        return report

    # --- filling parts

    def _fill(self, changes: Changes, pool: ThreadPoolExecutor) -> None:
        self._packed = self._new_part(compress=True)
        for kind, checksum in changes.metadata:
            data = self._repo.metadata_bytes(kind, checksum)
            self._room(len(data), pool).add_metadata(kind, checksum, data)
            self._report.loose_bytes += len(data)
        for link in sorted(changes.symlinks, key=lambda link: link.path):
            self._room(link.size, pool).add_symlink(link.checksum, link.header)
            self._report.loose_bytes += self._loose_size(link.checksum)
        files = sorted((file for file in changes.files if not self._falls_back(file)), key=_order)
        for file in changes.files:
            if self._falls_back(file):
                self._fall_back(file)
        for index, (file, encoding) in enumerate(self._encoded(files, pool)):
            self._progress.update("making the delta", index, len(files), unit="files")
            self._add(file, encoding, pool)
        self._finish(self._packed, pool)
        if self._stored is not None:
            self._finish(self._stored, pool)

    def _falls_back(self, file: NewFile) -> bool:
        """Tells whether a file is left out, to be fetched by itself: a large one that nothing can be spared of."""
        limit = self._options.min_fallback_bytes
        return bool(limit) and file.size > limit and not file.sources

    def _fall_back(self, file: NewFile) -> None:
        self._report.fallbacks.append(
            Fallback(
                kind=ObjectType.FILE,
                checksum=file.checksum,
                size_bytes=self._loose_size(file.checksum),
                unpacked_bytes=file.size,
            )
        )

    def _encoded(self, files: list[NewFile], pool: ThreadPoolExecutor) -> Iterator[tuple[NewFile, Encoding]]:
        """Gives files with their encodings, in their order; some are worked on ahead."""
        ahead: deque[tuple[NewFile, Future[Encoding]]] = deque()
        ahead_bytes = 0
        for file in files:
            while ahead and (len(ahead) >= _AHEAD_FILES or ahead_bytes + file.size > _AHEAD_BYTES):
                first, future = ahead.popleft()
                ahead_bytes -= first.size
                yield first, future.result()
            ahead.append((file, pool.submit(self._encoder.encode, file)))
            ahead_bytes += file.size
        while ahead:
            first, future = ahead.popleft()
            yield first, future.result()

    def _add(self, file: NewFile, encoding: Encoding, pool: ThreadPoolExecutor) -> None:
        report = self._report
        if isinstance(encoding, Patched):
            report.patched += 1
        elif isinstance(encoding, Copied):
            report.copied += 1
            report.copied_bytes += sum(match.length for match in encoding.matches)
        elif self._options.min_fallback_bytes and file.size > max(
            self._options.min_fallback_bytes, self._options.max_bsdiff_bytes // 2
        ):
            self._fall_back(file)
            return
        else:
            report.loose_bytes += self._loose_size(file.checksum)
            if not encoding.compressible and file.size >= _LARGE_BYTES:
                self._room_stored(file.size, pool).add_file(file.checksum, file.header, file.size, encoding)
                return
        self._room(len(encoding.data), pool).add_file(file.checksum, file.header, file.size, encoding)

    def _room(self, size: int, pool: ThreadPoolExecutor) -> PartBuilder:
        """Returns the part that is being filled, or a new one when `size` more would be too much for it."""
        builder = self._packed
        if builder is None or (len(builder) and builder.blob_bytes + size > self._options.max_chunk_bytes):
            if builder is not None:
                self._finish(builder, pool)
            builder = self._packed = self._new_part(compress=True)
        return builder

    def _room_stored(self, size: int, pool: ThreadPoolExecutor) -> PartBuilder:
        builder = self._stored
        if builder is None or (len(builder) and builder.blob_bytes + size > self._options.max_chunk_bytes):
            if builder is not None:
                self._finish(builder, pool)
            builder = self._stored = self._new_part(compress=False)
        return builder

    def _new_part(self, *, compress: bool) -> PartBuilder:
        builder = PartBuilder(self._file.parent, compress=compress)
        self._builders.append(builder)
        return builder

    def _finish(self, builder: PartBuilder, pool: ThreadPoolExecutor) -> None:
        def finish() -> NewPart:
            with self._encoder.memory.take(builder.memory_needed()):
                return builder.finish()

        self._finished.append(pool.submit(finish))

    def _loose_size(self, checksum: Checksum) -> int:
        name = object_name(ObjectType.FILE, checksum, self._repo.mode)
        return os.lstat(self._repo.objects_dir / name).st_size

    # --- writing the superblock

    def _publish(self, sign: Sign | None) -> None:
        report, options, folder = self._report, self._options, self._file.parent
        detached = self._repo.read_detached(self._target)
        data = build_superblock(
            origin=self._origin,
            target=self._target,
            commit_bytes=self._repo.metadata_bytes(ObjectType.COMMIT, self._target),
            timestamp_s=int(time.time()) if options.timestamp_s is None else options.timestamp_s,
            parts=report.parts,
            fallbacks=report.fallbacks,
            endianness=options.endianness,
            detached=objects.serialize_dict(detached) if detached else None,
            inline=options.inline,
        )
        if sign is not None:
            data = sign(data)
        report.superblock_bytes = len(data)
        for index, part in enumerate(report.parts):
            if options.inline:
                os.unlink(part.path)
            else:
                reach("store.delta.part.named")
                os.rename(part.path, folder / str(index))
        fsync_dir(folder)
        write_file(self._file, data)
        reach("store.delta.generated")
        _remove_parts(folder, 0 if options.inline else len(report.parts))
        fsync_dir(folder)


def _order(file: NewFile) -> tuple[int, str, str, str]:
    """Puts the largest first, since the threads must not wait for them in the end, then likes beside likes."""
    folder, _, name = file.path.rpartition("/")
    if file.size >= _LARGE_BYTES:
        return (-file.size, "", "", file.path)
    stem, dot, extension = name.rpartition(".")
    return (1, extension if dot and stem else "", name, folder)


def _clean(folder: Path) -> None:
    for path in folder.glob(".part-*.tmp"):
        path.unlink(missing_ok=True)


def _remove_parts(folder: Path, first: int) -> None:
    """Removes the parts of a delta that lay here before."""
    index = first
    while (folder / str(index)).is_file():
        (folder / str(index)).unlink()
        index += 1
