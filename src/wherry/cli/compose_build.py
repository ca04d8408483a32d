"""``wherry compose build`` and ``push``: the images of services that say how they are built."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.compose_context import end_with, engine_of, load_project, teller
from wherry.cli.output import note
from wherry.core.errors import NotFound, WherryError

if TYPE_CHECKING:
    from wherry.cli.build_work import Request
    from wherry.engine.build.contexts import Found
    from wherry.engine.compose.model import Project
    from wherry.engine.engine import Engine

_SERVICES = click.argument("services", nargs=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What the command line adds to what the services say."""

    args: Mapping[str, str] = field(default_factory=dict)
    agents: tuple[str, ...] = ()
    memory: str = ""
    no_cache: bool = False
    pull: bool = False
    push: bool = False
    quiet: bool = False
    check: bool = False


@click.command()
@click.option("--build-arg", "build_args", multiple=True, metavar="NAME[=VALUE]", help="A build argument of each.")
@click.option("--ssh", "agents", multiple=True, metavar="default|ID[=SOCKET]", help="An SSH agent for RUN --mount.")
@click.option("-m", "--memory", default="", metavar="SIZE", help="The most memory that a RUN may use.")
@click.option("--no-cache", is_flag=True, help="Run every step.")
@click.option("--pull", "pull_anew", is_flag=True, help="Pull the base images, also those that are there.")
@click.option("--push", "push_it", is_flag=True, help="Push what is built.")
@click.option("--with-dependencies", is_flag=True, help="Also of services that these depend on.")
@click.option("--check", "check_only", is_flag=True, help="Tell what is wrong with the Dockerfiles; build nothing.")
@click.option("-q", "--quiet", is_flag=True, help="Show output of what fails alone.")
@_SERVICES
def build(services: tuple[str, ...], **given: Any) -> None:
    """Build the images of services.

    \b
    Examples:
      wherry compose build
      wherry compose build --pull --build-arg VERSION=2 web
    """
    from wherry.cli import build_options

    project = load_project(services)
    names = _named(project, services, with_dependencies=given["with_dependencies"])
    wanted = [name for name in names if "build" in project.services[name]]
    if not wanted:
        note("wherry: no service has build:, so nothing is built")
        return
    options = BuildOptions(
        args=build_options.build_args(given["build_args"]),
        agents=given["agents"],
        memory=given["memory"],
        no_cache=given["no_cache"],
        pull=given["pull_anew"],
        push=given["push_it"],
        quiet=given["quiet"],
        check=given["check_only"],
    )
    build_images(engine_of(with_store=True), project, wanted, options)


@click.command()
@click.option("--include-deps", is_flag=True, help="Also images of services that these depend on.")
@click.option("--ignore-push-failures", is_flag=True, help="Go on, and end well, when one cannot be pushed.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@_SERVICES
def push(services: tuple[str, ...], include_deps: bool, ignore_push_failures: bool, quiet: bool) -> None:
    """Push the images that are built to their registries.

    \b
    Examples:
      wherry compose push
    """
    from wherry.cli.build_work import push_image
    from wherry.engine.compose.model import built_name
    from wherry.image.reference import Reference

    project = load_project(services)
    failures: list[WherryError] = []
    tell = teller()
    engine_of(with_store=True)
    for name in _named(project, services, with_dependencies=include_deps):
        service = project.services[name]
        if "build" not in service or service["image"] == built_name(project.name, name):
            continue
        tell("Image", service["image"], "Pushing")
        try:
            push_image(Reference.parse(service["image"]), quiet=quiet)
        except WherryError as error:
            tell("Image", service["image"], "Error")
            failures.append(error)
        else:
            tell("Image", service["image"], "Pushed")
    end_with(failures, ignore=ignore_push_failures)


def _named(project: Project, services: tuple[str, ...], *, with_dependencies: bool) -> list[str]:
    from wherry.engine.compose.wanted import wanted_images

    wanted = wanted_images(project, services, dependencies_too=with_dependencies)
    return [name for each in wanted for name in each.services]


def build_images(engine: Engine, project: Project, services: Collection[str], options: BuildOptions) -> None:
    """Builds the images of services, and before them those whose files they take.

    Args:
        engine: of this call.
        project: what is to be.
        services: those that are wanted; each has ``build``.
        options: of the command line.

    Raises:
        WherryError: one cannot be built; those before it are there.
    """
    from wherry.cli.build_work import carry_out
    from wherry.engine.compose.wanted import build_order

    tell = teller()
    for name in build_order(project, services):
        image = project.services[name]["image"]
        tell("Image", image, "Building")
        try:
            request, found = _request(engine, project, name, options)
            with ExitStack() as stack:
                carry_out(request, found, stack)
        except WherryError:
            tell("Image", image, "Error")
            raise
        tell("Image", image, "Checked" if options.check else "Built")


def _request(engine: Engine, project: Project, name: str, options: BuildOptions) -> tuple[Request, Found | None]:
    from wherry.cli import build_options
    from wherry.cli.build_work import Request, check_dockerfile
    from wherry.engine.build.contexts import find_dockerfile
    from wherry.engine.build.mounts import Secret
    from wherry.engine.build.output import Kind, Output
    from wherry.engine.compose.granted import build_secrets
    from wherry.engine.compose.model import SHARED
    from wherry.image.reference import Reference

    service = project.services[name]
    build = service["build"]
    args = {key: project.variables.get(key) if value is None else value for key, value in build.get("args", {}).items()}
    images = {
        key: f"docker-image://{project.services[text.removeprefix(SHARED)]['image']}"
        if text.startswith(SHARED)
        else text
        for key, text in build.get("additional_contexts", {}).items()
    }
    files, image_contexts = build_options.named_contexts([f"{key}={text}" for key, text in images.items()])
    build_args = {
        **build_options.build_args(()),
        **{key: value for key, value in args.items() if value is not None},
        **options.args,
    }
    context = build.get("context", project.directory)
    file, found = _dockerfile(project, name, context)
    platforms = build.get("platforms") or ([service["platform"]] if "platform" in service else [])
    outputs = (Output(kind=Kind.IMAGE), Output(kind=Kind.REGISTRY, push=True)) if options.push else ()
    request = Request(
        context=context,
        file=file,
        tags=tuple(map(Reference.parse, (service["image"], *build.get("tags", ())))),
        target=build.get("target", ""),
        build_args=build_args,
        contexts=files,
        image_contexts=image_contexts,
        platforms=tuple(platforms),
        no_cache=options.no_cache or build.get("no_cache", False),
        no_cache_stages=frozenset(build.get("no_cache_filter", ())),
        pull=options.pull or build.get("pull", False),
        secrets={
            item.target: Secret(value=item.data) if item.data is not None else Secret(path=_path(item.source))
            for item in build_secrets(engine.paths, project, service)
        },
        agents=dict(build_options.agent(text) for text in (*build.get("ssh", ()), *options.agents)),
        labels={
            **build.get("labels", {}),
            "com.docker.compose.project": project.name,
            "com.docker.compose.service": name,
        },
        cache_from=build_options.cache_from(build.get("cache_from", ())),
        inline_cache=build_options.inline_cache(build.get("cache_to", ()), build_args),
        template=build_options.template(
            {
                **build_options.NO_LIMITS,
                "network": build.get("network", "default"),
                "add_hosts": [f"{host}={ip}" for host, every in build.get("extra_hosts", {}).items() for ip in every],
                "shm_size": build.get("shm_size", ""),
                "ulimits": [f"{key}={item['soft']}:{item['hard']}" for key, item in build.get("ulimits", {}).items()],
                "memory": options.memory,
            }
        ),
        outputs=outputs,
        quiet=options.quiet,
        created=build_options.created(build_args),
        environment=dict(os.environ),
        check=check_dockerfile if options.check else None,
    )
    try:
        return request, found or find_dockerfile(context, file, sys.stdin.buffer)
    except NotFound as error:
        place = project.place("services", name, "build")
        raise NotFound(error.what, where=error.where, hint=f"the build at {place} wants it") from None


def _dockerfile(project: Project, name: str, context: str) -> tuple[str, Found | None]:
    """Returns where a service's Dockerfile is, and the Dockerfile where it stands in the Compose file."""
    from wherry.engine.build.contexts import Found
    from wherry.engine.compose.buildforms import is_address

    build = project.services[name]["build"]
    if "dockerfile_inline" in build:
        where = f"{project.place('services', name, 'build')}: dockerfile_inline"
        return "", Found(data=build["dockerfile_inline"].encode(), where=where)
    file = build.get("dockerfile", "")
    if not file or is_address(context) or is_address(file):
        return file, None
    return os.path.join(context, file), None


def _path(text: str) -> Any:
    from pathlib import Path

    if not os.path.isfile(text):
        raise NotFound("no such file of a secret", where=text)
    return Path(text)
