"""``wherry compose pull``, and the images that ``up``, ``create`` and ``run`` find missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from wherry.cli.compose_context import engine_of, load_project, teller
from wherry.cli.output import note
from wherry.core.errors import NotFound, UsageError, WherryError

if TYPE_CHECKING:
    from wherry.engine.compose.model import Project
    from wherry.engine.compose.wanted import WantedImage
    from wherry.engine.engine import Engine

Tell = Callable[[str, str, str], None]


def _policy(_context: click.Context, _parameter: click.Parameter, word: str) -> str:
    if word == "build":
        raise UsageError("--pull build: images are not built by compose", hint="`wherry build` makes them")
    if word not in ("", "always", "missing", "never", "policy"):
        raise UsageError(f"--pull: no policy {word!r}", hint="use always, missing or never")
    return word


PULL = click.option(
    "--pull", default="", metavar="POLICY", callback=_policy, help="always, missing or never; else what services say."
)
QUIET_PULL = click.option("--quiet-pull", is_flag=True, help="Pull without progress.")


@click.command()
@click.option("--include-deps", is_flag=True, help="Also images of services that these depend on.")
@click.option("--ignore-pull-failures", is_flag=True, help="Go on, and end well, when one cannot be pulled.")
@click.option("--ignore-buildable", is_flag=True, hidden=True, expose_value=False)
@click.option(
    "--policy", type=click.Choice(["always", "missing"]), default="always", show_default=True, help="Which are pulled."
)
@click.option("-q", "--quiet", "quiet", is_flag=True, help="No progress.")
@click.argument("services", nargs=-1)
def pull(services: tuple[str, ...], include_deps: bool, ignore_pull_failures: bool, policy: str, quiet: bool) -> None:
    """Fetch the images of services from their registries.

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
        if each.policy == "never":
            continue
        try:
            _provide(engine, project, each, policy, teller(), quiet=quiet)
        except WherryError as error:
            failures.append(error)
            note(f"wherry: {error}")
    if failures and not ignore_pull_failures:
        raise failures[0]


def provide_images(
    engine: Engine,
    project: Project,
    services: tuple[str, ...],
    *,
    policy: str = "",
    dependencies_too: bool = True,
    quiet: bool = False,
) -> None:
    """Pulls what is to be pulled before containers are made.

    Args:
        engine: gets the store, if it had none.
        project: what is to be.
        services: of these; empty: of all.
        policy: of ``--pull``; "": what each service says.
        dependencies_too: also of those that they depend on.
        quiet: without progress.

    Raises:
        NotFound: an image is not there, and may not be pulled or is nowhere.
    """
    from wherry.engine.compose.wanted import wanted_images

    for each in wanted_images(project, services, dependencies_too=dependencies_too, policy=policy):
        if each.policy != "never":
            _provide(engine, project, each, each.policy, teller(), quiet=quiet)


def _provide(engine: Engine, project: Project, each: WantedImage, policy: str, tell: Tell, *, quiet: bool) -> None:
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
