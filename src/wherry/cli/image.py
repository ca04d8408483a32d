"""``wherry image``: the images in the store, in docker's words."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.context import settings
from wherry.cli.image_prune import prune
from wherry.cli.output import note, print_json, print_table
from wherry.core.digest import Checksum, short
from wherry.core.errors import Conflict, NotFound, WherryError

if TYPE_CHECKING:
    from wherry.image.catalog import ImageRecord, Images
    from wherry.store.repository import Repository

_MAX_NOTES = 1
_PIECE_BYTES = 1024 * 1024

_repo = click.option(
    "--repo", "repo_path", type=click.Path(path_type=Path), metavar="DIR", help="Another repository than ROOT/store."
)


@click.group(
    epilog="""\b
Examples:
  wherry image import rootfs.tar.zst --name debian:12
  wherry image ls"""
)
def image() -> None:
    """Images in the store."""


image.add_command(prune)


@image.command(
    "ls",
    epilog="""\b
Examples:
  wherry image ls
  wherry image ls nginx
  wherry image ls --json""",
)
@click.argument("name", required=False)
@click.option("-q", "--quiet", "ids_only", is_flag=True, help="Print image IDs alone.")
@click.option("--no-trunc", is_flag=True, help="Print whole image IDs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_repo
def ls(name: str | None, ids_only: bool, no_trunc: bool, as_json: bool, repo_path: Path | None) -> None:
    """List images; with NAME (repository or repository:tag) those of that name."""
    from wherry.core.units import format_size

    catalogue = _open(repo_path, missing_ok=True)
    records = [record for record in (catalogue.list() if catalogue else ()) if name is None or _has_name(record, name)]
    if as_json:
        print_json([_summary(record) for record in records])
        return
    identifiers = [str(record.identifier) if no_trunc else short(record.identifier) for record in records]
    if ids_only:
        for identifier in dict.fromkeys(identifiers):
            click.echo(identifier)
        return
    rows = [
        [
            record.reference.familiar_repository,
            record.reference.tag or "<none>",
            identifier,
            _created(record),
            format_size(record.size_bytes),
        ]
        for record, identifier in zip(records, identifiers, strict=True)
    ]
    print_table(["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], rows, shrink=0)


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
@_repo
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
    from wherry.store.format.objects import Mode
    from wherry.store.repository import Repository

    if repo_path is None:
        settings().enter_home()
    repo = (
        Repository.open(repo_path)
        if repo_path is not None
        else Repository.init(settings().root / "store", Mode.BARE_USER)
    )
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
        print_json(_summary(record))
    else:
        click.echo(record.identifier)


@image.command("rm", epilog="\b\nExamples:\n  wherry image rm nginx:1.27\n  wherry image rm 3f57d9401f8d")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-f", "--force", is_flag=True, help="Also when containers are made from it; its files stay.")
@_repo
def rm(names: tuple[str, ...], force: bool, repo_path: Path | None) -> None:
    """Remove images: their names, and the files that nothing else in the store needs.

    In another repository (--repo) the names alone go: revisions may need the files. `wherry store prune` frees them.
    """
    catalogue = _require(repo_path, names[0])
    used = _used_commits() if repo_path is None else {}
    gone: set[Checksum] = set()
    failures: list[WherryError] = []
    for name in names:
        try:
            record = catalogue.get(name)
            if record.commit in used and not force:
                users = ", ".join(used[record.commit])
                raise Conflict(f"containers are made from it: {users}", where=name, hint="remove them, or use --force")
            for reference in catalogue.remove(name):
                click.echo(reference.familiar)
            gone.add(record.commit)
        except WherryError as error:
            failures.append(error)
    if repo_path is None:
        _free(catalogue.repo, gone - used.keys())
    for failure in failures[:-1]:
        note(f"wherry: {failure}")
    if failures:
        raise failures[-1]


@image.command(epilog="\b\nExamples:\n  wherry image inspect nginx:1.27")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--format", "format_", type=click.Choice(["json"]), default="json", help="Always json.")
@_repo
def inspect(names: tuple[str, ...], format_: str, repo_path: Path | None) -> None:
    """Show all about images, as JSON with docker's keys."""
    catalogue = _require(repo_path, names[0])
    print_json([_details(catalogue.get(name)) for name in names])


# --- the repository


def _open(repo_path: Path | None, *, missing_ok: bool) -> Images | None:
    from wherry.image.catalog import Images
    from wherry.store.repository import Repository

    if repo_path is None:
        settings().enter_home()
    try:
        return Images(Repository.open(repo_path or settings().root / "store"))
    except NotFound:
        if repo_path is None and missing_ok:
            return None
        raise


def _require(repo_path: Path | None, name: str) -> Images:
    found = _open(repo_path, missing_ok=True)
    if found is None:
        raise NotFound(f"no such image: {name}", hint="there is no store yet; `wherry image import` makes it")
    return found


def _used_commits() -> dict[Checksum, list[str]]:
    """Returns the commits that this machine's containers are made from, with the containers' names."""
    from wherry.engine.engine import Engine

    found: dict[Checksum, list[str]] = {}
    for info in Engine(settings().root, settings().run_root, None).list():
        if info.commit:
            found.setdefault(Checksum(info.commit), []).append(info.name)
    return found


def _free(repo: Repository, commits: set[Checksum]) -> None:
    """Removes the files that only these commits need, unless a name still leads to them."""
    from wherry.image.tidying import tidy
    from wherry.store.care.prune import prune

    doomed = (commits | tidy(repo).commits) - set(repo.refs().values())
    if doomed:
        prune(repo, delete_commits=doomed)


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


# --- words


def _tell(notes: list[str]) -> None:
    quiet = settings().quiet
    for text in notes[:_MAX_NOTES]:
        note(text, quiet=quiet)
    if len(notes) > _MAX_NOTES:
        note(f"... and {len(notes) - _MAX_NOTES} more of the kind", quiet=quiet)


def _has_name(record: ImageRecord, name: str) -> bool:
    reference = record.reference
    return name in (reference.familiar, reference.familiar_repository, str(reference), reference.repository)


def _created(record: ImageRecord) -> str:
    from wherry.cli.output import ago

    return ago(record.created_s) if record.created_s else "N/A"


def _summary(record: ImageRecord) -> dict[str, Any]:
    return {
        "reference": str(record.reference),
        "repository": record.reference.familiar_repository,
        "tag": record.reference.tag,
        "id": record.identifier,
        "commit": record.commit,
        "digest": record.digest,
        "platform": record.config.platform,
        "created": record.config.created,
        "size_bytes": record.size_bytes,
    }


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
