"""``wherry image history``: docker's columns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli import completing
from wherry.cli.image_repo import repo_option, require_images
from wherry.cli.output import ago, print_json, print_table
from wherry.core.digest import short

if TYPE_CHECKING:
    from wherry.image.history import Step

_CREATED_BY_CHARS = 45
"""Where docker cuts the command short."""


@click.command(
    epilog="""\b
Examples:
  wherry image history nginx:1.27
  wherry image history --no-trunc --format '{{.CreatedBy}}' nginx:1.27"""
)
@click.argument("image", metavar="IMAGE", shell_complete=completing.images)
@click.option("-H", "--human/--no-human", default=True, help="Sizes and times for people (default).")
@click.option("--no-trunc", is_flag=True, help="Print whole commands and IDs.")
@click.option("-q", "--quiet", "ids_only", is_flag=True, help="Print image IDs alone.")
@click.option("--format", "form", metavar="FORMAT", help="json, or a Go template: {{.CreatedBy}} {{.Size}}.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with bytes as numbers.")
@repo_option
def history(
    image: str, form: str | None, repo_path: Path | None, human: bool, no_trunc: bool, ids_only: bool, as_json: bool
) -> None:
    """Show the steps that made an image, the newest first.

    SIZE is that of the files that a step brought; N/A where the tree of its layer is not kept.
    """
    from wherry.image.history import history as steps_of

    images = require_images(repo_path, image)
    record = images.get(image)
    steps = steps_of(images.repo, record)
    if as_json:
        print_json([_json(step) for step in steps])
        return
    identifier = str(record.identifier) if no_trunc else short(record.identifier)
    identifiers = [identifier, *["<missing>"] * (len(steps) - 1)]
    if ids_only:
        for item in identifiers:
            click.echo(item)
        return
    rows = [_row(step, item, human=human, whole=no_trunc) for step, item in zip(steps, identifiers, strict=True)]
    if form:
        from wherry.cli.template import print_rows

        print_rows(form, rows, {"ID": "IMAGE", "CreatedSince": "CREATED"})
        return
    keys = ("ID", "CreatedSince" if human else "CreatedAt", "CreatedBy", "Size", "Comment")
    head = ["IMAGE", "CREATED" if human else "CREATED AT", "CREATED BY", "SIZE", "COMMENT"]
    print_table(head, [[row[key] for key in keys] for row in rows], shrink=(4, 2))


def _json(step: Step) -> dict[str, Any]:
    return {
        "created": step.created or None,
        "created_by": step.created_by,
        "comment": step.comment,
        "author": step.author,
        "empty_layer": step.empty,
        "size_bytes": step.size_bytes,
    }


def _row(step: Step, identifier: str, *, human: bool, whole: bool) -> dict[str, str]:
    from wherry.core.units import format_size

    command = " ".join(step.created_by.split())
    if not whole and len(command) > _CREATED_BY_CHARS:
        command = command[: _CREATED_BY_CHARS - 1] + "…"
    size = "N/A" if step.size_bytes is None else format_size(step.size_bytes) if human else str(step.size_bytes)
    return {
        "ID": identifier,
        "CreatedAt": step.created or "N/A",
        "CreatedSince": ago(step.created_s) if step.created_s else "N/A",
        "CreatedBy": command,
        "Size": size,
        "Comment": " ".join(step.comment.split()),
    }
