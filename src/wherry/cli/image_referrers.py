"""``wherry image attach`` and ``referrers``: SBOMs, signatures and other files beside an image in its registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry.cli.output import print_json, print_table
from wherry.cli.registries import RegistryOptions, registry_options
from wherry.core.durable import write_file
from wherry.core.errors import NotFound, UsageError

if TYPE_CHECKING:
    from wherry.core.digest import Digest
    from wherry.image.reference import Reference
    from wherry.image.registry.client import RegistryClient
    from wherry.image.registry.manifests import Manifest

_TYPES = {
    ".spdx.json": "application/spdx+json",
    ".cdx.json": "application/vnd.cyclonedx+json",
    ".intoto.jsonl": "application/vnd.in-toto+json",
}


@click.command(
    epilog="""\b
Examples:
  wherry image attach registry.example/app:1 app.spdx.json
  wherry image attach registry.example/app:1 report.pdf --type application/pdf"""
)
@click.argument("name", metavar="REFERENCE")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--type", "media_type", metavar="MEDIATYPE", help="Of the file; known for .spdx.json and .cdx.json.")
@registry_options
def attach(name: str, file: Path, media_type: str | None, registries: RegistryOptions) -> None:
    """Attach a file to an image that is in a registry.

    It goes as an OCI artifact that names the image as its subject; a registry without the referrers API gets the tag
    sha256-HEX. The digest of the artifact is printed.
    """
    from wherry.image.registry.attaching import MAX_ATTACHMENT_BYTES

    kind = media_type or next((kind for end, kind in _TYPES.items() if file.name.endswith(end)), None)
    if kind is None:
        raise UsageError("what kind of file it is does not show in its name", where=file, hint="give --type")
    if file.stat().st_size > MAX_ATTACHMENT_BYTES:
        raise UsageError(f"a file of more than {MAX_ATTACHMENT_BYTES} bytes", where=file)
    click.echo(attach_data(registries, name, file.read_bytes(), media_type=kind, title=file.name))


@click.command(
    epilog="""\b
Examples:
  wherry image referrers registry.example/app:1
  wherry image referrers registry.example/app:1 --type application/spdx+json -o app.spdx.json"""
)
@click.argument("name", metavar="REFERENCE")
@click.option("--type", "media_type", default="", metavar="MEDIATYPE", help="Only those of this type.")
@click.option("--digest", default="", metavar="DIGEST", help="Only this one.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Fetch the one that is left.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@registry_options
def referrers(
    name: str, media_type: str, digest: str, output: Path | None, as_json: bool, registries: RegistryOptions
) -> None:
    """List what is attached to an image in a registry; with -o fetch it, checked."""
    from wherry.core.units import format_size
    from wherry.image.reference import Reference
    from wherry.image.registry.attaching import fetch, list_referrers

    reference = Reference.parse(name)
    with registries.clients(reference.domain, mirrors=False) as clients:
        subject = _subject(clients[-1], reference).digest
        found = list_referrers(clients[-1], reference.path, subject, artifact_type=media_type)
        found = tuple(item for item in found if digest in ("", item.digest))
        if output is not None:
            if not found:
                raise NotFound("nothing of the kind is attached", where=reference.familiar)
            if len(found) > 1:
                raise UsageError(f"{len(found)} are attached", where=reference.familiar, hint="give --type or --digest")
            write_file(output, fetch(clients[-1], reference.path, subject, found[0].digest)[0])
    if as_json:
        print_json([item.document() for item in found])
    elif output is None:
        rows = [[item.digest[7:19], item.artifact_type or item.media_type, format_size(item.size)] for item in found]
        print_table(["DIGEST", "TYPE", "MANIFEST"], rows, shrink=1)


def attach_data(
    registries: RegistryOptions,
    name: str,
    data: bytes,
    *,
    media_type: str,
    title: str = "",
    created: str = "",
    digest: str = "",
) -> Digest:
    """Attaches bytes to an image in a registry.

    Args:
        registries: how it is reached.
        name: the image.
        data: the file.
        media_type: of it.
        title: its name.
        created: RFC 3339.
        digest: of the manifest that is meant, where `name` may lead to an index of several platforms.
    """
    from wherry.image.reference import Reference
    from wherry.image.referrers import attachment
    from wherry.image.registry.attaching import attach as send
    from wherry.image.registry.attaching import subject_descriptor

    reference = Reference.parse(name)
    with registries.clients(reference.domain, mirrors=False) as clients:
        subject = subject_descriptor(_subject(clients[-1], reference, digest))
        made = attachment(subject, data, media_type=media_type, title=title, created=created)
        return send(clients[-1], reference.path, subject.digest, made)


def _subject(client: RegistryClient, reference: Reference, digest: str = "") -> Manifest:
    from wherry.image.registry.manifests import get_manifest

    if digest:
        try:
            return get_manifest([client], reference.path, digest)
        except NotFound:
            pass  # it was pushed with a manifest of its own: the name tells which
    return get_manifest([client], reference.path, reference.digest or reference.tag or "latest")
