"""``wherry host``: workspaces in which hosts are built from layers."""

from __future__ import annotations

import click

from wherry.cli.host_build import build, lock, log, plan
from wherry.cli.host_enter import cmd, shell
from wherry.cli.host_flash import flash
from wherry.cli.host_graph import graph
from wherry.cli.host_legal import legal_info, sbom
from wherry.cli.host_look import clean, ls, show
from wherry.cli.host_menuconfig import menuconfig
from wherry.cli.host_new import configure, new


@click.group(
    epilog="""\b
Examples:
  wherry host new my-device --target virt/qemu
  wherry host build my-device
  wherry boot my-device"""
)
def host() -> None:
    """Hosts, built from layers.

    A workspace is a folder in which one host is built: host.yaml says of which layers, overrides/ is a layer of its
    own, output/ is what was built. Where a command names none, it means this folder, or the only one in it.
    """


for _command in (
    build,
    clean,
    cmd,
    configure,
    flash,
    graph,
    legal_info,
    lock,
    log,
    ls,
    menuconfig,
    new,
    plan,
    sbom,
    shell,
    show,
):
    host.add_command(_command)
