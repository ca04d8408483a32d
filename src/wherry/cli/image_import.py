"""``wherry image import``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry.cli.context import settings
from wherry.cli.image_list import summary
from wherry.cli.image_repo import open_or_make_store, repo_option
from wherry.cli.image_streams import limits_of, spooled, tell
from wherry.cli.output import note, print_json
from wherry.core.digest import short
from wherry.core.errors import UsageError

if TYPE_CHECKING:
    from wherry.image.remote import Machine


@click.command(
    "import",
    epilog="""\b
Examples:
  wherry image import rootfs.tar.zst --name debian:12
  wherry image import ./tree --name app:1 -c 'CMD ["/usr/bin/app"]' -c 'EXPOSE 80'
  wherry image import oci:layout:1.2 --name registry.example/app:1.2
  wherry image import vendor.img.xz --name vendor:1 --partition 2
  wherry image import ssh://root@robot.local --name robot:1
  docker save nginx:1.27 | wherry image import -""",
)
@click.argument("source")
@click.argument("called", metavar="[NAME]", required=False)
@click.option("--name", metavar="REFERENCE", help="What to call it; by default what the source calls it.")
@click.option(
    "-c", "--change", "changes", multiple=True, metavar="INSTRUCTION", help="Change the config: CMD, ENV, USER ..."
)
@click.option("--platform", metavar="OS/ARCH", help="Which one, where there are several; by default this machine's.")
@click.option("--keep-layers", is_flag=True, help="Keep compressed layers, so that it can be pushed unchanged.")
@click.option("--partition", type=click.IntRange(1), metavar="N", help="Of a disk image: which one is the root.")
@click.option("--subdir", metavar="DIR", default="", help="Of a file system: where in it the root is.")
@click.option("--with-boot", is_flag=True, help="Of a disk image: with the partitions below /boot and /efi.")
@click.option("--no-mount", is_flag=True, help="Read a file system by tools, never by the kernel: see the manual.")
@click.option("--sudo", is_flag=True, help="Of a machine: read its files as root, by `sudo -n`.")
@click.option("--ssh-option", "ssh_options", multiple=True, metavar="KEY=VALUE", help="Of a machine: as `ssh -o`.")
@click.option("--max-size", metavar="SIZE", help="The most bytes to take, unpacked (1 TiB).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@repo_option
def import_(
    source: str,
    called: str | None,
    name: str | None,
    changes: tuple[str, ...],
    platform: str | None,
    partition: int | None,
    subdir: str,
    max_size: str | None,
    ssh_options: tuple[str, ...],
    sudo: bool,
    with_boot: bool,
    no_mount: bool,
    keep_layers: bool,
    as_json: bool,
    repo_path: Path | None,
) -> None:
    """Bring an image into the store.

    SOURCE is a root tree (a directory), a root tar (plain, gzip, zstd or xz), an OCI layout, a `docker save` archive,
    a file system (squashfs, EROFS, ext4, XFS, btrfs) or a disk image (raw, compressed, qcow2), or - for any such file
    on standard input; or a running machine, ssh://[USER@]HOST[:PORT][/DIR].

    What it is shows in what is in it; say it with dir:, tar:, disk:, oci:DIR[:TAG], oci-archive:FILE[:TAG] or
    docker-archive:FILE[:NAME]. NAME is what --name is. The image's ID is printed.
    """
    from wherry.core.units import format_size
    from wherry.image.importing import import_image
    from wherry.image.systems import Choice

    if called is not None and name is not None:
        raise UsageError("the name is given twice", hint="give it as the second word, or by --name")
    repo = open_or_make_store(repo_path)
    notes: list[str] = []
    with spooled(source, repo) as real_source:
        record = import_image(
            repo,
            real_source,
            name=name if called is None else called,
            changes=changes,
            platform=platform,
            keep_layers=keep_layers,
            disk=Choice(partition=partition, subdir=subdir, with_boot=with_boot, may_mount=not no_mount),
            machine=_machine(source, ssh_options, sudo=sudo),
            limits=limits_of(max_size),
            progress=settings().progress(),
            note=notes.append,
        )
    tell(notes)
    note(
        f"{record.reference.familiar}: {format_size(record.size_bytes)}, commit {short(record.commit)}",
        quiet=settings().quiet,
    )
    if as_json:
        print_json(summary(record))
    else:
        click.echo(record.identifier)


def _machine(source: str, ssh_options: tuple[str, ...], *, sudo: bool) -> Machine | None:
    """Returns how the machine of ``ssh://...`` is reached; None for other sources."""
    from dataclasses import replace

    from wherry.image.remote import SCHEME, Machine, parse_options

    if not source.startswith(SCHEME):
        return None
    return replace(Machine.parse(source), options=parse_options(ssh_options), sudo=sudo, ask=sys.stdin.isatty())
