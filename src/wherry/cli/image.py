"""``wherry image``: the images in the store, in docker's words."""

from __future__ import annotations

import click

from wherry.cli.build import build
from wherry.cli.image_copy import copy
from wherry.cli.image_history import history
from wherry.cli.image_import import import_
from wherry.cli.image_inspect import inspect
from wherry.cli.image_list import ls
from wherry.cli.image_mount import mount, unmount
from wherry.cli.image_names import rename, tag, untag
from wherry.cli.image_prune import prune
from wherry.cli.image_referrers import attach, referrers
from wherry.cli.image_registry import pull, push, tags
from wherry.cli.image_remove import rm
from wherry.cli.image_save import save
from wherry.cli.image_sbom import licenses, sbom
from wherry.cli.image_serve import serve
from wherry.cli.image_streams import export, load


@click.group(
    epilog="""\b
Examples:
  wherry image import rootfs.tar.zst --name debian:12
  wherry image ls"""
)
def image() -> None:
    """Images in the store."""


for _command in (
    attach,
    copy,
    build,
    export,
    history,
    import_,
    inspect,
    licenses,
    load,
    ls,
    mount,
    prune,
    pull,
    push,
    referrers,
    rename,
    rm,
    save,
    sbom,
    serve,
    tag,
    tags,
    unmount,
    untag,
):
    image.add_command(_command)
