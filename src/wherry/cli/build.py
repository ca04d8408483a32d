"""``wherry build``: an image from a Dockerfile, in docker's words."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.output import note
from wherry.core.errors import InvalidInput, NotFound, UsageError

if TYPE_CHECKING:
    from wherry.engine.build.running import Secret
    from wherry.image.dockerfile.syntax import Dockerfile

_MAX_DOCKERFILE_BYTES = 4 * 1024 * 1024


@click.command(
    epilog="""\b
Examples:
  wherry build -t app:1 .
  wherry build -t app:1 --target test --build-arg VERSION=2 -f docker/Dockerfile .
  wherry build -t app:1 --platform linux/amd64,linux/arm64 .
  wherry build -t app:1 --secret id=token,src=token.txt .
  tar -c . | wherry build -t app:1 -"""
)
@click.argument("context", metavar="PATH|-")
@click.option("-t", "--tag", "tags", multiple=True, metavar="NAME", help="What the image is called; several times.")
@click.option("-f", "--file", "file", metavar="FILE", help="The Dockerfile; by default PATH/Dockerfile, - is stdin.")
@click.option("--target", default="", metavar="STAGE", help="The stage that is built; by default the last.")
@click.option("--build-arg", "build_args", multiple=True, metavar="NAME[=VALUE]", help="A build argument.")
@click.option("--build-context", "contexts", multiple=True, metavar="NAME=PATH", help="A further build context.")
@click.option("--platform", "platforms", default="", metavar="OS/ARCH,...", help="What it is built for.")
@click.option("--no-cache", is_flag=True, help="Run every step.")
@click.option("--no-cache-filter", multiple=True, metavar="STAGE,...", help="Run every step of these stages.")
@click.option("--pull", "pull_anew", is_flag=True, help="Pull the base images, also those that are there.")
@click.option("--secret", "secrets", multiple=True, metavar="id=ID[,src=FILE|,env=NAME]", help="For RUN --mount.")
@click.option("--ssh", "agents", multiple=True, metavar="default|ID[=SOCKET]", help="An SSH agent for RUN --mount.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A further label.")
@click.option("--network", type=click.Choice(["default", "none", "host"]), default="default", help="Of RUN.")
@click.option("--add-host", "add_hosts", multiple=True, metavar="HOST:IP", help="A line of /etc/hosts of RUN.")
@click.option("--iidfile", type=click.Path(path_type=Path), metavar="FILE", help="Write the image's ID there.")
@click.option("--metadata-file", type=click.Path(path_type=Path), metavar="FILE", help="Write what was built, as JSON.")
@click.option("--check", "check_only", is_flag=True, help="Tell what is wrong with the Dockerfile; build nothing.")
@click.option("-q", "--quiet", is_flag=True, help="Print the image's ID alone; show output of what fails.")
@click.option("--progress", type=click.Choice(["auto", "plain", "quiet"]), default="auto", help="What is shown.")
def build(context: str, file: str | None, quiet: bool, progress: str, check_only: bool, **given: Any) -> None:
    """Build an image from a Dockerfile.

    PATH is the build context: what COPY and ADD may take. With - it is a tar archive on standard input.

    The same inputs give the same image, on any machine: files have no times, and the image says the time of its base,
    or that of SOURCE_DATE_EPOCH. What a RUN came to is kept, and not run again until the files below it, the command,
    its arguments or its mounts change.
    """
    from wherry.cli.build_work import Request, carry_out

    if context == "-" and file == "-":
        raise UsageError("the context and the Dockerfile cannot both be on standard input")
    dockerfile, where = _dockerfile(context, file)
    if check_only:
        _check(dockerfile)
        return
    quiet = quiet or progress == "quiet"
    request = Request(
        dockerfile=dockerfile,
        context=context,
        ignore_names=where,
        tags=given["tags"],
        target=given["target"],
        build_args=_build_args(given["build_args"]),
        contexts=dict(_pair(text, "--build-context") for text in given["contexts"]),
        platforms=tuple(word for word in given["platforms"].split(",") if word),
        no_cache=given["no_cache"],
        no_cache_stages=frozenset(word for text in given["no_cache_filter"] for word in text.split(",")),
        pull=given["pull_anew"],
        secrets=dict(_secret(text) for text in given["secrets"]),
        agents=dict(_agent(text) for text in given["agents"]),
        labels=dict(_pair(text, "--label") for text in given["labels"]),
        network="" if given["network"] == "default" else given["network"],
        add_hosts=given["add_hosts"],
        quiet=quiet,
        source_date_epoch=os.environ.get("SOURCE_DATE_EPOCH", ""),
    )
    with ExitStack() as stack:
        built = carry_out(request, stack)
    if given["iidfile"]:
        given["iidfile"].write_text(built.identifier)
    if given["metadata_file"]:
        from wherry.core import jsonio

        document = {"containerimage.digest": built.digest, "image.name": ",".join(built.names)}
        given["metadata_file"].write_bytes(jsonio.canonical(document))
    if quiet:
        click.echo(built.identifier)
    else:
        for name in built.names:
            note(f"named {name}")
        click.echo(built.identifier)


def _dockerfile(context: str, file: str | None) -> tuple[Dockerfile, tuple[str, ...]]:
    """Reads the Dockerfile; returns it, and the names of ignore files in the order in which they count.

    The Dockerfile of a context that is an archive is in that: then it is read later, and this is an empty one.
    """
    from wherry.image.dockerfile.ignore import ignore_names
    from wherry.image.dockerfile.parsing import parse_dockerfile
    from wherry.image.dockerfile.syntax import Dockerfile

    if file == "-":
        return parse_dockerfile(sys.stdin.buffer.read(_MAX_DOCKERFILE_BYTES + 1), where="<stdin>"), (".dockerignore",)
    if context == "-":
        return Dockerfile(where=file or "Dockerfile"), (".dockerignore",)
    path = Path(file) if file else Path(context) / "Dockerfile"
    if file is None and not path.exists() and (Path(context) / "Containerfile").exists():
        path = Path(context) / "Containerfile"
    if "://" in context:
        raise UsageError("a context is a directory or -, not an address", where=context, hint="clone it first")
    try:
        with path.open("rb") as opened:
            data = opened.read(_MAX_DOCKERFILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound("no such Dockerfile", where=path, hint="name it with -f") from None
    except IsADirectoryError:
        raise InvalidInput("the Dockerfile is a directory", where=path) from None
    try:
        relative = str(path.resolve().relative_to(Path(context).resolve()))
        names = ignore_names(relative)
    except ValueError:
        names = (".dockerignore", ".dockerignore")
    return parse_dockerfile(data, where=str(path)), tuple(dict.fromkeys(names))


def _check(dockerfile: Dockerfile) -> None:
    for item in dockerfile.notes:
        click.echo(f"{dockerfile.where}:{item.line}: {item.rule}: {item.text}")
    if not dockerfile.notes:
        click.echo("Check complete, no warnings found.")
    elif dockerfile.directives.check_error:
        raise InvalidInput(f"{len(dockerfile.notes)} warnings", where=dockerfile.where)


def _build_args(texts: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name:
            raise UsageError(f"--build-arg: NAME=VALUE expected, got {text!r}")
        if equals:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    if "SOURCE_DATE_EPOCH" in os.environ:
        found.setdefault("SOURCE_DATE_EPOCH", os.environ["SOURCE_DATE_EPOCH"])
    return found


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"{option}: NAME=VALUE expected, got {text!r}")
    return name, value


def _secret(text: str) -> tuple[str, Secret]:
    from wherry.engine.build.running import Secret

    words = dict(_pair(word, "--secret") for word in text.split(","))
    name = words.pop("id", "")
    kind = words.pop("type", "")
    path, variable = words.pop("src", words.pop("source", "")), words.pop("env", "")
    if not name or words:
        raise UsageError("--secret: id=ID[,src=FILE|,env=NAME] expected", where=text.partition(",")[0])
    if variable or (kind == "env" and not path) or (not path and name in os.environ):
        variable = variable or name
        if variable not in os.environ:
            raise UsageError(f"--secret: no variable {variable} in the environment")
        return name, Secret(value=os.environb[variable.encode()])
    found = Path(path or name)
    if not found.is_file():
        raise NotFound("--secret: no such file", where=found)
    return name, Secret(path=found)


def _agent(text: str) -> tuple[str, str]:
    name, _, socket = text.partition("=")
    socket = socket or os.environ.get("SSH_AUTH_SOCK", "")
    if not socket:
        raise UsageError("--ssh: there is no SSH agent", hint="start one, or name its socket: default=SOCKET")
    return name, str(Path(socket).absolute())
