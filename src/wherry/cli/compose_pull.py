"""``wherry compose pull``, and the images that ``up``, ``create`` and ``run`` find missing: pulled, or built."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from wherry.cli.compose_context import end_with, engine_of, load_project, teller
from wherry.cli.output import note
from wherry.core.errors import NotFound, UsageError, WherryError

if TYPE_CHECKING:
    from wherry.engine.compose.model import Project
    from wherry.engine.compose.wanted import WantedImage
    from wherry.engine.engine import Engine

Tell = Callable[[str, str, str], None]


def _policy(_context: click.Context, _parameter: click.Parameter, word: str) -> str:
    if word not in ("", "always", "missing", "never", "build", "policy"):
        raise UsageError(f"--pull: no policy {word!r}", hint="use always, missing, never or build")
    return word


PULL = click.option(
    "--pull", default="", metavar="POLICY", callback=_policy, help="always, missing, never, build; else services' own."
)
BUILD = click.option("--build/--no-build", "build", default=None, help="Build images first; or not even missing ones.")
QUIET_PULL = click.option("--quiet-pull", is_flag=True, help="Pull without progress.")


@click.command()
@click.option("--include-deps", is_flag=True, help="Also images of services that these depend on.")
@click.option("--ignore-pull-failures", is_flag=True, help="Go on, and end well, when one cannot be pulled.")
@click.option("--ignore-buildable", is_flag=True, help="Leave out images that can be built.")
@click.option(
    "--policy", type=click.Choice(["always", "missing"]), default="always", show_default=True, help="Which are pulled."
)
@click.option("-q", "--quiet", "quiet", is_flag=True, help="No progress.")
@click.argument("services", nargs=-1)
def pull(
    services: tuple[str, ...],
    include_deps: bool,
    ignore_pull_failures: bool,
    ignore_buildable: bool,
    policy: str,
    quiet: bool,
) -> None:
    """Fetch the images of services from their registries.

    What a service builds and has no image: for is nowhere else, and left out; what it builds and cannot be pulled is
    told, and no failure.

    \b
    Examples:
      wherry compose pull
      wherry compose pull --policy missing web
    """
    from wherry.engine.compose.wanted import wanted_images

    project = load_project(services)
    engine = engine_of(with_store=True)
    wanted = wanted_images(project, services, dependencies_too=include_deps)
    failures: list[WherryError] = []
    for each in wanted:
        if each.policy == "never" or not each.elsewhere or (each.built and ignore_buildable):
            continue
        try:
            _pull(engine, project, each, policy, teller(), quiet=quiet)
        except WherryError as error:
            if each.built:
                note(f"wherry: {error}\nwherry: {each.image} must be built: `wherry compose build {each.built}`")
            else:
                failures.append(error)
    end_with(failures, ignore=ignore_pull_failures)


def provide_images(
    engine: Engine,
    project: Project,
    services: tuple[str, ...],
    *,
    policy: str = "",
    dependencies_too: bool = True,
    build: bool | None = None,
    quiet: bool = False,
) -> None:
    """Pulls what is to be pulled, and builds what is to be built, before containers are made.

    Args:
        engine: gets the store, if it had none.
        project: what is to be.
        services: of these; empty: of all.
        policy: of ``--pull``; "": what each service says.
        dependencies_too: also those that they depend on.
        build: True: also what is there; False: not even what is missing.
        quiet: without progress.

    Raises:
        NotFound: an image is not there, and may not be pulled or is nowhere.
        WherryError: one cannot be built.
    """
    from wherry.cli.container_pull import has_image
    from wherry.engine.compose.wanted import wanted_images

    to_build = []
    for each in wanted_images(project, services, dependencies_too=dependencies_too, policy=policy):
        may_build = bool(each.built) and build is not False
        if may_build and (build or each.policy == "build"):
            to_build.append(each.built)
        elif may_build and (each.policy != "always" or not each.elsewhere):
            if not has_image(engine, each.image):
                to_build.append(each.built)
        elif each.policy not in ("never", "build") and each.elsewhere:
            try:
                _pull(engine, project, each, each.policy, teller(), quiet=quiet)
            except NotFound as error:
                if not may_build:
                    raise
                note(f"wherry: {error}; it is built")
                to_build.append(each.built)
    if to_build:
        from wherry.cli.compose_build import BuildOptions, build_images

        build_images(engine, project, to_build, BuildOptions(quiet=quiet))


def _pull(engine: Engine, project: Project, each: WantedImage, policy: str, tell: Tell, *, quiet: bool) -> None:
    from wherry.cli.container_pull import has_image, pull_image

    if policy != "always" and has_image(engine, each.image):
        return
    tell("Image", each.image, "Pulling")
    try:
        pull_image(engine, each.image, each.platform, quiet=quiet)
    except WherryError as error:
        tell("Image", each.image, "Error")
        place = project.place("services", each.services[0], "image")
        what = f"services.{each.services[0]}: image {each.image!r} cannot be pulled: {error}"
        raise NotFound(what, where=place) from error
    tell("Image", each.image, "Pulled")
