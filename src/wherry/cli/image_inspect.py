"""``wherry image inspect``: all about images, with docker's keys."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli import completing
from wherry.cli.context import settings
from wherry.cli.image_repo import repo_option, require_images
from wherry.cli.registries import RegistryOptions, registry_options
from wherry.core.errors import WherryError

if TYPE_CHECKING:
    from wherry.image.catalog import ImageRecord, Images


@click.command(
    epilog="""\b
Examples:
  wherry image inspect nginx:1.27
  wherry image inspect --format '{{.Config.Cmd}}' nginx:1.27
  wherry image inspect --remote registry.example/app:2"""
)
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...", shell_complete=completing.images)
@click.option("-f", "--format", "form", metavar="FORMAT", help="json, or a Go template: {{.Id}} {{.Config.Cmd}}.")
@click.option("--platform", metavar="OS/ARCH", help="Which one, where there are several; by default this machine's.")
@click.option("--remote", is_flag=True, help="As it is in its registry; nothing is pulled.")
@click.option("--raw", is_flag=True, help="Print the manifest or index in the registry, byte for byte.")
@registry_options
@repo_option
def inspect(
    names: tuple[str, ...],
    form: str | None,
    platform: str | None,
    remote: bool,
    raw: bool,
    repo_path: Path | None,
    registries: RegistryOptions,
) -> int:
    """Show all about images, as JSON with docker's keys."""
    from wherry.cli.template import Template
    from wherry.core.jsonio import pretty
    from wherry.image.platforms import Platform

    wanted = Platform.parse(platform) if platform else None
    template = Template(form) if form and form != "json" else None
    if raw:
        from wherry.cli.image_remote import remote_manifest

        for name in names:
            sys.stdout.buffer.write(remote_manifest(name, registries))
        return 0
    catalogue = None if remote else require_images(repo_path, names[0])
    found: list[dict[str, Any]] = []
    status = 0
    for name in names:
        try:
            if catalogue is None:
                from wherry.cli.image_remote import remote_document

                document = remote_document(name, wanted, registries)
            else:
                document = image_document(catalogue, catalogue.get(name, platform=wanted))
        except WherryError as error:
            if settings().debug or len(names) == 1:
                raise
            print(f"wherry: {error}", file=sys.stderr)
            status = error.exit_code
            continue
        found.append(document)
        if template is not None:
            print(template.render(document))
    if template is None:
        print(pretty(found))
    return status


def image_document(catalogue: Images, record: ImageRecord) -> dict[str, Any]:
    """Returns all about an image: docker's keys, and Wherry's own."""
    document = record.config.document()
    names = catalogue.names_of(record) or (record.reference,)
    repositories = dict.fromkeys(name.familiar_repository for name in names)
    return {
        "Id": record.identifier,
        "RepoTags": [name.familiar for name in names if name.tag],
        "RepoDigests": [f"{repository}@{record.digest}" for repository in repositories],
        "Comment": document.get("comment") or "",
        "Created": record.config.created,
        "Author": document.get("author") or "",
        "Architecture": record.config.architecture,
        "Variant": record.config.variant,
        "Os": record.config.os,
        "Size": record.size_bytes,
        "Config": document.get("config") or {},
        "RootFS": {"Type": "layers", "Layers": list(record.config.diff_ids)},
        "Commit": record.commit,
        "Platforms": sorted({item.config.platform for item in catalogue.variants(record)}),
    }
