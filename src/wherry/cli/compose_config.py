"""``wherry compose config``: what the files come to."""

from __future__ import annotations

import sys
from typing import Any

import click

from wherry.cli.compose_context import engine_of, load_project
from wherry.core.errors import UsageError


@click.command()
@click.option("--format", "form", type=click.Choice(["yaml", "json"]), default="yaml", help="How it is printed.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing: only say what is wrong.")
@click.option("--services", "only_services", is_flag=True, help="Names of services, one a line.")
@click.option("--volumes", is_flag=True, help="Names of volumes, one a line.")
@click.option("--networks", is_flag=True, help="Names of networks, one a line.")
@click.option("--profiles", is_flag=True, help="Profiles, one a line.")
@click.option("--images", is_flag=True, help="Images, one a line.")
@click.option("--environment", is_flag=True, help="The variables that the files are filled in with.")
@click.option("--hash", "hashes", metavar="SERVICE|*", help="What tells whether a service has changed.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), metavar="FILE", help="Write it to a file.")
@click.option("--no-interpolate", is_flag=True, hidden=True)
@click.argument("services", nargs=-1)
def config(services: tuple[str, ...], **given: Any) -> None:
    """Print what the files come to: merged, with variables filled in, in long forms.

    \b
    Examples:
      wherry compose config
      wherry compose -f compose.yaml -f test.yaml config --format json
      wherry compose config --hash '*'
    """
    from wherry.engine.compose import dump

    if given["no_interpolate"]:
        raise UsageError("--no-interpolate: a file is checked with its variables filled in")
    project = load_project(services)
    if services:
        from dataclasses import replace

        from wherry.engine.compose.model import dependencies
        from wherry.engine.compose.order import with_dependencies

        waits = {name: tuple(dependencies(service)) for name, service in project.services.items()}
        wanted = with_dependencies(services, waits)
        project = replace(project, services={key: item for key, item in project.services.items() if key in wanted})
    if given["quiet"]:
        return
    lists: dict[str, Any] = {
        "only_services": project.services,
        "volumes": project.volumes,
        "networks": project.networks,
        "profiles": project.every_profile(),
        "images": dict.fromkeys(service["image"] for service in project.services.values()),
        "environment": [f"{key}={value}" for key, value in sorted(project.variables.items())],
    }
    chosen = [key for key in lists if given[key]]
    if given["hashes"]:
        from wherry.engine.compose.services import config_hash

        names = list(project.services) if given["hashes"] == "*" else given["hashes"].split(",")
        for name in names:
            if name not in project.services:
                raise UsageError(f"--hash: no service {name!r}", hint="name one, or *")
            print(f"{name} {config_hash(engine_of().paths, project, name)}")
    elif chosen:
        for key in chosen:
            for item in lists[key]:
                print(item)
    else:
        from wherry.core.jsonio import pretty

        model = dump.model(project)
        text = pretty(model) + "\n" if given["form"] == "json" else dump.to_yaml(model)
        if given["output"]:
            with open(given["output"], "w", encoding="utf-8") as file:
                file.write(text)
        else:
            sys.stdout.write(text)
