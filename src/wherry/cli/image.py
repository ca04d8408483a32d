"""``wherry image``: the images in the store, in docker's words."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.context import settings
from wherry.cli.image_history import history
from wherry.cli.image_list import ls, summary
from wherry.cli.image_names import rename, tag, untag
from wherry.cli.image_prune import prune
from wherry.cli.image_repo import open_or_make_store, repo_option, require_images, users
from wherry.cli.output import note, print_json
from wherry.core.digest import Checksum, short
from wherry.core.errors import Conflict, WherryError

if TYPE_CHECKING:
    from wherry.image.catalog import ImageRecord
    from wherry.store.repository import Repository

_MAX_NOTES = 1
_PIECE_BYTES = 1024 * 1024


@click.group(
    epilog="""\b
Examples:
  wherry image import rootfs.tar.zst --name debian:12
  wherry image ls"""
)
def image() -> None:
    """Images in the store."""


for _command in (history, ls, prune, rename, tag, untag):
    image.add_command(_command)


@image.command(
    "import",
    epilog="""\b
Examples:
  wherry image import rootfs.tar.zst --name debian:12
  wherry image import ./tree --name app:1 -c 'CMD ["/usr/bin/app"]' -c 'EXPOSE 80'
  wherry image import oci:layout:1.2 --name registry.example/app:1.2
  docker save nginx:1.27 | wherry image import -""",
)
@click.argument("source")
@click.option("--name", metavar="REFERENCE", help="What to call it; by default what the source calls it.")
@click.option(
    "-c",
    "--change",
    "changes",
    multiple=True,
    metavar="INSTRUCTION",
    help="Change the config: CMD, ENV, USER ...",
)
@click.option("--platform", metavar="OS/ARCH", help="Which one, where there are several; by default this machine's.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@repo_option
def import_(
    source: str,
    name: str | None,
    changes: tuple[str, ...],
    platform: str | None,
    as_json: bool,
    repo_path: Path | None,
) -> None:
    """Bring an image into the store.

    SOURCE is a root tree (a directory), a root tar (plain, gzip, zstd or xz), an OCI layout, a `docker save` archive,
    or - for an archive on standard input. What it is shows in what is in it; say it with dir:, tar:, oci:DIR[:TAG],
    oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME]. The image's ID is printed.
    """
    from wherry.core.units import format_size
    from wherry.image.importing import import_image

    repo = open_or_make_store(repo_path)
    notes: list[str] = []
    with _spooled(source, repo) as real_source:
        record = import_image(
            repo,
            real_source,
            name=name,
            changes=changes,
            platform=platform,
            progress=settings().progress(),
            note=notes.append,
        )
    _tell(notes)
    note(
        f"{record.reference.familiar}: {format_size(record.size_bytes)}, commit {short(record.commit)}",
        quiet=settings().quiet,
    )
    if as_json:
        print_json(summary(record))
    else:
        click.echo(record.identifier)


@image.command("rm", epilog="\b\nExamples:\n  wherry image rm nginx:1.27\n  wherry image rm 3f57d9401f8d")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-f", "--force", is_flag=True, help="Also when containers are made from it; its files stay.")
@repo_option
def rm(names: tuple[str, ...], force: bool, repo_path: Path | None) -> None:
    """Remove images: their names, and the files that nothing else in the store needs.

    In another repository (--repo) the names alone go: revisions may need the files. `wherry store prune` frees them.
    """
    catalogue = require_images(repo_path, names[0])
    used = users(catalogue.repo) if repo_path is None else {}
    gone: set[Checksum] = set()
    failures: list[WherryError] = []
    for name in names:
        try:
            record = catalogue.get(name)
            others = len(catalogue.names_of(record)) > 1 and catalogue.is_name(name)
            if record.commit in used and not force and not others:
                raise Conflict("; ".join(used[record.commit]), where=name, hint="end that first, or use --force")
            doomed = {item.commit for item in catalogue.list() if catalogue.same(item, record)}
            for reference in catalogue.remove(name):
                click.echo(reference.familiar)
            gone |= {record.commit} if others else doomed | {record.commit}
        except WherryError as error:
            failures.append(error)
    if repo_path is None:
        from wherry.engine.imageuse import free

        free(catalogue.repo, gone, used)
    for failure in failures[:-1]:
        note(f"wherry: {failure}")
    if failures:
        raise failures[-1]


@image.command(epilog="\b\nExamples:\n  wherry image inspect nginx:1.27")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--format", "format_", type=click.Choice(["json"]), default="json", help="Always json.")
@repo_option
def inspect(names: tuple[str, ...], format_: str, repo_path: Path | None) -> None:
    """Show all about images, as JSON with docker's keys."""
    catalogue = require_images(repo_path, names[0])
    print_json([_details(catalogue.get(name)) for name in names])


# --- words and streams


@contextmanager
def _spooled(source: str, repo: Repository) -> Iterator[str]:
    """Gives a file for an archive on standard input: it is read more than once."""
    if source != "-":
        yield source
        return
    import tempfile

    with tempfile.NamedTemporaryFile(dir=repo.path / "tmp", prefix="import-") as file:
        while data := sys.stdin.buffer.read(_PIECE_BYTES):
            file.write(data)
        file.flush()
        yield file.name


def _tell(notes: list[str]) -> None:
    quiet = settings().quiet
    for text in notes[:_MAX_NOTES]:
        note(text, quiet=quiet)
    if len(notes) > _MAX_NOTES:
        note(f"... and {len(notes) - _MAX_NOTES} more of the kind", quiet=quiet)


def _details(record: ImageRecord) -> dict[str, Any]:
    document = record.config.document()
    return {
        "Id": record.identifier,
        "RepoTags": [record.reference.familiar] if record.reference.tag else [],
        "RepoDigests": [f"{record.reference.familiar_repository}@{record.digest}"],
        "Created": record.config.created,
        "Architecture": record.config.architecture,
        "Variant": record.config.variant,
        "Os": record.config.os,
        "Size": record.size_bytes,
        "Config": document.get("config") or {},
        "RootFS": {"Type": "layers", "Layers": list(record.config.diff_ids)},
        "Commit": record.commit,
    }
