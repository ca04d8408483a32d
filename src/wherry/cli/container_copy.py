"""``cp``, ``diff``, ``commit`` and ``export``: what is in a container, and what has become of it."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO, cast

import click

from wherry.cli import completing
from wherry.cli.container_run import open_engine
from wherry.cli.context import settings
from wherry.cli.output import note
from wherry.core.errors import UsageError

if TYPE_CHECKING:
    from wherry.engine.copying import Side
    from wherry.engine.engine import Engine


def split_place(text: str) -> tuple[str | None, str]:
    """Returns container and path of ``CONTAINER:PATH``; no container for a path of the host, and for ``-``.

    As docker has it: a path of the host with a colon in it is written with ``./`` or ``/`` before it.
    """
    if text == "-" or text.startswith(("/", ".")) or ":" not in text:
        return None, text
    container, _, path = text.partition(":")
    if not path:
        raise UsageError(f"no path: {text!r}", hint="write CONTAINER:PATH")
    return container, path


@click.command()
@click.option("-a", "--archive", is_flag=True, help="Keep owners and extended attributes.")
@click.option("-L", "--follow-link", is_flag=True, help="Copy what a link at SRC points to.")
@click.option("-q", "--quiet", is_flag=True, help="Do not tell what was left out.")
@click.argument("source", metavar="SRC", shell_complete=completing.container_paths)
@click.argument("dest", metavar="DEST", shell_complete=completing.container_paths)
def cp(archive: bool, follow_link: bool, quiet: bool, source: str, dest: str) -> None:
    """Copy files between a container and the host, or between containers.

    SRC and DEST are paths, CONTAINER:PATH, or - for a tar archive on standard input or output. A directory goes into
    one that is there; with /. at its end its contents do. The container need not run; its volumes are seen.

    \b
    Examples:
      wherry cp web:/etc/nginx/nginx.conf .
      wherry cp ./site/. web:/www
      wherry cp web:/var/log - | tar -t
    """
    from wherry.engine.copying import Side, Source, copy
    from wherry.engine.idranges import AS_SEEN
    from wherry.engine.tarring import unpack, write_source
    from wherry.engine.view import open_root, owners_of

    from_container, from_path = split_place(source)
    to_container, to_path = split_place(dest)
    if from_container is None and to_container is None:
        raise UsageError("neither SRC nor DEST is in a container", hint="write one of them as CONTAINER:PATH")
    if "-" in (source, dest) and source == dest:
        raise UsageError("SRC and DEST cannot both be -")
    if dest == "-" and sys.stdout.isatty():
        raise UsageError("an archive is not written to a terminal", hint="redirect it: > files.tar")
    current = settings()
    engine = open_engine(current, with_store=True)

    def tell(text: str) -> None:
        note(f"wherry: {text}", quiet=quiet or current.quiet)

    def side(stack: ExitStack, container: str | None, *, write: bool) -> Side:
        if container is None:
            return Side()
        info = engine.inspect(container)
        root_fd = stack.enter_context(open_root(engine.paths, engine.repo, info, write=write))
        return Side(root_fd, owners_of(info), name=info.name)

    def be_who_can_write() -> None:
        if to_side.owners != AS_SEEN:
            from wherry.engine.mapped import become_root

            become_root(to_side.owners)

    with ExitStack() as stack:
        to_side = side(stack, to_container, write=True)
        if source == "-":
            assert to_side.root_fd is not None  # noqa: S101 checked above
            be_who_can_write()
            unpack(sys.stdin.buffer, to_side.root_fd, to_path, archive=archive, owners=to_side.owners, note=tell)
            return
        from_side = to_side if from_container == to_container else side(stack, from_container, write=False)
        be_who_can_write()
        found = Source(from_side, from_path, follow=follow_link)
        stack.callback(found.close)
        if dest == "-":
            write_source(found, sys.stdout.buffer, note=tell)
            return
        copy(found, to_side, to_path, archive=archive, note=tell)


@click.command("diff")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--format", "form", type=click.Choice(["json"]), help="json: the same as --json.")
@click.argument("container", shell_complete=completing.containers)
def diff(as_json: bool, form: str | None, container: str) -> None:
    """Show what a container has changed in its image: A added, C changed, D deleted.

    \b
    Examples:
      wherry container diff web
      wherry container diff --json web | jq -r '.[] | select(.kind == "A") | .path'
    """
    from wherry.cli.output import print_json
    from wherry.engine.committing import diff as find

    engine = open_engine(settings(), with_store=True)
    found = find(engine.paths, engine.repo, engine.inspect(container))
    if as_json or form:
        print_json([{"kind": change.kind, "path": change.path} for change in found])
        return
    for change in found:
        print(change.kind, printable(change.path))


def printable(text: str) -> str:
    """Returns a name as one line: what a terminal would take as more than a name is escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


@click.command()
@click.option("-a", "--author", default="", metavar="TEXT", help="Who made it.")
@click.option(
    "-c", "--change", "changes", multiple=True, metavar="LINE", help='CMD ["x"], ENV A=b ..., as in a Dockerfile.'
)
@click.option("-m", "--message", default="", metavar="TEXT", help="One line about it.")
@click.option("-p/ ", "--pause/--no-pause", default=True, show_default=True, help="Freeze the container meanwhile.")
@click.option("-q", "--quiet", is_flag=True, help="Do not tell what was left out.")
@click.argument("container", shell_complete=completing.containers)
@click.argument("name", metavar="[NAME[:TAG]]", required=False, shell_complete=completing.images)
def commit(
    author: str, changes: tuple[str, ...], message: str, pause: bool, quiet: bool, container: str, name: str | None
) -> None:
    """Make an image of what a container has become, and print its ID; volumes are not part of it.

    \b
    Examples:
      wherry container commit web shop/web:2
      wherry container commit -c 'CMD ["httpd"]' -c 'ENV DEBUG=0' web shop/web:2
    """
    from wherry.core.errors import NotFound
    from wherry.engine.committing import commit as make

    current = settings()
    engine = open_engine(current, with_store=True)
    info = engine.inspect(container)
    if engine.repo is None:
        raise NotFound("there is no store that an image could go to", where=current.root / "store")
    print(
        make(
            engine.paths,
            engine.repo,
            info,
            name=name,
            changes=changes,
            author=author,
            message=message,
            pause=pause,
            note=lambda text: note(f"wherry: {text}", quiet=quiet or current.quiet),
        )
    )


@click.command()
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help="Write there, not to standard output.")
@click.argument("container", shell_complete=completing.containers)
def export(output: str | None, container: str) -> None:
    """Write a container's root file system as a tar archive; volumes are not part of it.

    \b
    Examples:
      wherry export -o web.tar web
      wherry export web | tar -t
    """
    current = settings()
    engine = open_engine(current, with_store=True)
    if output is None or output == "-":
        if sys.stdout.isatty():
            raise UsageError("an archive is not written to a terminal", hint="redirect it, or use -o FILE")
        _export(engine, container, sys.stdout.buffer, quiet=current.quiet)
        return
    temporary = f"{output}.{os.urandom(4).hex()}.tmp"
    try:
        with open(temporary, "xb") as file:
            _export(engine, container, cast(BinaryIO, file), quiet=current.quiet)
        os.replace(temporary, output)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _export(engine: Engine, container: str, out: BinaryIO, *, quiet: bool) -> None:
    from wherry.engine.committing import export as write

    write(
        engine.paths,
        engine.repo,
        engine.inspect(container),
        out,
        note=lambda text: note(f"wherry: {text}", quiet=quiet),
    )
