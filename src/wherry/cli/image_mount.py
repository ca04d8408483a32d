"""``wherry image mount`` and ``unmount``: an image's files as a folder, read-only, without unpacking."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry.cli import completing
from wherry.cli.context import settings
from wherry.cli.image_repo import open_images, repo_option, require_images
from wherry.cli.output import note, print_json, print_table
from wherry.core.errors import NotFound, NotPermitted, UsageError, WherryError

if TYPE_CHECKING:
    from wherry.image.catalog import ImageRecord, Images
    from wherry.store.mount.seen import Seen


@click.command(
    epilog="""\b
Examples:
  wherry image mount nginx:1.27
  wherry image mount nginx:1.27 /mnt
  wherry image mount"""
)
@click.argument("image", metavar="[IMAGE]", required=False, shell_complete=completing.images)
@click.argument("target", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@repo_option
def mount(image: str | None, target: Path | None, as_json: bool, repo_path: Path | None) -> None:
    """Mount an image read-only, and print where; without IMAGE, list the images that are mounted.

    Without DIR it is mounted below RUN-ROOT/mnt. The mount stays until `wherry image unmount`, and its image with it.
    """
    if image is None:
        _list(open_images(repo_path), as_json=as_json)
        return
    if os.geteuid() != 0:
        raise NotPermitted(
            "an image is mounted by root", where=image, hint="`wherry image export` gives its files to anybody"
        )
    from wherry.linux.mount import MS_NODEV, MS_NOSUID
    from wherry.store.mount.trees import mount_commit

    images = require_images(repo_path, image)
    record = images.get(image)
    place = target.absolute() if target is not None else _own_place(record)
    already = [seen for seen in _mounted(images) if seen.target == place]
    if target is None and any(seen.commit == record.commit for seen in already):
        _tell(record, place, as_json=as_json)
        return
    try:
        mount_commit(images.repo, record.commit, place, flags=MS_NOSUID | MS_NODEV)
    except BaseException:
        if target is None:
            os.rmdir(place)
        raise
    _tell(record, place, as_json=as_json)


@click.command(
    epilog="""\b
Examples:
  wherry image unmount nginx:1.27
  wherry image unmount /mnt
  wherry image unmount --all"""
)
@click.argument("names", nargs=-1, metavar="IMAGE|DIR...")
@click.option("-a", "--all", "everything", is_flag=True, help="All images of this store.")
@click.option("-l", "--lazy", is_flag=True, help="Take it away now, even while it is in use.")
@repo_option
def unmount(names: tuple[str, ...], everything: bool, lazy: bool, repo_path: Path | None) -> None:
    """End mounts of images: all of an image, or the one at a folder."""
    from wherry.store.mount.mounting import unmount as end

    if bool(names) == everything:
        raise UsageError("name images or folders, or give --all")
    images = open_images(repo_path)
    seen = _mounted(images) if images is not None else []
    targets: list[Path] = [item.target for item in seen] if everything else []
    failure: WherryError | None = None
    for name in names:
        try:
            targets += _targets(images, seen, name)
        except WherryError as error:
            if failure is not None:
                note(f"wherry: {failure}")
            failure = error
    own = settings().run_root / "mnt"
    for target in targets:
        end(target, lazy=lazy)
        if target.parent == own:
            os.rmdir(target)
        click.echo(target)
    if failure is not None:
        raise failure


def _targets(images: Images | None, seen: list[Seen], name: str) -> list[Path]:
    """Returns where what a word means is mounted."""
    place = Path(os.path.realpath(name))
    here = [item.target for item in seen if item.target == place]
    if here:
        return here[-1:]
    if images is None:
        raise NotFound("no image is mounted there", where=name)
    record = images.get(name)
    commits = {item.commit for item in images.list() if images.same(item, record)} | {record.commit}
    found = [item.target for item in seen if item.commit in commits]
    if not found:
        raise NotFound("the image is not mounted", where=name, hint="`wherry image mount` shows those that are")
    return found


def _own_place(record: ImageRecord) -> Path:
    place = settings().run_root / "mnt" / record.commit
    place.mkdir(parents=True, exist_ok=True)
    return place


def _mounted(images: Images) -> list[Seen]:
    """Returns the mounts of commits of a repository."""
    from wherry.store.format.objects import ObjectType
    from wherry.store.mount.seen import mounts

    return [seen for seen in mounts() if images.repo.has(ObjectType.COMMIT, seen.commit)]


def _tell(record: ImageRecord, place: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"reference": str(record.reference), "commit": record.commit, "target": str(place)})
    else:
        click.echo(place)


def _list(images: Images | None, *, as_json: bool) -> None:
    rows = []
    for seen in _mounted(images) if images is not None else []:
        try:
            name = images.record_of(seen.commit).reference if images is not None else None
        except WherryError:
            continue  # a commit that is no image
        if name is not None:
            rows.append((name, seen))
    if as_json:
        print_json([{"reference": str(name), "commit": seen.commit, "target": str(seen.target)} for name, seen in rows])
    elif rows:
        print_table(["IMAGE", "MOUNTED AT"], [[name.familiar, str(seen.target)] for name, seen in rows], shrink=1)
