"""How one new file is put into a delta: as it is, as stretches of an old file, or as a patch. The cheapest is taken.

What compresses is tried with zstd at a quick level, which tells what xz will make of it well enough to choose by.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.store.static_delta import bsdiff, rollsum
from wherry.store.static_delta.candidates import NewFile

if TYPE_CHECKING:
    from wherry.store.repository import Repository

MEMORY_BYTES = 256 * 1024 * 1024
"""What all that is worked on at a time may take together: files, what matches in them, and xz."""
_ESTIMATE_LEVEL = 3
_SAME_RATIO = 0.98
"""A patch must be at least this much smaller than the file, and what does not compress to this does not compress."""
_ESTIMATED_BYTES = 1024 * 1024
"""Up to this, old files are compared by what they spare; of larger ones zstd would not see all."""
_SOURCE_BYTES = 32
_LITERAL_OVERHEAD_BYTES = 4


@dataclass(frozen=True, slots=True)
class Whole:
    """The content as it is."""

    data: bytes
    compressible: bool


@dataclass(frozen=True, slots=True)
class Patched:
    """A bsdiff patch against an old file."""

    source: Checksum
    data: bytes


@dataclass(frozen=True, slots=True)
class Copied:
    """Stretches of an old file, and what lies between them."""

    source: Checksum
    data: bytes
    matches: tuple[rollsum.Match, ...]


Encoding = Whole | Patched | Copied


class Memory:
    """Lets those who work in parallel take so much memory together; one that needs more works alone."""

    def __init__(self, limit: int = MEMORY_BYTES) -> None:
        self._limit = limit
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def take(self, size: int) -> Iterator[None]:
        """Waits until there is room for `size` bytes."""
        size = min(size, self._limit)
        with self._changed:
            self._changed.wait_for(lambda: self._taken + size <= self._limit)
            self._taken += size
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._changed.notify_all()


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Encodes files; used by several threads."""

    repo: Repository
    max_bsdiff_bytes: int
    """Old and new file together; 0: no patches."""
    memory: Memory

    def encode(self, new: NewFile) -> Encoding:
        """Returns the cheapest way to bring one file."""
        with self.memory.take(self._needs(new)):
            data = self._read(new.checksum)
            plain = _compressed_size(data) if data else 0
            best: Encoding = Whole(data, plain < len(data) * _SAME_RATIO)
            cost = plain + _LITERAL_OVERHEAD_BYTES
            if not new.sources:
                return best
            checksum, old = self._likest(new, data)
            if old == data:
                return Copied(checksum, data, (rollsum.Match(0, 0, len(data)),))
            if len(old) + len(data) <= self.max_bsdiff_bytes:
                patch = bsdiff.diff(old, data)
                if _compressed_size(patch) + _SOURCE_BYTES < cost * _SAME_RATIO:
                    return Patched(checksum, patch)
                return best
            found = rollsum.matches(old, data)
            between = _between(data, found)
            if found and _compressed_size(between) + _SOURCE_BYTES + 8 * len(found) < cost * _SAME_RATIO:
                return Copied(checksum, data, tuple(found))
            return best

    def _needs(self, new: NewFile) -> int:
        if not new.sources:
            return 3 * new.size
        return bsdiff.memory_needed(new.size, new.size)

    def _read(self, checksum: Checksum) -> bytes:
        _, content = self.repo.load_file(checksum)
        if content is None:
            return b""
        with content:
            return content.read()

    def _likest(self, new: NewFile, data: bytes) -> tuple[Checksum, bytes]:
        """Returns the old file that spares most."""
        first = new.sources[0], self._read(new.sources[0])
        if len(new.sources) == 1 or max(len(data), len(first[1])) > _ESTIMATED_BYTES or first[1] == data:
            return first
        best, least = first, _compressed_size(data, first[1])
        for checksum in new.sources[1:]:
            old = self._read(checksum)
            if len(old) <= _ESTIMATED_BYTES and (size := _compressed_size(data, old)) < least:
                best, least = (checksum, old), size
        return best


def _between(data: bytes, matches: list[rollsum.Match]) -> bytes:
    parts = []
    at = 0
    for match in matches:
        parts.append(data[at : match.new])
        at = match.new + match.length
    parts.append(data[at:])
    return b"".join(parts)


def _compressed_size(data: bytes, old: bytes | None = None) -> int:
    """Returns about how long `data` is when it is compressed, knowing `old`."""
    import zstandard

    if old is None:
        return len(zstandard.ZstdCompressor(level=_ESTIMATE_LEVEL).compress(data))
    dictionary = zstandard.ZstdCompressionDict(old, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    window = max(10, min(27, (len(old) + len(data)).bit_length()))
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _ESTIMATE_LEVEL, window_log=window, source_size=len(data), dict_size=len(old)
    )
    return len(zstandard.ZstdCompressor(compression_params=parameters, dict_data=dictionary).compress(data))
