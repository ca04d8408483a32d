"""A device delta, made: every new object as differences to what is most like it.

Old files are searched by content across the whole old tree (similarity.py); a new one is laid beside the ranges that
are most like it, and matched byte by byte (match.py). Whatever is compressed is taken apart first, where it can be put
together again exactly (payload.py). Objects with large payloads come last and may copy from new objects too.

Matching is done by processes, compressing by threads. Memory does not grow with the size of a
file: it is cut into segments of ``SEGMENT_BYTES``, each laid beside ``WINDOW_BYTES`` of other content at most.
"""

from __future__ import annotations

import hashlib
import signal
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry.core.digest import Checksum
from wherry.core.durable import replacing
from wherry.core.errors import InvalidInput, Unsupported
from wherry.core.progress import QUIET, Progress
from wherry.linux.memory import give_memory_back
from wherry.linux.process import set_parent_death_signal
from wherry.store.delta import encoders
from wherry.store.delta.encoders import MAX_ENCODER_BYTES
from wherry.store.delta.format import Encoder, Head, Header, parse_head, serialize_head
from wherry.store.delta.inventory import Inventory, plain_path, take_inventory
from wherry.store.delta.orders import CHECKSUMS, NEW, OLD, ObjectOrder, SourceId
from wherry.store.delta.payload import view_size
from wherry.store.delta.sources import Name
from wherry.store.delta.views import Views
from wherry.store.delta.writer import PartWriter, Piece, Sign, write_delta
from wherry.store.format.objects import ObjectType

if TYPE_CHECKING:
    from wherry.store.delta.similarity import Candidate, Index, Picks, Wanted
    from wherry.store.repository import Repository

SEGMENT_BYTES = 4 * 1024 * 1024
WINDOW_BYTES = 10 * 1024 * 1024
LEAST_WINDOW_BYTES = 384 * 1024
LATE_BYTES = 1024 * 1024
"""Objects whose payloads come to this much are made last, of new objects too."""
BLOCK_BYTES = 4096
_AHEAD = 4
_RETURNED_BYTES = 512 * 1024
"""Longer than what the loops over pieces need: that is taken and given back all the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeOptions:
    """How a delta is made."""

    encoders: tuple[str, ...] = encoders.NAMES
    """Those that the devices have."""
    encoder_bytes: int = MAX_ENCODER_BYTES
    """How much memory one may take there, beside what applying takes itself."""
    threads: int = 2
    strong: bool = True
    """Whether to match in several passes, and to compress by LZMA where that is shorter."""
    signers: Sequence[Sign] = ()


def make_delta(
    repo: Repository,
    old: Iterable[Checksum],
    new: Iterable[Checksum],
    output: Path,
    *,
    options: MakeOptions | None = None,
    progress: Progress = QUIET,
) -> Head:
    """Makes a delta from some commits to others, and puts it durably at `output`.

    Args:
        repo: where both are, whole.
        old: what devices have; may be empty.
        new: what they are to have.
        output: where to.
        options: how.
        progress: is told how many bytes have been matched.

    Returns:
        Its head.

    Raises:
        NotFound: a commit, or an object of one, is not here.
        Unsupported: numpy is not installed.
    """
    try:
        import numpy  # noqa: F401 a clear word instead of a traceback
    except ImportError:
        raise Unsupported("making a delta needs numpy", hint="pip install numpy") from None
    before, after = tuple(dict.fromkeys(old)), tuple(dict.fromkeys(new))
    if not after:
        raise InvalidInput("a delta needs a commit to lead to")
    how = options or MakeOptions()
    give_memory_back(_RETURNED_BYTES)
    with tempfile.TemporaryDirectory(prefix="wherry-delta-", dir=output.parent) as folder:
        maker = _Maker(repo, take_inventory(repo, before, after), Path(folder), how, progress)
        parts = Path(folder) / "parts"
        header = maker.run(parts, before, after)
        unsigned = parse_head(serialize_head(header), where=output)
        head = serialize_head(header, [sign(unsigned.signed) for sign in how.signers])
        with replacing(output) as file:
            write_delta(file, head, parts)
    return parse_head(head, where=output)


_maker: _Maker | None = None
"""Whose segments this process matches: set before it is forked."""


def _match(checksum: Checksum, begin: int, end: int) -> Piece:
    assert _maker is not None  # noqa: S101 set before the fork
    return _maker.match(checksum, begin, end)


class _Maker:
    """Makes one delta."""

    def __init__(
        self, repo: Repository, inventory: Inventory, scratch: Path, options: MakeOptions, progress: Progress
    ) -> None:
        self._repo = repo
        self._inventory = inventory
        self._options = options
        self._progress = progress
        self._views = Views(repo, scratch, options.encoders, options.encoder_bytes)
        self._namesakes = inventory.namesakes()
        self._new_numbers: dict[Name, int] = {}
        self._positions: dict[Checksum, int] = {}
        self._indexes: list[tuple[int, list[Checksum], Index]] = []
        self._late: frozenset[Checksum] = frozenset()
        self._disk_bytes = self._scratch_bytes = 0

    def run(self, parts: Path, before: tuple[Checksum, ...], after: tuple[Checksum, ...]) -> Header:
        """Writes the parts, and returns the header."""
        inventory = self._inventory
        with ThreadPoolExecutor(self._options.threads) as pool, open(parts, "wb") as file:
            self._take_apart(pool)
            self._writer = PartWriter(file, pool, strong=self._options.strong)
            early = [item for item in inventory.files if not self._is_late(item)]
            late = [item for item in inventory.files if self._is_late(item)]
            candidates = self._old_candidates()
            self._positions = {item: number for number, item in enumerate(candidates)}
            self._indexes = [(OLD, *self._index(pool, candidates, inventory.files))] if inventory.files else []
            self._total = sum(self._size(item) for item in inventory.files)
            self._done = 0
            if late:
                self._indexes.append((NEW, *self._index(pool, early, late)))
            self._new_numbers = {(ObjectType.FILE, item): number for number, item in enumerate(early)}
            self._late = frozenset(late)
            self._files([*early, *late])
            for link in inventory.links:
                self._begin(ObjectType.FILE, link, 0)
                self._end((ObjectType.FILE, link), 0)
            for name in inventory.metadata:
                self._metadata(name)
            self._writer.finish()
        needed = {
            (piece.encoder, piece.numbers)
            for item in inventory.files
            for piece in self._views.recipe(item)
            if piece.encoder
        }
        probes = [
            Encoder(name=name, numbers=numbers, probe=encoders.probe(name, numbers)) for name, numbers in sorted(needed)
        ]
        return Header(
            from_commits=before,
            to_commits=after,
            sources=hashlib.sha256(inventory.old.data).digest(),
            objects=self._writer.made,
            disk_bytes=self._disk_bytes,
            scratch_bytes=self._scratch_bytes,
            encoders=tuple(probes),
            parts=tuple(self._writer.parts),
        )

    # --- looking

    def _take_apart(self, pool: ThreadPoolExecutor) -> None:
        """Takes apart all new files, those that can be put together again."""
        for _ in pool.map(lambda item: self._views.take_apart(item, again=True), self._inventory.files):
            pass

    def _size(self, checksum: Checksum) -> int:
        recipe = self._views.recipe(checksum)
        return view_size(recipe) if recipe else len(self._views.view(checksum))

    def _is_late(self, checksum: Checksum) -> bool:
        recipe = self._views.recipe(checksum)
        return bool(recipe) and view_size(recipe) >= LATE_BYTES

    def _old_candidates(self) -> list[Checksum]:
        return [checksum for kind, checksum in self._inventory.old if kind is ObjectType.FILE]

    def _index(
        self, pool: ThreadPoolExecutor, files: list[Checksum], seekers: list[Checksum]
    ) -> tuple[list[Checksum], Index]:
        """Picks from files what others will look for."""
        from wherry.store.delta.similarity import Index, Wanted

        wanted = Wanted()
        for _ in pool.map(lambda segment: wanted.add(self._picks(*segment[:3])), self._segments(seekers)):
            pass
        found = pool.map(lambda checksum: self._pick(checksum, wanted), files)
        picked = ((number, *item) for number, item in enumerate(found) if item is not None)
        return files, Index(picked)

    def _picks(self, checksum: Checksum, begin: int, end: int) -> Picks:
        from wherry.store.delta.similarity import pick

        return pick(_array(self._views.view(checksum))[begin:end])

    def _pick(self, checksum: Checksum, wanted: Wanted) -> tuple[Picks, int] | None:
        from wherry.store.delta.similarity import pick

        if self._repo.load_file_header(checksum).is_symlink:
            return None
        self._views.take_apart(checksum, again=False)
        data = _array(self._views.view(checksum))
        return pick(data, wanted), len(data)

    def _window(self, checksum: Checksum, data: Any) -> tuple[list[tuple[SourceId, int, int]], Any]:
        """Returns the ranges that are most like a segment, and their content."""
        import numpy as np

        from wherry.store.delta.similarity import pick

        picks = pick(data)
        most = max(LEAST_WINDOW_BYTES, len(data) * 2)
        ranges: list[tuple[SourceId, int, int]] = []
        pieces = []
        for where, files, index in self._indexes[: None if checksum in self._late else 1]:
            favourite = self._favourite(checksum) if where == OLD else None
            for item in self._candidates(index, picks, min(most, WINDOW_BYTES), favourite):
                source = files[item.file]
                ranges.append((self._source(where, source), item.begin, item.end - item.begin))
                pieces.append(_array(self._views.view(source))[item.begin : item.end])
        return ranges, np.concatenate(pieces) if pieces else np.empty(0, dtype=np.uint8)

    def _candidates(self, index: Index, picks: Picks, most: int, favourite: int | None) -> list[Candidate]:
        from wherry.store.delta.similarity import Candidate

        found = index.candidates(picks, most_bytes=most, favourite=favourite)
        if not found and favourite is not None and (size := index.size(favourite)):
            return [Candidate(favourite, 0, min(size, most))]
        return found

    def _favourite(self, checksum: Checksum) -> int | None:
        path = self._inventory.new_paths[(ObjectType.FILE, checksum)]
        name = self._namesakes.get(path) or self._namesakes.get(plain_path(path))
        if name is None or name[0] is not ObjectType.FILE:
            return None
        return self._positions.get(name[1])

    def _source(self, where: int, checksum: Checksum) -> SourceId:
        name = (ObjectType.FILE, checksum)
        number = self._inventory.numbers[name] if where == OLD else self._new_numbers[name]
        return SourceId(where, number, self._views.recipe(checksum))

    # --- writing

    def _files(self, files: list[Checksum]) -> None:
        """Matches files in processes of their own, and writes them in order."""
        global _maker
        waiting: deque[tuple[Checksum, int, Callable[[], Piece], bool]] = deque()
        threads = self._options.threads
        with ExitStack() as stack:
            pool: ProcessPoolExecutor | None = None
            if threads > 1:
                # Forked, they have the indexes without a copy. The matching itself is many short steps of numpy's,
                # which threads would only wait for each other with.
                _maker = self
                # They end with this thread, which makes them, however it ends.
                pool = stack.enter_context(
                    ProcessPoolExecutor(
                        threads,
                        mp_context=get_context("fork"),
                        initializer=set_parent_death_signal,
                        initargs=(signal.SIGKILL,),
                    )
                )
            for checksum, begin, end, last in self._segments(files):
                while len(waiting) >= _AHEAD * threads:
                    self._take(waiting)
                piece: Callable[[], Piece] = partial(self.match, checksum, begin, end)
                if pool is not None:
                    piece = pool.submit(_match, checksum, begin, end).result
                waiting.append((checksum, begin, piece, last))
            while waiting:
                self._take(waiting)
        _maker = None

    def _segments(self, files: list[Checksum]) -> Iterator[tuple[Checksum, int, int, bool]]:
        for checksum in files:
            size = self._size(checksum)
            for begin in range(0, max(1, size), SEGMENT_BYTES):
                end = min(size, begin + SEGMENT_BYTES)
                yield checksum, begin, end, end == size

    def _take(self, waiting: deque[tuple[Checksum, int, Callable[[], Piece], bool]]) -> None:
        checksum, begin, found, last = waiting.popleft()
        piece = found()
        size = self._size(checksum)
        if begin == 0:
            self._begin(ObjectType.FILE, checksum, size)
        if piece.size:
            self._writer.add(piece)
        self._done += piece.size
        self._progress.update("matching", self._done, self._total, unit="B")
        if last:
            self._end((ObjectType.FILE, checksum), size)

    def match(self, checksum: Checksum, begin: int, end: int) -> Piece:
        """Returns how to make a segment of a file."""
        data = _array(self._views.view(checksum))[begin:end]
        ranges, window = self._window(checksum, data)
        return patch(ranges, window, data, strong=self._options.strong)

    def _begin(self, kind: ObjectType, checksum: Checksum, size: int) -> None:
        self._writer.begin(
            ObjectOrder(
                kind=kind,
                checksum=checksum,
                done=0,
                size=size,
                header=self._inventory.headers.get(checksum) if kind is ObjectType.FILE else None,
                recipe=self._views.recipe(checksum) if kind is ObjectType.FILE else (),
            )
        )

    def _end(self, name: Name, size: int) -> None:
        self._writer.end()
        self._new_numbers[name] = self._writer.made - 1
        recipe = self._views.recipe(name[1]) if name[0] is ObjectType.FILE else ()
        length = sum(piece.size for piece in recipe) if recipe else size
        self._disk_bytes += max(1, -(-length // BLOCK_BYTES)) * BLOCK_BYTES
        self._scratch_bytes = max(self._scratch_bytes, size)

    def _metadata(self, name: Name) -> None:
        data = self._repo.metadata_bytes(*name)
        ranges: list[tuple[SourceId, int, int]] = []
        window = b""
        old = self._namesakes.get(self._inventory.new_paths.get(name, "\0"))
        for other in self._old_metadata(name, old):
            content = self._repo.metadata_bytes(*other)
            ranges.append((SourceId(OLD, self._inventory.numbers[other]), 0, len(content)))
            window += content
        if name[0] is ObjectType.DIRTREE or name[0] is ObjectType.COMMIT:
            table = b"".join(bytes.fromhex(checksum) for _, checksum in self._new_numbers)[-SEGMENT_BYTES:]
            first = self._writer.made * 32 - len(table)
            ranges.append((SourceId(CHECKSUMS, 0), first, len(table)))
            window += table
        self._begin(*name, len(data))
        self._writer.add(patch(ranges, _array(memoryview(window)), _array(memoryview(data))))
        self._end(name, len(data))

    def _old_metadata(self, name: Name, namesake: Name | None) -> list[Name]:
        """Returns old metadata that is like a new one: the directory of its path, or the first commit."""
        kind = name[0]
        if namesake is not None and namesake[0] is kind:
            return [namesake]
        found = next((item for item in self._inventory.old if item[0] is kind), None)
        return [found] if found is not None and kind in (ObjectType.COMMIT, ObjectType.DIRMETA) else []


def patch(ranges: list[tuple[SourceId, int, int]], window: Any, data: Any, *, strong: bool = True) -> Piece:
    """Returns how to make `data` of `window`, the content of `ranges`."""
    from wherry.store.delta.match import PASSES, match

    steps = []
    differences: list[bytes] = []
    new: list[bytes] = []
    at = position = 0
    for step in match(window, data, passes=PASSES if strong else PASSES[:1]) if len(window) else []:
        steps.append((step.add, step.new, step.seek))
        differences.append((data[at : at + step.add] - window[position : position + step.add]).tobytes())
        at += step.add
        new.append(data[at : at + step.new].tobytes())
        at += step.new
        position += step.add + step.seek
    if at < len(data):
        new.append(data[at:].tobytes())
        steps.append((0, len(data) - at, 0))
    if not any(add for add, _, _ in steps):
        ranges = []
        steps = [(0, len(data), 0)] if len(data) else []
    return Piece(ranges=ranges, steps=steps, differences=b"".join(differences), new=b"".join(new), size=len(data))


def _array(data: memoryview) -> Any:
    import numpy as np

    return np.frombuffer(data, dtype=np.uint8)
