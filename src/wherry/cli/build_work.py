"""What ``wherry build`` does with its options: context, images, platforms, names and outputs."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from wherry.cli.build_progress import Lines
from wherry.cli.container_run import open_engine
from wherry.cli.context import settings
from wherry.cli.image_repo import open_or_make_store
from wherry.cli.output import note
from wherry.core.digest import Checksum, Digest
from wherry.core.errors import InvalidInput, NetworkError, NotFound, NotPermitted, ToolError, UsageError
from wherry.engine.build.builder import Builder, BuiltImage
from wherry.engine.build.contexts import Contexts, with_images
from wherry.engine.build.mounts import Offered, Secret
from wherry.engine.build.output import Output, write
from wherry.engine.build.running import Runner
from wherry.engine.build.session import Session, sweep
from wherry.engine.spec import ContainerSpec
from wherry.image.catalog import ImageRecord, Images
from wherry.image.dockerfile.expansion import GlobalArgs, unused_args
from wherry.image.dockerfile.lint import tell
from wherry.image.dockerfile.parsing import parse_dockerfile
from wherry.image.dockerfile.plan import ImageOrigin, plan_build
from wherry.image.platforms import Platform
from wherry.image.recording import record_image, tree_digest
from wherry.image.reference import Reference

if TYPE_CHECKING:
    from wherry.engine.build.contexts import Found
    from wherry.engine.engine import Engine
    from wherry.image.dockerfile.plan import BuildPlan
    from wherry.image.dockerfile.syntax import Dockerfile
    from wherry.image.outgoing import OutgoingImage
    from wherry.image.outgoingindex import OutgoingIndex

_TAIL_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be built."""

    context: str
    """See `contexts`."""
    file: str = ""
    tags: tuple[Reference, ...] = ()
    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    contexts: Mapping[str, str] = field(default_factory=dict)
    """Named ones that are files."""
    image_contexts: Mapping[str, Reference] = field(default_factory=dict)
    """Those that are images."""
    platforms: tuple[str, ...] = ()
    no_cache: bool = False
    no_cache_stages: frozenset[str] = frozenset()
    pull: bool = False
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    agents: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    cache_from: tuple[Reference, ...] = ()
    """Images that may tell what steps came to."""
    inline_cache: bool = False
    """Whether the image tells what its own came to."""
    template: ContainerSpec = field(default_factory=ContainerSpec)
    """What every container of RUN gets: network, hosts, limits."""
    outputs: tuple[Output, ...] = ()
    quiet: bool = False
    created: str = ""
    """RFC 3339, of the image; "" is its base's."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of git."""
    check: Callable[[Dockerfile], None] | None = None
    """Called instead of a build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What came out."""

    identifier: Digest
    digest: Digest
    names: tuple[str, ...] = ()
    """Under which it is in the store."""


def carry_out(request: Request, found: Found | None, stack: ExitStack) -> Built | None:
    """Builds for every platform that is wanted, and names what came out.

    Args:
        request: what is wanted.
        found: the Dockerfile, where it is not in the context.
        stack: has files that go afterwards.

    Returns:
        None after a mere check.

    Raises:
        WherryError: it cannot be built; no name is given then.
    """
    if found is not None and request.check is not None:
        request.check(parse_dockerfile(found.data, where=found.where))
        return None
    repo = open_or_make_store(None)
    engine = open_engine(settings(), with_store=True)
    sweep(engine, repo)
    platforms = [Platform.parse(text) for text in request.platforms] or [Platform.of_this_machine()]
    with Session(engine, repo) as session:
        contexts = Contexts(
            session=session,
            places={**request.contexts, "": request.context},
            stdin=sys.stdin.buffer,
            ignore_names=(".dockerignore",) if found is None else found.ignore_names,
            environment=request.environment,
            keep_git_dir=request.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "") == "1",
            progress=settings().progress(),
        )
        found = found or contexts.dockerfile(request.file)
        dockerfile = parse_dockerfile(found.data, where=found.where)
        if request.check is not None:
            request.check(dockerfile)
            return None
        work = _Work(request=request, dockerfile=dockerfile, session=session, engine=engine, contexts=contexts)
        built = [
            work.build(platform, prefix=f"{platform} " if len(platforms) > 1 else "", stack=stack)
            for platform in platforms
        ]
        done = _put_out(session, request, built)
    for output in request.outputs:
        if output.push:
            _push(request, output)
    return done


def _put_out(session: Session, request: Request, built: Sequence[BuiltImage]) -> Built:
    """Names what was built, and writes it where it is wanted."""
    digests = [tree_digest(image.config, image.tree, image.meta) for image in built]
    temporary = Reference.parse(f"localhost/build:{digests[0][7:19]}")
    wanted = [output for output in request.outputs if output.in_store]
    names: list[Reference] = []
    if wanted or not request.outputs:
        names = [*request.tags, *(name for output in wanted for name in output.names)] or [temporary]
    records = [
        ImageRecord(
            reference=temporary,
            commit=session.commit(image.tree, image.meta, image.config.platform),
            digest=digest,
            config=image.config,
            size_bytes=image.size_bytes,
            created_s=image.config.created_s,
        )
        for image, digest in zip(built, digests, strict=True)
    ]
    for output in request.outputs:
        if not output.in_store:
            write(session.repo, output, records, request.tags, sys.stdout.buffer, progress=settings().progress())
    digest = digests[0]
    for name in dict.fromkeys(names):
        digest = _record(session, name, built, records)
    return Built(
        identifier=built[0].config.digest, digest=digest, names=tuple(name.familiar for name in dict.fromkeys(names))
    )


def _record(session: Session, name: Reference, built: Sequence[BuiltImage], made: Sequence[ImageRecord]) -> Digest:
    """Gives a name to the images of all platforms; returns its digest."""
    records = [
        record_image(
            session.repo,
            name,
            tree=image.tree,
            meta=image.meta,
            size_bytes=record.size_bytes,
            config=image.config,
            digest=record.digest,
        )
        for image, record in zip(built, made, strict=True)
    ]
    if len(records) == 1:
        return records[0].digest
    from wherry.image.indexes import record_index

    return record_index(session.repo, name, records).digest


def _push(request: Request, output: Output) -> None:
    names = output.names or request.tags
    if not names:
        raise UsageError("what is pushed needs a name", hint="give -t REGISTRY/NAME:TAG")
    for name in names:
        push_image(name, quiet=request.quiet)


def push_image(name: Reference, *, quiet: bool) -> None:
    """Pushes an image of the store, or all platforms of it, by its name.

    Raises:
        NotFound: it is not there.
        NetworkError: the registry does not take it.
    """
    from wherry.cli.image_registry import send
    from wherry.cli.registries import RegistryOptions
    from wherry.image.indexes import find_index
    from wherry.image.kept import KeptBlobs
    from wherry.image.outgoing import outgoing
    from wherry.image.outgoingindex import outgoing_index

    repo = open_or_make_store(None)
    kept = KeptBlobs(repo)
    if index := find_index(repo, name):
        image: OutgoingImage | OutgoingIndex = outgoing_index(repo, index, kept, compress="gzip")
    else:
        image = outgoing(repo, Images(repo).get(str(name)), kept, compress="gzip")
    digest = send(image, name, name, RegistryOptions(current=settings()))
    note(f"pushed {name.familiar}@{digest}", quiet=quiet)


def check_dockerfile(dockerfile: Dockerfile) -> None:
    """Prints what is odd about a Dockerfile.

    Raises:
        InvalidInput: there is something, and the file's own ``check`` directive calls it an error.
    """
    for item in dockerfile.notes:
        click.echo(f"{dockerfile.where}:{item.line}: {item.rule}: {item.text}")
    if not dockerfile.notes:
        click.echo("Check complete, no warnings found.")
    elif dockerfile.directives.check_error:
        raise InvalidInput(f"{len(dockerfile.notes)} warnings", where=dockerfile.where)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    request: Request
    dockerfile: Dockerfile
    session: Session
    engine: Engine
    contexts: Contexts
    known: dict[tuple[str, str], ImageRecord] = field(default_factory=dict)
    """Images that were looked for already, by name and platform."""

    def build(self, platform: Platform, *, prefix: str, stack: ExitStack) -> BuiltImage:
        request = self.request
        output = None
        if request.quiet:
            output = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 the stack closes it
        builder = Builder(
            runner=Runner(
                engine=self.engine,
                session=self.session,
                offered=Offered(secrets=request.secrets, agents=request.agents),
                template=request.template,
                stdout_fd=output.fileno() if output is not None else 2,
                note=lambda text: note(text, quiet=request.quiet),
            ),
            images=self._image,
            contexts=self.contexts,
            platform=platform,
            watcher=Lines(request.quiet, prefix),
            use_cache=lambda stage: not request.no_cache and stage not in request.no_cache_stages,
            created=request.created,
            labels=request.labels,
            environment=request.environment,
            further=self._further(platform),
            inline=request.inline_cache,
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
        request, file = self.request, self.dockerfile
        names = GlobalArgs.of(
            file, request.build_args, target=platform, build=Platform.of_this_machine(), target_stage=request.target
        )
        contexts = frozenset([*request.contexts, *request.image_contexts])
        plan = with_images(plan_build(file, names, target=request.target, contexts=contexts), request.image_contexts)
        triggers = {
            index: config.get("OnBuild") or []
            for index, origin in plan.bases.items()
            if (config := self._image(origin, origin.platform or platform).config.document().get("config") or {})
        }
        if any(triggers.values()):
            plan = with_images(
                plan_build(file, names, target=request.target, contexts=contexts, triggers=triggers),
                request.image_contexts,
            )
        if not request.quiet:
            for item in (*file.notes, *tell(names.notes, file.directives, file.where)):
                note(f"{file.where}:{item.line}: {item.rule}: {item.text}")
            for name in unused_args(file, request.build_args):
                note(f"--build-arg {name}: no ARG asks for it")
        return plan

    def _further(self, platform: Platform) -> dict[str, tuple[Checksum, Checksum]]:
        """Returns what images tell of steps; one that is not there, as before the first build, is noted."""
        from wherry.engine.build import inline

        found: dict[str, tuple[Checksum, Checksum]] = {}
        for reference in self.request.cache_from:
            try:
                record = self._image(ImageOrigin(reference=reference), platform)
            except (NotFound, NotPermitted, NetworkError) as error:  # many registries forbid what is not there
                note(f"--cache-from {reference.familiar}: {error.what}", quiet=self.request.quiet)
                continue
            found.update(inline.known(self.session.repo, record))
        return found

    def _image(self, origin: ImageOrigin, platform: Platform) -> ImageRecord:
        key = (str(origin.reference), str(platform))
        if key not in self.known:
            self.known[key] = self._find(origin, platform)
        return self.known[key]

    def _find(self, origin: ImageOrigin, platform: Platform) -> ImageRecord:
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
            record = Images(self.session.repo).get(str(origin.reference), platform=platform)
        except NotFound:
            return None
        own = record.config
        if own.architecture and (own.os, own.architecture) != (platform.os, platform.architecture):
            return None
        return record
