"""``wherry image sbom`` and ``wherry image licenses``: what an image is made of, and on which terms."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.context import settings
from wherry.cli.image_repo import repo_option, require_images
from wherry.cli.output import note, print_json, print_table
from wherry.cli.registries import RegistryOptions, registry_options
from wherry.core.durable import write_file
from wherry.core.errors import UsageError, WherryError

if TYPE_CHECKING:
    from wherry.image.sbom.model import Component, Inventory
    from wherry.image.sbom.policy import Denial
    from wherry.image.sbom.tree import Tree

_FORMATS = ("cyclonedx", "spdx", "json", "table")
_LICENCE_WIDTH = 40
_WIDTHS = {"name": 26, "version": 18}


class Denied(WherryError):
    """A policy forbids something that is in the image."""


@click.command(
    epilog="""\b
Examples:
  wherry image sbom nginx:1.27
  wherry image sbom nginx:1.27 --format cyclonedx -o nginx.cdx.json
  wherry image sbom dir:./rootfs --format spdx
  wherry image sbom app:1 --format spdx --attach registry.example/app:1"""
)
@click.argument("image")
@click.option(
    "--format", "format_", type=click.Choice(_FORMATS), default="table", show_default=True, help="What to write."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Where to; else to standard output."
)
@click.option("--attach", "target", metavar="REFERENCE", help="Attach it to the image in its registry, too.")
@registry_options
@repo_option
def sbom(
    image: str,
    format_: str,
    output: Path | None,
    target: str | None,
    repo_path: Path | None,
    registries: RegistryOptions,
) -> None:
    """List what an image is made of: packages of dpkg, apk, rpm, Python and npm, Go modules, Rust crates.

    IMAGE is an image of the store, a commit, or dir:DIR for a root tree. Nothing of it is run. CycloneDX is 1.6,
    SPDX is 2.3, both in JSON; the same image gives the same bytes. What is there and cannot be read is told on
    standard error, and stands in the document.
    """
    if target is not None and format_ not in ("cyclonedx", "spdx"):
        raise UsageError("what is attached is a document", hint="give --format cyclonedx or spdx")
    inventory, _ = _describe(image, repo_path)
    _tell_unread(inventory)
    if format_ == "table":
        if output is not None:
            raise UsageError("a table goes to standard output", hint="--format cyclonedx, spdx or json with -o")
        _print_table(inventory)
        return
    data = _document(inventory, format_)
    if output is not None:
        write_file(output, data)
    elif target is None:
        sys.stdout.write(data.decode())
    if target is not None:
        from wherry.cli.image_referrers import attach_data

        kind = f"application/{'spdx' if format_ == 'spdx' else 'vnd.cyclonedx'}+json"
        click.echo(
            attach_data(registries, target, data, media_type=kind, created=inventory.created, digest=inventory.digest)
        )


@click.command(
    epilog="""\b
Examples:
  wherry image licenses nginx:1.27
  wherry image licenses nginx:1.27 --deny 'AGPL-*' --deny 'GPL-3.0*' --deny unknown
  wherry image licenses nginx:1.27 --bundle licences.tar"""
)
@click.argument("image")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--texts", type=click.Path(path_type=Path), metavar="DIR", help="Write the licences' texts into a new folder."
)
@click.option("--bundle", type=click.Path(path_type=Path), metavar="FILE", help="Write the licences' texts as a tar.")
@click.option(
    "--deny", multiple=True, metavar="PATTERN", help="End with 1 if a licence fits, such as 'GPL-3.0*'; or 'unknown'."
)
@repo_option
def licenses(
    image: str, as_json: bool, texts: Path | None, bundle: Path | None, deny: tuple[str, ...], repo_path: Path | None
) -> None:
    """List the licences of an image, and the packages under each.

    IMAGE is as for `wherry image sbom`. A * after a licence: read out of a text for people, not declared. A package
    under "A OR B" is denied only when both are. The exit status is 1 when something is denied.
    """
    from wherry.image.sbom import policy

    inventory, tree = _describe(image, repo_path)
    _tell_unread(inventory)
    denials = policy.check(inventory, deny)
    if texts is not None or bundle is not None:
        _write_texts(inventory, tree(), texts, bundle)
    if as_json:
        print_json(_licences_json(inventory, denials))
    else:
        _print_licences(inventory)
    if denials:
        shown = ", ".join(f"{item.component.name} ({', '.join(item.licences)})" for item in denials[:5])
        more = f" and {len(denials) - 5} more" if len(denials) > 5 else ""
        raise Denied(f"the policy denies {len(denials)} packages: {shown}{more}", where=inventory.name)


# --- finding


def _describe(image: str, repo_path: Path | None) -> tuple[Inventory, Callable[[], Tree]]:
    """Returns the inventory, and a way to the tree that it is of."""
    from wherry.image.sbom.describe import describe, describe_directory
    from wherry.image.sbom.tree import commit_tree, directory_tree

    if image.startswith("dir:"):
        folder = Path(image.removeprefix("dir:"))
        return describe_directory(folder, progress=settings().progress()), lambda: directory_tree(folder)
    images = require_images(repo_path, image)
    repo = images.repo
    try:
        commit = images.get(image).commit
    except WherryError as error:
        try:
            commit = repo.resolve(image)  # a tree that is no image, such as a host system's
        except WherryError:
            raise error from None
    return describe(repo, commit, progress=settings().progress()), lambda: commit_tree(repo, commit)


def _tell_unread(inventory: Inventory) -> None:
    for item in inventory.warnings[:5]:
        note(f"warning: {item.where}: {item.what}", quiet=settings().quiet)
    if len(inventory.warnings) > 5:
        note(f"warning: ... and {len(inventory.warnings) - 5} more; --format json has all", quiet=settings().quiet)


# --- writing


def _document(inventory: Inventory, format_: str) -> bytes:
    if format_ == "cyclonedx":
        from wherry.image.sbom.cyclonedx import to_cyclonedx

        return to_cyclonedx(inventory)
    if format_ == "spdx":
        from wherry.image.sbom.spdx import to_spdx

        return to_spdx(inventory)
    from wherry.core.jsonio import pretty
    from wherry.spec.codec import encode

    return (pretty(encode(inventory)) + "\n").encode()


def _print_table(inventory: Inventory) -> None:
    rows = [
        [
            str(item.kind),
            _cut(_name(item), _WIDTHS["name"]),
            _cut(item.version, _WIDTHS["version"]),
            _cut(item.licence or "unknown", 80 - 6 - 6 - sum(_WIDTHS.values())),
        ]
        for item in inventory.components
    ]
    print_table(["KIND", "NAME", "VERSION", "LICENCE"], rows)


def _name(item: Component) -> str:
    return f"{item.namespace}/{item.name}" if item.kind.value in ("npm", "golang") and item.namespace else item.name


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _by_licence(inventory: Inventory) -> dict[tuple[str, bool], list[str]]:
    from wherry.image.sbom.model import Basis
    from wherry.image.sbom.policy import licences_of

    found: dict[tuple[str, bool], list[str]] = {}
    for item in inventory.components:
        seen = item.basis is Basis.RECOGNISED
        for licence in licences_of(item.licence) or ("unknown",):
            names = found.setdefault((licence, seen), [])
            if _name(item) not in names:
                names.append(_name(item))
    return dict(sorted(found.items()))


def _print_licences(inventory: Inventory) -> None:
    rows = []
    for (licence, seen), names in _by_licence(inventory).items():
        shown = _cut(licence.removeprefix("LicenseRef-"), _LICENCE_WIDTH - 12) + ("*" if seen else "")
        rows.append([shown, str(len(names)), _cut(", ".join(names), 80 - _LICENCE_WIDTH)])
    print_table(["LICENCE", "COUNT", "PACKAGES"], rows)


def _licences_json(inventory: Inventory, denials: tuple[Denial, ...]) -> dict[str, Any]:
    from wherry.image.sbom.policy import licences_of

    denied = {item.component.key: list(item.licences) for item in denials}
    return {
        "image": inventory.name,
        "digest": inventory.digest,
        "packages": [
            {
                "kind": str(item.kind),
                "name": _name(item),
                "version": item.version,
                "licence": item.licence or None,
                "licences": list(licences_of(item.licence)),
                "basis": str(item.basis),
                "files": list(item.licence_files),
                "denied": denied.get(item.key, []),
            }
            for item in inventory.components
        ],
        "warnings": [{"where": item.where, "what": item.what} for item in inventory.warnings],
    }


def _write_texts(inventory: Inventory, tree: Tree, folder: Path | None, bundle: Path | None) -> None:
    from io import BytesIO

    from wherry.image.sbom import texts

    files, unread = texts.collect(tree, inventory)
    if folder is not None:
        texts.write_folder(files, folder)
    if bundle is not None:
        buffer = BytesIO()
        texts.write_tar(files, buffer, inventory)
        write_file(bundle, buffer.getvalue())
    for what in unread:
        note(f"warning: {what}", quiet=settings().quiet)
    note(f"{len(files)} files of licences", quiet=settings().quiet)
