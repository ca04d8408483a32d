"""``wherry kernel``: kernels for containers in machines, and scripts run in a fresh guest.

Imports of the machine are inside the functions: ``--help`` needs none of it.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry.cli.context import settings
from wherry.cli.output import note, print_json, print_table
from wherry.core.errors import NotFound, UsageError
from wherry.core.units import format_size

if TYPE_CHECKING:
    from wherry.machine.jobs import Job
    from wherry.machine.kernels import Kernel
    from wherry.spec.architecture import Architecture

_PATH = click.Path(path_type=Path)
_SIGNAL = 128
_GUEST_SCRIPT = "wherry/script"


@click.group(
    epilog="""\b
Examples:
  wherry kernel fetch --arch arm64
  wherry run --machine qemu --platform linux/arm64 debian:12 uname -a
  wherry kernel test ./check.sh"""
)
def kernel() -> None:
    """Kernels that containers and scripts run under, in machines of their own."""


def _architecture(name: str) -> Architecture:
    from wherry.spec.architecture import architecture, of_machine

    return architecture(name, where="--arch") if name else of_machine(os.uname().machine)


@kernel.command(epilog="\b\nExamples:\n  wherry kernel ls\n  wherry kernel ls --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(as_json: bool) -> None:
    """List the kernels that are kept."""
    from wherry.machine.kernels import Kernels

    found = Kernels(settings().root).list()
    if as_json:
        print_json([{"name": each.name, "path": str(each.path), **_described(each)} for each in found])
        return
    print_table(
        ("NAME", "VERSION", "FROM", "SIZE"),
        [(each.name, each.record.version or "-", each.record.source, format_size(_size(each))) for each in found],
        shrink=2,
    )


def _described(found: Kernel) -> dict[str, object]:
    record = found.record
    return {
        "architecture": record.architecture,
        "uml": record.uml,
        "version": record.version,
        "source": record.source,
        "size": _size(found),
        "files": dict(record.files),
    }


def _size(found: Kernel) -> int:
    return sum((found.path / name).stat().st_size for name in found.record.files)


@kernel.command(
    epilog="\b\nExamples:\n  wherry kernel fetch\n  wherry kernel fetch --arch arm64\n  wherry kernel fetch --uml"
)
@click.option("--arch", default="", metavar="ARCH", help="amd64, arm64, armhf ...; by default this machine's.")
@click.option("--uml", is_flag=True, help="User-mode Linux.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def fetch(arch: str, uml: bool, as_json: bool) -> None:
    """Fetch the distribution's kernel, and busybox, for an architecture.

    By apt, from this machine's own sources and verified by their keys, but with a state of its own: nothing is
    installed, and no architecture is added to this machine.
    """
    from wherry.machine.kernels import Kernels
    from wherry.machine.packages import fetch as fetch_packages

    current = settings()
    found = fetch_packages(Kernels(current.root), _architecture(arch), uml=uml, progress=current.progress())
    if as_json:
        print_json({"name": found.name, "path": str(found.path), **_described(found)})
        return
    click.echo(f"{found.name}: Linux {found.record.version}, of {found.record.source}")


@kernel.command(
    epilog="\b\nExamples:\n  wherry kernel add --arch arm64 output/boot/kernel\n  wherry kernel add --uml ./linux"
)
@click.argument("file", type=_PATH)
@click.option("--arch", default="", metavar="ARCH", help="By default this machine's.")
@click.option("--uml", is_flag=True, help="It is user-mode Linux.")
@click.option("--busybox", type=_PATH, metavar="FILE", help="A static busybox of that architecture.")
@click.option("--version", "release", default="", metavar="TEXT", help="What uname -r will say.")
def add(file: Path, arch: str, uml: bool, busybox: Path | None, release: str) -> None:
    """Keep a kernel of one's own, in the place of the distribution's.

    What it needs to see a container's root must be built in: virtio (PCI, console, network) and 9p, or for user-mode
    Linux hostfs. `wherry host build` with the source builder makes such.
    """
    from wherry.machine.kernels import Kernels, kernel_for
    from wherry.machine.modules import bare_kernel

    kernels, wanted = Kernels(settings().root), _architecture(arch)
    known = kernel_for(settings().root, wanted, uml=uml, file=file)  # looks whether it is there
    if busybox is not None and not busybox.is_file():
        raise NotFound("no such busybox", where=busybox)
    with kernels.new(wanted.name, uml=uml) as new:
        data = file.read_bytes()
        (new / "kernel").write_bytes(data if uml else bare_kernel(data))
        (new / "kernel").chmod(0o755)
        source = busybox or known.busybox
        if source is not None:
            (new / "busybox").write_bytes(source.read_bytes())
            (new / "busybox").chmod(0o755)
        found = kernels.put(new, architecture=wanted.name, uml=uml, version=release, source=f"added {file.name}")
    click.echo(found.name)


@kernel.command(epilog="\b\nExamples:\n  wherry kernel rm arm64")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def rm(names: tuple[str, ...]) -> None:
    """Remove kernels."""
    from wherry.machine.kernels import Kernels

    for name in names:
        Kernels(settings().root).remove(name)
        click.echo(name)


@kernel.command(
    context_settings={"allow_interspersed_args": False},
    epilog="""\b
Examples:
  wherry kernel test ./check.sh
  wherry kernel test --machine uml ./check.sh one two
  wherry kernel test --kernel output/boot/kernel --arch arm64 ./check.sh
  wherry kernel test --root ./rootfs ./check.py""",
)
@click.argument("script", type=_PATH)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.option("--arch", default="", metavar="ARCH", help="By default this machine's.")
@click.option(
    "--machine", "kind", type=click.Choice(["qemu", "uml"]), default="qemu", show_default=True, help="In what."
)
@click.option("--kernel", "file", type=_PATH, metavar="FILE", help="In the place of the one that is kept.")
@click.option("--root", "root", type=_PATH, metavar="DIR", help="Its root, by default busybox in memory.")
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Set a variable.")
@click.option("-i", "--interactive", is_flag=True, help="Hand standard input on.")
@click.option("-m", "--memory", default="512m", show_default=True, metavar="SIZE", help="Of the machine.")
@click.option("--cpus", type=click.IntRange(1, 255), default=1, show_default=True, help="Of the machine.")
@click.option("--append", multiple=True, metavar="WORDS", help="Words for the kernel.")
@click.option("--network/--no-network", default=True, help="User-mode network; on by default.")
def test(
    script: Path,
    args: tuple[str, ...],
    arch: str,
    kind: str,
    file: Path | None,
    root: Path | None,
    env: tuple[str, ...],
    interactive: bool,
    memory: str,
    cpus: int,
    append: tuple[str, ...],
    network: bool,
) -> int:
    """Run a script in a fresh guest, and end with its exit status.

    What it prints is printed here. The guest is busybox in memory and nothing else, or a folder (--root), which is
    written to. The script runs as root, as its first line says, else by sh.
    """
    from wherry.core.units import parse_size
    from wherry.machine import jobs
    from wherry.machine.kernels import kernel_for
    from wherry.machine.session import Interrupted

    if any("=" not in item for item in env):
        raise UsageError("-e: not NAME=VALUE", hint="write -e NAME=VALUE")
    found = kernel_for(settings().root, _architecture(arch), uml=kind == "uml", file=file)
    job = _job(script, args, root, dict(item.partition("=")[::2] for item in env))
    job = replace(
        job,
        memory_bytes=parse_size(memory, where="--memory"),
        cpus=cpus,
        network=network,
        command_line=tuple(word for text in append for word in text.split()),
    )
    try:
        return jobs.run(job, found, jobs.Streams(stdin_fd=0 if interactive else None), uml=kind == "uml")
    except Interrupted as error:
        note("wherry: interrupted")
        return _SIGNAL + error.number


def _job(script: Path, args: tuple[str, ...], root: Path | None, env: dict[str, str]) -> Job:
    from wherry.core.durable import map_os_error
    from wherry.machine import jobs

    try:
        data = script.read_bytes()
    except OSError as error:
        raise map_os_error(error, "cannot read the script", where=script) from error
    if root is not None and not root.is_dir():
        raise NotFound("no such folder", where=root)
    path = f"/{_GUEST_SCRIPT}" if root is None else "/dev/script"
    argv = (path, *args) if data.startswith((b"#!", b"\x7fELF")) else ("sh", path, *args)
    return jobs.Job(
        argv=argv,
        env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", **env},
        hostname="test",
        root=None if root is None else root.absolute(),
        as_root=os.geteuid() == 0,
        files={_GUEST_SCRIPT: (stat.S_IFREG | 0o755, data)},
    )
