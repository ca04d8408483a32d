"""``wherry build``: an image from a Dockerfile, in docker's words."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.build_options import limit_options
from wherry.cli.output import note
from wherry.core.errors import UsageError

if TYPE_CHECKING:
    from wherry.cli.build_work import Built


@click.command(
    epilog="""\b
Examples:
  wherry build -t app:1 .
  wherry build -t app:1 --target test --build-arg VERSION=2 -f docker/Dockerfile .
  wherry build -t app:1 --platform linux/amd64,linux/arm64 .
  wherry build -t app:1 --secret id=token,src=token.txt .
  wherry build -t app:1 https://git.example/app.git#v2:src
  wherry build --output out .
  wherry build -t app:1 --output type=oci,dest=app.tar .
  tar -c . | wherry build -t app:1 -"""
)
@click.argument("context", metavar="PATH|URL|-")
@click.option("-t", "--tag", "tags", multiple=True, metavar="NAME", help="What the image is called; several times.")
@click.option("-f", "--file", "file", metavar="FILE", help="The Dockerfile; by default PATH/Dockerfile, - is stdin.")
@click.option("--target", default="", metavar="STAGE", help="The stage that is built; by default the last.")
@click.option("--build-arg", "build_args", multiple=True, metavar="NAME[=VALUE]", help="A build argument.")
@click.option("--build-context", "contexts", multiple=True, metavar="NAME=PATH|URL", help="A further build context.")
@click.option("--platform", "platforms", default="", metavar="OS/ARCH,...", help="What it is built for.")
@click.option("--no-cache", is_flag=True, help="Run every step.")
@click.option("--no-cache-filter", multiple=True, metavar="STAGE,...", help="Run every step of these stages.")
@click.option("--cache-from", multiple=True, metavar="IMAGE", help="An image whose layers may spare steps.")
@click.option("--cache-to", multiple=True, metavar="type=inline", help="Tell in the image what --cache-from reads.")
@click.option("--pull", "pull_anew", is_flag=True, help="Pull the base images, also those that are there.")
@click.option("--secret", "secrets", multiple=True, metavar="id=ID[,src=FILE|,env=NAME]", help="For RUN --mount.")
@click.option("--ssh", "agents", multiple=True, metavar="default|ID[=SOCKET]", help="An SSH agent for RUN --mount.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A further label.")
@limit_options
@click.option("-o", "--output", "outputs", multiple=True, metavar="DIR|-|type=TYPE,dest=PATH", help="See below.")
@click.option("--push", "push_it", is_flag=True, help="Push what is built, by its names.")
@click.option("--load", "load_it", is_flag=True, help="Keep the image here also with --output.")
@click.option("--iidfile", type=click.Path(path_type=Path), metavar="FILE", help="Write the image's ID there.")
@click.option("--metadata-file", type=click.Path(path_type=Path), metavar="FILE", help="Write what was built, as JSON.")
@click.option("--check", "check_only", is_flag=True, help="Tell what is wrong with the Dockerfile; build nothing.")
@click.option("-q", "--quiet", is_flag=True, help="Print the image's ID alone; show output of what fails.")
@click.option("--progress", type=click.Choice(["auto", "plain", "quiet"]), default="auto", help="What is shown.")
def build(context: str, file: str | None, quiet: bool, progress: str, check_only: bool, **given: Any) -> None:
    """Build an image from a Dockerfile.

    The argument is the build context, what COPY and ADD may take: a directory; the address of a Git repository
    (#REF:DIRECTORY after it) or of an archive; or -, standard input, with a tar archive, or with a Dockerfile alone.

    The same inputs give the same image, on any machine: files have no times, and the image says the time of its base,
    or that of SOURCE_DATE_EPOCH. What a RUN came to is kept, and not run again until the files below it, the command,
    its arguments or its mounts change.

    --output writes the files of the image to a directory, or with type=tar to an archive; type=oci and type=docker
    write the image as an archive; type=registry pushes it. Then it is not kept here, unless --load, or type=image, says
    so.
    """
    from wherry.cli import build_options as options
    from wherry.cli.build_work import Request, carry_out, check_dockerfile
    from wherry.cli.context import settings
    from wherry.engine.build.contexts import find_dockerfile
    from wherry.engine.build.output import STDOUT, Kind, Output
    from wherry.image.reference import Reference

    if context == "-" and file == "-":
        raise UsageError("the context and the Dockerfile cannot both be on standard input")
    outputs = [options.output(text) for text in given["outputs"]]
    if given["push_it"]:
        outputs.append(Output(kind=Kind.REGISTRY, push=True))
    if given["load_it"]:
        outputs.append(Output(kind=Kind.IMAGE))
    to_stdout = [output for output in outputs if output.dest == STDOUT]
    if len(to_stdout) > 1 or (to_stdout and sys.stdout.isatty()):
        raise UsageError("one archive is written to standard output, which is no terminal", hint="add dest=FILE")
    tags = tuple(Reference.parse(tag) for tag in given["tags"])
    if any(tag.digest for tag in tags):
        raise UsageError("-t: a name has a tag, not a digest")
    files, images = options.named_contexts(given["contexts"])
    args = options.build_args(given["build_args"])
    quiet = quiet or progress == "quiet"
    request = Request(
        context=context,
        file=file or "",
        tags=tags,
        target=given["target"],
        build_args=args,
        contexts=files,
        image_contexts=images,
        platforms=tuple(word for word in given["platforms"].split(",") if word),
        no_cache=given["no_cache"],
        no_cache_stages=frozenset(word for text in given["no_cache_filter"] for word in text.split(",")),
        pull=given["pull_anew"],
        secrets=dict(options.secret(text) for text in given["secrets"]),
        agents=dict(options.agent(text) for text in given["agents"]),
        labels=options.labels(given["labels"]),
        cache_from=options.cache_from(given["cache_from"]),
        inline_cache=options.inline_cache(given["cache_to"], args),
        template=options.template(given),
        outputs=tuple(outputs),
        quiet=quiet,
        created=options.created(args),
        environment=dict(os.environ),
        check=check_dockerfile if check_only else None,
    )
    settings().enter_home()  # this process may begin anew there: before standard input is read
    found = find_dockerfile(context, file or "", sys.stdin.buffer)
    with ExitStack() as stack:
        built = carry_out(request, found, stack)
    if built is not None:
        _tell(built, given["iidfile"], given["metadata_file"], quiet=quiet, to_stdout=bool(to_stdout))


def _tell(built: Built, iidfile: Path | None, metadata_file: Path | None, *, quiet: bool, to_stdout: bool) -> None:
    from wherry.core import jsonio

    if iidfile:
        iidfile.write_text(built.identifier)
    if metadata_file:
        document: dict[str, str] = {
            "containerimage.config.digest": built.identifier,
            "containerimage.digest": built.digest,
        }
        if built.names:
            document["image.name"] = ",".join(built.names)
        metadata_file.write_bytes(jsonio.canonical(document))
    for name in () if quiet else built.names:
        note(f"named {name}")
    if not to_stdout:
        click.echo(built.identifier)
