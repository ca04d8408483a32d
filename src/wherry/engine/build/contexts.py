"""Where the files of a build come from: folders, archives, addresses and Git repositories, each read when it is needed.

======================================  ================================================================================
the main context                        what it is
======================================  ================================================================================
a path                                  a directory
``-``                                   standard input: a tar archive, or else a Dockerfile without any files
``https://.../x.tar.gz``                an archive, or else a Dockerfile without any files
``https://...git#REF:DIR``, ``git@...`` one commit of a Git repository
======================================  ================================================================================

A named context is a path, an archive's address or a Git repository. Images are named contexts, too, but no files: the
plan of the build has them (`with_images`). What an ignore file of the context names is not taken.

Source: docker's "docker buildx build", PATH | URL | - and ``--build-context``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from wherry.core.errors import InvalidInput, NotFound
from wherry.core.progress import QUIET, Progress
from wherry.engine.build.adding import TAR_HEAD_BYTES, content_of, download, fetch_git, is_archive, is_tar_head
from wherry.engine.build.context import read_archive, read_directory, without_ignored
from wherry.engine.build.stagetree import StageTree
from wherry.image.dockerfile.ignore import Ignore, ignore_names, parse_ignore
from wherry.image.dockerfile.plan import ContextOrigin, ImageOrigin
from wherry.image.dockerfile.problems import Place
from wherry.image.dockerfile.sources import GitSource, PathSource, UrlSource, classify
from wherry.image.reference import Reference
from wherry.store.tree.compression import MAGIC_BYTES, compression_of

if TYPE_CHECKING:
    from wherry.core.digest import Checksum
    from wherry.engine.build.session import Session
    from wherry.image.dockerfile.plan import BuildPlan, Origin
    from wherry.store.repository import Repository

MAX_DOCKERFILE_BYTES = 4 * 1024 * 1024
STDIN = "-"
IMAGE_SCHEME = "docker-image://"
_GITHUB = "github.com/"
_NAMES = ("Dockerfile", "Containerfile")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A Dockerfile."""

    data: bytes
    where: str
    ignore_names: tuple[str, ...] = (".dockerignore",)
    """Where the ignore file may be in the context; the first that is there counts."""


def source_of(text: str) -> PathSource | UrlSource | GitSource:
    """Returns what a context is that is not standard input."""
    if text.startswith(_GITHUB):
        text = f"https://{text}"
        return classify(text if ".git" in text else text.replace("#", ".git#", 1) if "#" in text else f"{text}.git",
                        Place(where=text, line=0))  # fmt: skip
    return classify(text, Place(where=text, line=0))


def find_dockerfile(context: str, file: str, stdin: BinaryIO) -> Found | None:
    """Reads the Dockerfile where that is no part of a context that must be read first; else returns None.

    Args:
        context: the main context, as it was given.
        file: what ``--file`` says: a path, ``-``, or "".
        stdin: standard input.

    Raises:
        NotFound: there is none.
    """
    if file == STDIN:
        return Found(data=stdin.read(MAX_DOCKERFILE_BYTES + 1), where="<stdin>")
    if context == STDIN or not isinstance(source_of(context), PathSource):
        return None
    if file and isinstance(source_of(file), UrlSource):
        return None
    top = Path(context)
    path = Path(file) if file else next((top / name for name in _NAMES if (top / name).exists()), top / _NAMES[0])
    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_DOCKERFILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        if not top.exists():
            raise NotFound("no such build context", where=context) from None
        raise NotFound("no such Dockerfile", where=path, hint="name it with -f") from None
    except IsADirectoryError:
        raise InvalidInput("the Dockerfile is a directory", where=path) from None
    try:
        names = ignore_names(str(path.resolve().relative_to(top.resolve())))
    except ValueError:
        names = (".dockerignore", ".dockerignore")
    return Found(data=data, where=str(path), ignore_names=tuple(dict.fromkeys(names)))


@dataclass(slots=True, kw_only=True)
class Contexts:
    """The contexts of one build; call it with a name, "" for the main one."""

    session: Session
    places: Mapping[str, str]
    """By their names, as the caller writes them; "" is the main one."""
    stdin: BinaryIO
    ignore_names: tuple[str, ...] = (".dockerignore",)
    """Of the main context."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of git."""
    keep_git_dir: bool = False
    progress: Progress = QUIET
    _trees: dict[str, StageTree] = field(default_factory=dict)
    _text: bytes | None = None
    """A Dockerfile that stands for the main context."""

    def __call__(self, name: str) -> StageTree:
        """Returns the files of a context.

        Raises:
            NotFound: it is not there.
            InvalidInput: it is malformed.
            NetworkError: it cannot be fetched.
        """
        if name not in self._trees:
            self._trees[name] = self.session.hold(self._read(name))
        return self._trees[name]

    def dockerfile(self, file: str) -> Found:
        """Returns the Dockerfile that is in the main context, or that is all of it, or at an address.

        Raises:
            NotFound: there is none.
        """
        if file and isinstance(source := source_of(file), UrlSource):
            with self.session.repo.transaction():
                checksum = download(self.session.repo, source, "", where="--file")
                return Found(data=_text(self.session.repo, checksum), where=file)
        tree = self("")
        if self._text is not None:
            return Found(data=self._text, where="<stdin>" if self.places[""] == STDIN else self.places[""])
        for name in (file,) if file else _NAMES:
            data = tree.read_small(name)
            if data:
                names = ignore_names(name)
                self._trees[""] = self.session.hold(self._without_ignored(tree, names))
                return Found(data=data, where=name, ignore_names=names)
        raise NotFound("no such Dockerfile in the context", where=file or _NAMES[0], hint="name it with -f")

    def _read(self, name: str) -> StageTree:
        text = self.places[name]
        if not name and text == STDIN:
            return self._archive_or_text(self.stdin)
        source = source_of(text)
        if isinstance(source, PathSource):
            names = self.ignore_names if not name else (".dockerignore",)
            top = Path(text)
            return read_directory(self.session.repo, top, _ignore_of(top, names), progress=self.progress)
        repo = self.session.repo
        if isinstance(source, GitSource):
            return fetch_git(
                repo,
                source,
                keep_git_dir=self.keep_git_dir,
                checksum="",
                environment=self.environment,
                where="the build context",
            )
        checksum = download(repo, source, "", where="the build context")
        if is_archive(repo, checksum):
            with content_of(repo, checksum, where=text) as content:
                return read_archive(repo, content, where=text)
        if name:
            raise InvalidInput("neither a tar archive nor a Git repository", where=text)
        self._text = _text(repo, checksum)
        return StageTree(repo)

    def _archive_or_text(self, stream: BinaryIO) -> StageTree:
        head = stream.read(TAR_HEAD_BYTES)
        if compression_of(head[:MAGIC_BYTES]) or is_tar_head(head):
            return read_archive(self.session.repo, _Again(head, stream), where="<stdin>")
        self._text = head + stream.read(MAX_DOCKERFILE_BYTES + 1 - len(head))
        if not self._text:
            raise InvalidInput("standard input is empty", hint="give a Dockerfile, or a tar archive")
        return StageTree(self.session.repo)

    def _without_ignored(self, tree: StageTree, names: tuple[str, ...]) -> StageTree:
        for name in names:
            if data := tree.read_small(name):
                return without_ignored(tree, parse_ignore(data, where=name))
        return tree


def _text(repo: Repository, checksum: Checksum) -> bytes:
    with content_of(repo, checksum, where="a Dockerfile") as content:
        return content.read(MAX_DOCKERFILE_BYTES + 1)


class _Again:
    """A stream whose beginning was read already."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int, /) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._stream.read(size)


def _ignore_of(top: Path, names: tuple[str, ...]) -> Ignore:
    for name in names:
        path = top / name
        if path.is_file():
            return parse_ignore(path.read_bytes(), where=str(path))
    return Ignore()


def with_images(plan: BuildPlan, images: Mapping[str, Reference]) -> BuildPlan:
    """Returns a plan in which the named contexts that are images (``docker-image://``) are such."""
    if not images:
        return plan

    def image(origin: Origin) -> Origin:
        if isinstance(origin, ContextOrigin) and origin.name in images:
            return ImageOrigin(reference=images[origin.name])
        return origin

    stages = tuple(
        replace(
            stage,
            origin=image(stage.origin),
            sources={name: image(origin) for name, origin in stage.sources.items()},
        )
        for stage in plan.stages
    )
    return replace(plan, stages=stages)
