"""What ``wherry build`` does with its options: context, images, platforms, names."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry.cli.container_run import open_engine
from wherry.cli.context import settings
from wherry.cli.image_repo import open_or_make_store
from wherry.cli.output import note
from wherry.core.digest import Digest
from wherry.core.errors import InvalidInput, NotFound, ToolError, UsageError
from wherry.engine.build.builder import Builder, BuiltImage
from wherry.engine.build.context import read_archive, read_directory
from wherry.engine.build.running import Runner, Secret, forget_steps, sweep
from wherry.engine.build.stagetree import StageTree
from wherry.image.catalog import Images
from wherry.image.dockerfile.expansion import GlobalArgs, unused_args
from wherry.image.dockerfile.ignore import Ignore, parse_ignore
from wherry.image.dockerfile.lint import tell
from wherry.image.dockerfile.parsing import parse_dockerfile
from wherry.image.dockerfile.plan import ImageOrigin, plan_build
from wherry.image.platforms import Platform
from wherry.image.recording import record_image, tree_digest
from wherry.image.reference import Reference
from wherry.image.unpacking import tree_size

if TYPE_CHECKING:
    from wherry.engine.engine import Engine
    from wherry.image.catalog import ImageRecord
    from wherry.image.dockerfile.plan import BuildPlan
    from wherry.image.dockerfile.syntax import Dockerfile
    from wherry.store.repository import Repository

_TAIL_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be built."""

    dockerfile: Dockerfile
    context: str
    """A directory, or ``-`` for an archive on standard input."""
    ignore_names: tuple[str, ...] = (".dockerignore",)
    tags: tuple[str, ...] = ()
    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    contexts: Mapping[str, str] = field(default_factory=dict)
    platforms: tuple[str, ...] = ()
    no_cache: bool = False
    no_cache_stages: frozenset[str] = frozenset()
    pull: bool = False
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    agents: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    network: str = ""
    add_hosts: tuple[str, ...] = ()
    quiet: bool = False
    source_date_epoch: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What came out."""

    identifier: Digest
    digest: Digest
    names: tuple[str, ...]


class Lines:
    """Tells how a build goes on, a line for each step; nothing when it is to be quiet."""

    def __init__(self, quiet: bool, prefix: str) -> None:
        self._quiet, self._prefix = quiet, prefix
        self._told = ""

    def begin(self, stage: str, number: int, total: int, text: str) -> None:
        """Says which step it is."""
        words = " ".join(text.split())
        self._told = f"[{self._prefix}{stage} {number}/{total}] {words}"
        if not self._quiet:
            click.echo(f"=> {self._told[:160]}", err=True)

    def end(self, seconds: float, *, cached: bool) -> None:
        """Says that it is done, where that is worth a line."""
        if self._quiet:
            return
        if cached:
            click.echo("   CACHED", err=True)
        elif seconds >= 0.05:
            click.echo(f"   done, {seconds:.1f} s", err=True)


def carry_out(request: Request, stack: ExitStack) -> Built:
    """Builds for every platform that is wanted, and names what came out.

    Raises:
        WherryError: it cannot be built; no name is given then.
    """
    references = [Reference.parse(tag) for tag in request.tags]
    if any(reference.digest for reference in references):
        raise UsageError("-t: a name has a tag, not a digest")
    repo = open_or_make_store(None)
    engine = open_engine(settings(), with_store=True)
    sweep(engine, repo)
    platforms = [Platform.parse(text) for text in request.platforms] or [Platform.of_this_machine()]
    contexts = _Contexts(repo, request)
    dockerfile = contexts.dockerfile()
    work = _Work(request=replace(request, dockerfile=dockerfile), repo=repo, engine=engine, contexts=contexts)
    built = [
        work.build(platform, prefix=f"{platform} " if len(platforms) > 1 else "", stack=stack) for platform in platforms
    ]
    return _record(repo, built, references)


def _record(repo: Repository, built: list[BuiltImage], references: list[Reference]) -> Built:
    first = built[0].config
    digest = tree_digest(first, built[0].tree, built[0].meta)
    names = references or [Reference.parse(f"localhost/build:{digest[7:19]}")]
    with repo.transaction():
        for reference in names:
            records = [
                record_image(
                    repo,
                    reference,
                    tree=image.tree,
                    meta=image.meta,
                    size_bytes=tree_size(repo, image.tree),
                    config=image.config,
                    digest=tree_digest(image.config, image.tree, image.meta),
                )
                for image in built
            ]
            if len(records) > 1:
                from wherry.image.indexes import record_index

                digest = record_index(repo, reference, records).digest
    return Built(identifier=first.digest, digest=digest, names=tuple(name.familiar for name in names))


class _Contexts:
    """The build context, and those that are named, each read when it is first needed."""

    def __init__(self, repo: Repository, request: Request) -> None:
        self._repo, self._request = repo, request
        self._trees: dict[str, StageTree] = {}

    def dockerfile(self) -> Dockerfile:
        """Returns the Dockerfile; that of an archive is in it."""
        given = self._request.dockerfile
        if given.stages or self._request.context != "-":
            return given
        tree = self("")
        data = tree.read_small(given.where)
        if not data:
            raise NotFound("no such Dockerfile in the archive", where=given.where, hint="name it with -f")
        return parse_dockerfile(data, where=given.where)

    def __call__(self, name: str) -> StageTree:
        if name not in self._trees:
            with self._repo.transaction():
                self._trees[name] = self._read(name)
        return self._trees[name]

    def _read(self, name: str) -> StageTree:
        progress = settings().progress()
        if name:
            return read_directory(self._repo, Path(self._request.contexts[name]), Ignore(), progress=progress)
        if self._request.context == "-":
            return read_archive(self._repo, sys.stdin.buffer, _ignore_in, where="<stdin>")
        top = Path(self._request.context)
        return read_directory(self._repo, top, self._ignore(top), progress=progress)

    def _ignore(self, top: Path) -> Ignore:
        for name in self._request.ignore_names:
            path = top / name
            if path.is_file():
                return parse_ignore(path.read_bytes(), where=str(path))
        return Ignore()


def _ignore_in(tree: StageTree) -> Ignore:
    data = tree.read_small(".dockerignore")
    return parse_ignore(data) if data else Ignore()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    request: Request
    repo: Repository
    engine: Engine
    contexts: _Contexts

    def build(self, platform: Platform, *, prefix: str, stack: ExitStack) -> BuiltImage:
        request = self.request
        output = None
        if request.quiet:
            output = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 the stack closes it
        runner = Runner(
            engine=self.engine,
            repo=self.repo,
            secrets=request.secrets,
            agents=request.agents,
            add_hosts=request.add_hosts,
            network=request.network,
            stdout_fd=output.fileno() if output is not None else 2,
            note=lambda text: note(text, quiet=request.quiet),
        )
        stack.callback(forget_steps, self.repo, runner.made)
        builder = Builder(
            repo=self.repo,
            runner=runner,
            images=self._image,
            contexts=self._context,
            platform=platform,
            watcher=Lines(request.quiet, prefix),
            use_cache=lambda stage: not request.no_cache and stage not in request.no_cache_stages,
            created=_created(request),
            labels=request.labels,
            environment=os.environ,
        )
        try:
            return builder.build(self._plan(platform))
        except ToolError:
            if output is not None:
                output.seek(0)
                for line in output.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]:
                    click.echo(line, err=True)
            raise

    def _plan(self, platform: Platform) -> BuildPlan:
        request, file = self.request, self.request.dockerfile
        names = GlobalArgs.of(
            file, request.build_args, target=platform, build=Platform.of_this_machine(), target_stage=request.target
        )
        contexts = frozenset(request.contexts)
        plan = plan_build(file, names, target=request.target, contexts=contexts)
        triggers = {
            index: config.get("OnBuild") or []
            for index, origin in plan.bases.items()
            if (config := self._image(origin, origin.platform or platform).config.document().get("config") or {})
        }
        if any(triggers.values()):
            plan = plan_build(file, names, target=request.target, contexts=contexts, triggers=triggers)
        if not request.quiet:
            for item in (*file.notes, *tell(names.notes, file.directives, file.where)):
                note(f"{file.where}:{item.line}: {item.rule}: {item.text}")
            for name in unused_args(file, request.build_args):
                note(f"--build-arg {name}: no ARG asks for it")
        return plan

    def _context(self, name: str) -> StageTree:
        return self.contexts(name)

    def _image(self, origin: ImageOrigin, platform: Platform) -> ImageRecord:
        found = None if self.request.pull else self._there(origin, platform)
        if found is not None:
            return found
        from wherry.cli.registries import pull_into_store

        if not self.request.quiet:
            click.echo(f"=> pulling {origin.reference.familiar} for {platform}", err=True)
        try:
            pull_into_store(origin.reference, settings(), platform=str(platform))
        except NotFound as error:
            raise NotFound(f"no image {origin.reference.familiar}: {error.what}", where=error.where) from None
        again = self._there(origin, platform)
        if again is None:
            raise NotFound(f"the image is not there for {platform}", where=origin.reference.familiar)
        return again

    def _there(self, origin: ImageOrigin, platform: Platform) -> ImageRecord | None:
        try:
            record = Images(self.repo).get(str(origin.reference), platform=platform)
        except NotFound:
            return None
        own = record.config
        if own.architecture and (own.os, own.architecture) != (platform.os, platform.architecture):
            return None
        return record


def _created(request: Request) -> str:
    import time

    text = request.build_args.get("SOURCE_DATE_EPOCH", request.source_date_epoch)
    if not text:
        return ""
    if not text.isdigit() or int(text) > 253402300799:
        raise InvalidInput(f"SOURCE_DATE_EPOCH is a number of seconds, got {text[:40]!r}")
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(text)))
