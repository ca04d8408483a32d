"""``wherry host flash``: an image of a disk to a card or a disk, once it is sure which one is meant."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry.cli.context import settings
from wherry.cli.output import note, print_json
from wherry.core.errors import Conflict, InvalidInput, UsageError
from wherry.core.units import format_size, parse_size

if TYPE_CHECKING:
    from wherry.build.flashtarget import Device

_DISKS = ("disk", "sd")


@click.command()
@click.option("--image", metavar="FILE", help="An image of a disk, in place of a workspace's.")
@click.option("--file", "to_file", is_flag=True, help="DEVICE is a file, not a device.")
@click.option("--yes", is_flag=True, help="Do not ask; wants --expect-serial or --expect-size.")
@click.option("--expect-serial", metavar="TEXT", help="Refuse a device with another serial number.")
@click.option("--expect-size", metavar="SIZE", help="Refuse a device of another size, such as 31914983424 or 32g.")
@click.option("--no-verify", is_flag=True, help="Do not read back what was written.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("device", type=click.Path(path_type=Path))
@click.argument("workspace", required=False)
def flash(
    image: str | None,
    to_file: bool,
    yes: bool,
    expect_serial: str | None,
    expect_size: str | None,
    no_verify: bool,
    dry_run: bool,
    as_json: bool,
    device: Path,
    workspace: str | None,
) -> None:
    """Write a host's disk image to a card or a disk.

    DEVICE is a whole disk, such as /dev/sdb. One that is mounted, holds this system, is used as swap or by another
    device, is read-only or too small is refused. Model, serial number, size and partitions are shown, and the
    device's name is to be typed before anything is written; a script says --yes and what it expects instead.

    The partition table is written last, so that a device that was interrupted does not boot half an image. What was
    written is read back and compared.

    \b
    Examples:
      wherry host flash /dev/sdb my-device
      wherry host flash /dev/mmcblk0 --image output/images/disk.img --dry-run
      wherry host flash /dev/sdb --yes --expect-serial 4C530001
    """
    from wherry.build import flashtarget
    from wherry.build.flashing import check_image, flash

    if image is not None and workspace is not None:
        raise UsageError("both a workspace and --image", hint="name one of them")
    if yes and expect_serial is None and expect_size is None and not to_file:
        raise UsageError("--yes needs to know which device is meant", hint="add --expect-serial or --expect-size")
    path, sha256 = (Path(image), "") if image is not None else _image_of(workspace)
    size = check_image(path)
    found = flashtarget.look_at(device, is_file=to_file)
    flashtarget.check(found, size)
    wanted = parse_size(expect_size, where="--expect-size") if expect_size is not None else None
    flashtarget.check_expected(found, serial=expect_serial, size=wanted)
    if not as_json or not yes:
        _show(found, path, size)
    if dry_run:
        if as_json:
            print_json({"device": str(device), "image": str(path), "size_bytes": size, "written": False})
        return
    if not (yes or to_file):
        _ask(found)
    began = time.monotonic()
    try:
        done = flash(path, found, sha256=sha256, verify=not no_verify, progress=settings().progress())
    except KeyboardInterrupt:
        note(f"wherry: {device}: interrupted; nothing boots from it now. Flash it again.", quiet=False)
        raise
    seconds = time.monotonic() - began
    if as_json:
        print_json({"device": str(device), "image": str(path), "seconds": round(seconds, 3), **_fields(done)})
        return
    checked = "verified" if done.verified else "not verified"
    print(f"{device}: {format_size(done.size_bytes)} flashed, {checked}, {seconds:.0f} s")
    if not (done.table_read or to_file):
        note("the kernel still has the old partitions: unplug the device before it is mounted", quiet=settings().quiet)


def _fields(done: object) -> dict[str, object]:
    from wherry.spec.codec import encode

    document: dict[str, object] = encode(done)
    return document


def _image_of(workspace: str | None) -> tuple[Path, str]:
    """Returns the disk image of a workspace, and its digest.

    Raises:
        NotFound: nothing was built there.
        InvalidInput: it has no disk image.
        Conflict: it has several.
    """
    from wherry.cli.host_context import find_workspace
    from wherry.spec.host_record import read_host_record

    found = find_workspace(workspace)
    record = read_host_record(found.path)
    disks = [image for _, image in sorted(record.images.items()) if image.kind in _DISKS]
    if not disks:
        raise InvalidInput("no image of a disk was built", where=found.path, hint="see image/layout.yaml of its layers")
    if len(disks) > 1:
        hint = "; or ".join(f"--image {found.path / image.path}" for image in disks)
        raise Conflict(f"{len(disks)} images of disks were built", where=found.path, hint=f"say {hint}")
    return found.path / disks[0].path, disks[0].sha256


def _show(device: Device, image: Path, size: int) -> None:
    from wherry.build.flashtarget import describe

    rows = [("image", f"{image}, {format_size(size)}"), *describe(device)]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        note(f"{name.ljust(width)}  {value}")


def _ask(device: Device) -> None:
    """Has the device's name typed.

    Raises:
        UsageError: there is nobody to ask.
        Conflict: another name was typed.
    """
    if not sys.stdin.isatty():
        raise UsageError("nobody to ask which device is meant", hint="add --yes and --expect-serial or --expect-size")
    note(f"All that is on {device.path} will be lost.")
    typed: str = click.prompt(f"Type {device.name} to go on", default="", show_default=False, err=True)
    if typed.strip() not in (device.name, str(device.path)):
        raise Conflict("another name was typed; nothing was written", where=device.path)
