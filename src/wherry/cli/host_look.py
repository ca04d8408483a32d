"""``wherry host ls``, ``show`` and ``clean``: workspaces, what was built in them, and what is kept of it."""

from __future__ import annotations

from pathlib import Path

import click

from wherry.cli.context import settings
from wherry.cli.host_context import cache_folder, find_workspace, load, workspace_argument
from wherry.cli.output import note, print_json, print_table
from wherry.core.errors import NotFound, WherryError
from wherry.core.units import format_size


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(as_json: bool) -> None:
    """List the workspaces in this folder.

    \b
    Examples:
      wherry host ls
    """
    from wherry.build.workspace import find_workspaces
    from wherry.spec.host_record import read_host_record

    rows = []
    for each in find_workspaces(Path.cwd()):
        file = each.read()
        try:
            record = read_host_record(each.path)
            built, architecture, images = record.commit[:12] or "yes", record.architecture, sorted(record.images)
        except NotFound:
            built, architecture, images = "", file.architecture, []
        rows.append((each.name, ",".join(file.target), architecture, built, images))
    if as_json:
        keys = ("name", "target", "architecture", "built", "images")
        print_json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    print_table(
        ("NAME", "TARGET", "ARCH", "BUILT", "IMAGES"), [(*row[:4], " ".join(row[4])) for row in rows], shrink=(1, 4)
    )


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@workspace_argument
def show(as_json: bool, workspace: str | None) -> None:
    """Show what a workspace builds, and what was built.

    \b
    Examples:
      wherry host show my-device
    """
    from wherry.spec.host_record import read_host_record

    found = find_workspace(workspace)
    host = load(found)
    try:
        record = read_host_record(found.path)
    except NotFound:
        record = None
    if as_json:
        print_json(
            {
                "name": found.name,
                "path": str(found.path),
                "target": list(host.file.target),
                "layers": list(host.layers),
                "builder": host.builder.name,
                "architecture": host.inputs.architecture.name,
                "board": host.board,
                "built": record,
            }
        )
        return
    rows = [
        ("Name", found.name),
        ("Path", str(found.path)),
        ("Target", ",".join(host.file.target)),
        ("Board", host.board.title),
        ("Boots by", host.board.boot.value),
        ("Architecture", host.inputs.architecture.name),
        ("Builder", host.builder.name),
        ("Layers", " ".join(host.layers)),
        ("Commit", record.commit if record else "not built yet"),
    ]
    rows += [
        ("Image", f"{name}: {image.path}, {format_size(image.size_bytes)}")
        for name, image in (sorted(record.images.items()) if record else ())
    ]
    for title, text in rows:
        if text:
            print(f"{title + ':':14}{text}")


@click.command()
@click.option("--cache", "with_cache", is_flag=True, help="Also results of steps, of all workspaces.")
@click.option("--downloads", is_flag=True, help="Also what was fetched.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--cache-dir", metavar="DIR", envvar="WHERRY_BUILD_CACHE", help="Where they are kept.")
@workspace_argument
def clean(with_cache: bool, downloads: bool, force: bool, cache_dir: str | None, workspace: str | None) -> None:
    """Remove what was built in a workspace; what a person wrote stays.

    \b
    Examples:
      wherry host clean my-device
      wherry host clean --cache --downloads -f
    """
    from wherry.build.executing import forget, remove_tree, size_of
    from wherry.core.lock import file_lock

    settings().enter_home()
    freed = 0
    found = None
    try:
        found = find_workspace(workspace)
    except WherryError:
        if not (with_cache or downloads) or workspace:
            raise
    gone = [str(found.output), str(found.work)] if found else []
    gone += [f"all kept results in {cache_folder(cache_dir)}"] if with_cache else []
    gone += ["all downloads"] if downloads else []
    if not force:
        click.confirm(f"Remove {', '.join(gone)}?", abort=True, err=True)
    if found is not None and found.work.is_dir():
        with file_lock(found.work / "lock", timeout_s=0, what=f"the workspace {found.name}"):
            freed += sum(size_of(path) for path in (found.output, found.work) if path.is_dir())
            remove_tree(found.output)
            remove_tree(found.work)
    if with_cache or downloads:
        freed += forget(cache_folder(cache_dir), downloads=downloads)
    note(f"{format_size(freed)} freed", quiet=settings().quiet)
