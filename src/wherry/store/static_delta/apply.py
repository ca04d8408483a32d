"""Applying deltas: the objects of a part are made from its blob and from objects that are here, and each is hashed.

Any mode of repository can take a delta (OSTree's own can do this only in the bare modes): sources of an archive are
inflated into nameless files. Memory stays bounded whatever the sizes are: content goes through in pieces. An object
that does not come out as its name says is refused; so a bad delta, or a damaged source, costs time and nothing else.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from wherry.core.digest import Checksum
from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, NotFound, Unsupported
from wherry.core.progress import QUIET, Progress
from wherry.core.trace import reach
from wherry.store.disk.content import CHUNK_BYTES
from wherry.store.format import objects
from wherry.store.format.objects import MAX_METADATA_BYTES, FileHeader, ObjectType
from wherry.store.static_delta import bspatch, names
from wherry.store.static_delta.frames import FileRange
from wherry.store.static_delta.ops import Copy, Literal, Patch, Recipe, decode
from wherry.store.static_delta.part import PartFile, PartSource, nameless_file
from wherry.store.static_delta.superblock import MAX_INLINE_BYTES, PartHeader, Superblock, parse_superblock

if TYPE_CHECKING:
    from wherry.store.disk.transaction import Transaction
    from wherry.store.repository import Repository

MAX_TARGET_BYTES = 4096
ALLOWANCE_BYTES = 64 * 1024 * 1024
"""Objects may come to so much more than a part declares: OSTree does not count symbolic links."""
SMALL_BYTES = 4 * 1024 * 1024
"""Files up to this are made in memory."""
MAX_READ_BYTES = 8 * 1024 * 1024
"""A superblock up to this is read, of a larger one, which holds its parts, what is asked for."""


class _Files(Protocol):
    """Of a repository: where its files are read."""

    path: Path

    def load_file(self, checksum: Checksum, /) -> tuple[FileHeader, BinaryIO | None]:
        """Opens a file object."""


Verify = Callable[[Superblock], None]
"""Called with a superblock before anything of it is used; raises TrustError."""


def has_all(repo: Repository, part: PartHeader) -> bool:
    """Tells whether every object of a part is here, so that it need not be fetched."""
    return all(repo.has(kind, checksum) for kind, checksum in part.objects)


def apply_part(
    transaction: Transaction,
    part: PartHeader,
    source: PartSource | None = None,
    *,
    check: bool = True,
    tick: Callable[[], None] = lambda: None,
) -> int:
    """Writes the objects of a part, each checked.

    Args:
        transaction: which it becomes part of.
        part: its header, from the superblock.
        source: the part's file; not needed for one that stands in the superblock.
        check: whether the file must have the checksum in `part`.
        tick: called before each object; may raise to stop.

    Returns:
        How many objects were written; those that are here are left alone.

    Raises:
        IntegrityError: the file, or an object, is not what its name says.
        InvalidInput: malformed, or over a limit.
        NotFound: the source of a file is not here.
        NoSpace: the disk is full, or would be.
    """
    if source is None:
        if part.inline is None:
            raise NotFound("a part of a delta is not there", where=f"part {part.index}")
        source, check = part.inline, False  # what stands in the superblock is covered by its checksum
    if not part.object_bytes and not check:
        return 0
    folder = transaction.repo.path / "tmp"
    written = 0
    try:
        with PartFile(part, source, folder=folder, reserve=transaction.reserve, check=check) as opened:
            left = part.unpacked_bytes + ALLOWANCE_BYTES
            for recipe in decode(opened.ops(), part.objects):
                tick()
                left -= recipe.size
                if left < 0:
                    raise InvalidInput(f"its objects come to more than the {part.unpacked_bytes} bytes it declares")
                if not transaction.repo.has(recipe.kind, recipe.checksum):
                    _make(transaction, opened, recipe)
                    written += 1
                    reach("store.delta.object")
    except InvalidInput as error:
        raise InvalidInput(error.what, where=error.where or f"part {part.index} of a delta") from None
    except OSError as error:
        raise map_os_error(error, "cannot apply a delta", where=transaction.repo.path) from error
    return written


def _make(transaction: Transaction, part: PartFile, recipe: Recipe) -> None:
    if recipe.kind is not ObjectType.FILE:
        (step,) = recipe.steps
        if step.length > MAX_METADATA_BYTES:
            raise InvalidInput(f"a {recipe.kind.extension} object is longer than {MAX_METADATA_BYTES} bytes")
        transaction.write_metadata(recipe.kind, part.blob(step.offset, step.length), recipe.checksum)
        return
    header = part.file_header(recipe.mode_index, recipe.xattrs_index)
    if header.is_symlink:
        if not recipe.spliced or recipe.size > MAX_TARGET_BYTES:
            raise InvalidInput("a symbolic link that is not made by one operation, or is too long")
        (step,) = recipe.steps
        target = _target(part.blob(step.offset, step.length))
        transaction.write_file(part.file_header(recipe.mode_index, recipe.xattrs_index, target), None, recipe.checksum)
        return
    with ExitStack() as stack:
        pieces = _content(transaction.repo, part, recipe, stack)
        content = b"".join(pieces) if recipe.size <= SMALL_BYTES else cast(BinaryIO, _Pieces(pieces, recipe.size))
        transaction.write_file(header, content, recipe.checksum)


def _target(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise InvalidInput("the target of a symbolic link is not UTF-8") from None
    if not text or "\0" in text:
        raise InvalidInput("malformed target of a symbolic link")
    return text


def _content(repo: _Files, part: PartFile, recipe: Recipe, stack: ExitStack) -> Iterator[bytes]:
    """Gives the content of a regular file in pieces."""
    sources: dict[int, _SourceFile] = {}

    def source(offset: int) -> _SourceFile:
        if offset not in sources:
            for other in sources.values():
                other.close()
            sources.clear()  # one at a time: each may be large
            sources[offset] = stack.enter_context(_SourceFile(repo, part.source_checksum(offset)))
        return sources[offset]

    made = 0
    for step in recipe.steps:
        if isinstance(step, Literal):
            made += step.length
            if made > recipe.size:
                raise InvalidInput("a file becomes longer than it should")
            yield from part.pieces(step.offset, step.length)
        elif isinstance(step, Copy):
            made += step.length
            if made > recipe.size:
                raise InvalidInput("a file becomes longer than it should")
            yield from source(step.source).pieces(step.offset, step.length)
        elif isinstance(step, Patch):
            part.check_range(step.offset, step.length)
            if made:
                raise InvalidInput("a patch that does not make a whole file")
            made = recipe.size
            yield from bspatch.patch(part.blob, step.offset, step.length, source(step.source), recipe.size)
    if made != recipe.size:
        raise InvalidInput("a file becomes shorter than it should")


class _Pieces:
    """Pieces of content as something to read from, which ends after so many bytes."""

    def __init__(self, pieces: Iterator[bytes], size: int) -> None:
        self._pieces = pieces
        self._left = size
        self._rest = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """Returns the next bytes, at most `size`; nothing at the end.

        Raises:
            InvalidInput: more or fewer come than should.
        """
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                if self._left:
                    raise InvalidInput("a file becomes shorter than it should")
                return b""
            self._left -= len(piece)
            if self._left < 0:
                raise InvalidInput("a file becomes longer than it should")
            self._rest = memoryview(piece)
        count = len(self._rest) if size < 0 else size
        found = bytes(self._rest[:count])
        self._rest = self._rest[count:]
        return found


class _SourceFile:
    """The plain content of a file object, to be read anywhere."""

    def __init__(self, repo: _Files, checksum: Checksum) -> None:
        try:
            _, content = repo.load_file(checksum)
        except NotFound:
            raise NotFound(
                "a delta builds on a file that is not here", where=checksum, hint="pull without static deltas"
            ) from None
        if content is None:
            raise InvalidInput("a delta builds on a symbolic link", where=checksum)
        self._content = content
        self._copy = -1
        """The open copy of what cannot be read anywhere itself; -1 where that is not needed."""
        try:
            if hasattr(content, "readinto") and _is_plain(content):
                self._fd = content.fileno()
            else:
                self._fd = self._copy = nameless_file(repo.path / "tmp")
                with open(self._copy, "wb", closefd=False) as copy:
                    shutil.copyfileobj(content, copy, CHUNK_BYTES)
            self.size = os.fstat(self._fd).st_size
        except BaseException:
            self.close()
            raise
        self._where = checksum

    def __enter__(self) -> _SourceFile:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes it."""
        self._content.close()
        if self._copy >= 0:
            os.close(self._copy)
        self._copy = -1

    def read_at(self, at: int, size: int, /) -> bytes:
        """Returns so many bytes from there; fewer only at the end."""
        return os.pread(self._fd, size, at)

    def pieces(self, offset: int, length: int) -> Iterator[bytes]:
        """Gives bytes, in pieces.

        Raises:
            InvalidInput: they are not all there.
        """
        if offset + length > self.size:
            raise InvalidInput("a delta reads behind the end of a file", where=self._where)
        end = offset + length
        while offset < end:
            piece = os.pread(self._fd, min(CHUNK_BYTES, end - offset), offset)
            if not piece:
                raise InvalidInput("a delta reads behind the end of a file", where=self._where)
            yield piece
            offset += len(piece)


def _is_plain(content: BinaryIO) -> bool:
    """Tells whether a file object's content lies on the disk as it is."""
    try:
        content.fileno()
    except OSError:
        return False
    return True


# --- a delta on this machine


def open_superblock(path: Path) -> tuple[Superblock, Path]:
    """Reads and parses a superblock.

    Args:
        path: the file, or the folder that it lies in.

    Returns:
        The superblock, and the folder with its parts.

    Raises:
        NotFound: it is not there.
        InvalidInput: malformed.
        IntegrityError: the commit in it is not the one that it leads to.
    """
    file_path = path / names.SUPERBLOCK if path.is_dir() else path
    try:
        file = open(file_path, "rb", buffering=0)  # noqa: SIM115 a large one stays open as long as it is in use
        size = os.fstat(file.fileno()).st_size
        if size == 0 or size > MAX_INLINE_BYTES:
            file.close()
            raise InvalidInput("not a static delta", where=file_path)
        data: bytes | FileRange = FileRange(file, 0, size)
        if size <= MAX_READ_BYTES:
            data = bytes(data)
            file.close()
    except FileNotFoundError:
        raise NotFound("no delta superblock", where=file_path) from None
    except OSError as error:
        raise map_os_error(error, "cannot read a delta superblock", where=file_path) from error
    return parse_superblock(data, where=file_path), file_path.parent


def apply_offline(
    repo: Repository, path: Path, *, verify: Verify | None = None, progress: Progress = QUIET
) -> Superblock:
    """Applies a delta that lies on this machine: its commit is here then, whole.

    Args:
        repo: where to.
        path: the folder of the delta, or its superblock.
        verify: checks whose delta it is.
        progress: is told how many parts are done.

    Returns:
        Its superblock.

    Raises:
        NotFound: the commit that it leads from is not here, or a file of the delta is not there.
        Unsupported: it counts on objects that must be fetched.
        IntegrityError: a part or an object is not what its name says.
        InvalidInput: malformed.
        TrustError: `verify` says so.
    """
    delta, folder = open_superblock(path)
    if verify is not None:
        verify(delta)
    if delta.origin is not None and not repo.has(ObjectType.COMMIT, delta.origin):
        raise NotFound(f"Commit {delta.origin}, which is the delta source, is not in repository", where=repo.path)
    if delta.parents:
        raise Unsupported("a delta that needs other deltas applied before", where=path)
    if any(not repo.has(item.kind, item.checksum) for item in delta.fallbacks):
        raise Unsupported(
            "Cannot execute delta offline: contains nonempty http fallback entries",
            where=path,
            hint="generate it with --min-fallback-size=0",
        )
    had = repo.has(ObjectType.COMMIT, delta.target)
    if not had:
        repo.mark_partial(delta.target)
    try:
        with repo.transaction() as transaction:
            if not had:
                write_commit(transaction, delta)
            wanted = [part for part in delta.parts if not has_all(repo, part)]
            transaction.reserve(sum(part.unpacked_bytes for part in wanted))  # refused before, not in the middle
            for part in wanted:
                progress.update("applying the delta", part.index, len(delta.parts), unit="parts")
                apply_part(transaction, part, None if part.inline is not None else folder / str(part.index))
                reach("store.delta.part")
    except BaseException:
        if not had and not repo.has(ObjectType.COMMIT, delta.target):
            repo.mark_complete(delta.target)  # nothing of it is here
        raise
    complete(repo, delta.target)
    return delta


def write_commit(transaction: Transaction, delta: Superblock) -> None:
    """Writes the commit that a delta leads to, and its detached metadata; the commit must be marked partial."""
    if delta.detached is not None:
        objects.parse_dict(delta.detached, where="detached metadata in a delta")
        transaction.write_metadata(ObjectType.COMMITMETA, delta.detached, delta.target)
    transaction.write_metadata(ObjectType.COMMIT, delta.commit_bytes, delta.target)


def complete(repo: Repository, commit: Checksum) -> None:
    """Marks a commit complete, once nothing of it is missing.

    Raises:
        NotFound: something is.
    """
    from wherry.store.tree.walk import gaps

    if not repo.is_partial(commit):
        return
    lacking = next(gaps(repo, commit), None)
    if lacking is not None:
        raise NotFound(
            "the delta does not hold all that its commit needs, nor is it here", where=lacking, hint="pull the commit"
        )
    repo.mark_complete(commit)
