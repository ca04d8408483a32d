"""``wherry image ls`` (``wherry images``): docker's columns, and what is shared and what is an image's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli import completing
from wherry.cli.image_repo import open_images, repo_option
from wherry.cli.output import ago, print_json, print_table
from wherry.core.digest import short
from wherry.core.errors import UsageError

if TYPE_CHECKING:
    from wherry.image.catalog import ImageRecord


@click.command(
    "ls",
    epilog="""\b
Examples:
  wherry image ls
  wherry image ls nginx
  wherry image ls --size
  wherry image ls --all-platforms
  wherry image ls --json""",
)
@click.argument("name", required=False, shell_complete=completing.images)
@click.option("-q", "--quiet", "ids_only", is_flag=True, help="Print image IDs alone.")
@click.option("--no-trunc", is_flag=True, help="Print whole image IDs.")
@click.option("--digests", is_flag=True, help="Show the manifests' digests, too.")
@click.option("-s", "--size", "with_shares", is_flag=True, help="Show what is shared with other images, and what not.")
@click.option("--all-platforms", is_flag=True, help="Show what names stand for on other platforms, too.")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="reference=PATTERN, label=KEY[=VALUE].")
@click.option("--format", "form", metavar="FORMAT", help="json, or a Go template: {{.Repository}} {{.ID}}.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@repo_option
def ls(
    name: str | None,
    filters: tuple[str, ...],
    form: str | None,
    repo_path: Path | None,
    ids_only: bool,
    no_trunc: bool,
    digests: bool,
    with_shares: bool,
    all_platforms: bool,
    as_json: bool,
) -> None:
    """List images; with NAME (repository or repository:tag) those of that name."""
    from wherry.core.units import format_size

    catalogue = open_images(repo_path)
    everything = catalogue.list() if catalogue else ()
    if all_platforms and catalogue is not None:
        everything = tuple(item for record in everything for item in catalogue.variants(record))
    wanted = _Filter(filters)
    records = [record for record in everything if (name is None or _has_name(record, name)) and wanted.fits(record)]
    shares: dict[str, tuple[int, int]] = {}
    if with_shares and catalogue is not None:
        from wherry.engine.disk import unique_bytes

        shares, _ = unique_bytes(catalogue.repo, [record.commit for record in everything])
    if as_json:
        print_json([summary(record, shares.get(record.commit)) for record in records])
        return
    identifiers = [str(record.identifier) if no_trunc else short(record.identifier) for record in records]
    if form:
        from wherry.cli.template import print_rows

        rows = [_docker_row(*pair) for pair in zip(records, identifiers, strict=True)]
        print_rows(form, rows, {"ID": "IMAGE ID", "CreatedSince": "CREATED"})
        return
    if ids_only:
        for identifier in dict.fromkeys(identifiers):
            click.echo(identifier)
        return
    head = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]
    table = [
        [
            record.reference.familiar_repository,
            record.reference.tag or "<none>",
            identifier,
            created(record),
            format_size(record.size_bytes),
        ]
        for record, identifier in zip(records, identifiers, strict=True)
    ]
    if all_platforms:
        head.insert(2, "PLATFORM")
        for row, record in zip(table, records, strict=True):
            row.insert(2, record.config.platform)
    if digests:
        head.insert(2, "DIGEST")
        for row, record in zip(table, records, strict=True):
            row.insert(2, record.digest)
    if with_shares:
        head += ["SHARED", "UNIQUE"]
        for row, record in zip(table, records, strict=True):
            row += [format_size(size) for size in shares[record.commit]]
    print_table(head, table, shrink=0)


class _Filter:
    """Docker's ``--filter`` of images, as far as it means something here."""

    def __init__(self, items: tuple[str, ...]) -> None:
        self._labels: list[str] = []
        self._patterns: list[str] = []
        for item in items:
            key, _, value = item.partition("=")
            if key == "label" and value:
                self._labels.append(value)
            elif key == "reference" and value:
                self._patterns.append(value)
            else:
                raise UsageError(f"--filter: {item!r} is not supported", hint="use reference= or label=")

    def fits(self, record: ImageRecord) -> bool:
        from fnmatch import fnmatchcase

        from wherry.engine.pruning import has_label

        reference = record.reference
        names = (reference.familiar, reference.familiar_repository, str(reference), reference.repository)
        return all(has_label(record.config.labels, label) for label in self._labels) and (
            not self._patterns or any(fnmatchcase(text, pattern) for text in names for pattern in self._patterns)
        )


def _has_name(record: ImageRecord, name: str) -> bool:
    reference = record.reference
    return name in (reference.familiar, reference.familiar_repository, str(reference), reference.repository)


def created(record: ImageRecord) -> str:
    """Returns how long ago an image was made, for a table."""
    return ago(record.created_s) if record.created_s else "N/A"


def summary(record: ImageRecord, shares: tuple[int, int] | None = None) -> dict[str, Any]:
    """Returns an image as ``--json`` shows it.

    Args:
        record: the image.
        shares: the bytes that it shares with other images, and those that it has alone.
    """
    found = {
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
    if shares is not None:
        found |= {"shared_bytes": shares[0], "unique_bytes": shares[1]}
    return found


def _docker_row(record: ImageRecord, identifier: str) -> dict[str, Any]:
    from wherry.core.units import format_size

    return {
        "Containers": "N/A",
        "CreatedAt": record.config.created,
        "CreatedSince": created(record),
        "Digest": record.digest,
        "ID": identifier,
        "Repository": record.reference.familiar_repository,
        "Size": format_size(record.size_bytes),
        "Tag": record.reference.tag or "<none>",
    }
