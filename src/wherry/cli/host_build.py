"""``wherry host build`` and ``plan``: steps taken, and shown."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from wherry.cli.context import settings
from wherry.cli.host_context import (
    cache_option,
    enter,
    execution,
    find_workspace,
    find_workspace_and_step,
    load,
    workspace_argument,
)
from wherry.cli.output import note, print_json, print_table
from wherry.core.errors import WherryError
from wherry.core.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry.build.building import Built
    from wherry.build.executing import Result, StepFailed

SHOWN_WARNINGS = 5
"""Of each step."""


@click.command()
@click.option("--image", "images", multiple=True, metavar="NAME", help="Only this image (several).")
@click.option("--offline", is_flag=True, help="Fetch nothing.")
@click.option("--force", multiple=True, metavar="STEP", help="Take a step again though its result is kept (several).")
@click.option("-v", "--verbose", is_flag=True, help="Show all that the steps print.")
@click.option("--json", "as_json", is_flag=True, help="Print the record of what was built.")
@cache_option
@workspace_argument
def build(
    images: tuple[str, ...],
    offline: bool,
    force: tuple[str, ...],
    verbose: bool,
    as_json: bool,
    cache: str | None,
    workspace: str | None,
) -> None:
    """Build a host: its root, committed to the workspace's store, and its images, in output/.

    Steps whose results are kept are not taken again. A failed step tells its layer and the end of its log.

    \b
    Examples:
      wherry host build my-device
      wherry host build --image disk --offline
    """
    from wherry.build.building import build as build_host
    from wherry.build.executing import StepFailed
    from wherry.build.locks import make_lock, needs_lock
    from wherry.cli.host_progress import watcher

    enter()
    found = find_workspace(workspace)
    host = load(found, offline=offline)
    shown = watcher(quiet=settings().quiet, verbose=verbose)
    began = time.monotonic()
    run = execution(found, cache, epoch=host.inputs.epoch, watcher=shown, force=force)
    try:
        if needs_lock(host):
            changes = make_lock(host, run)
            note(f"{changes.path.name}: {len(changes.added)} pinned; keep it in git", quiet=settings().quiet)
        built = build_host(host, run, images=images or None)
    except StepFailed as error:
        shown.close()
        _tell_failure(error, found.name, verbose=verbose)
        raise
    finally:
        shown.close()
    tell_warnings(built.results.values(), found.name)
    if as_json:
        print_json(built.record)
        return
    _tell(built, time.monotonic() - began)


def _tell(built: Built, seconds: float) -> None:
    record = built.record
    if record.commit:
        print(f"root    {record.commit}")
    for name, image in sorted(record.images.items()):
        print(f"{name:<7} {image.path}  {format_size(image.size_bytes)}")
    taken = sum(not result.cached for result in built.results.values())
    note(f"{record.name}: {taken} of {len(built.results)} steps taken, {seconds:.1f} s", quiet=settings().quiet)


def tell_warnings(results: Iterable[Result], workspace: str) -> None:
    """Tells on standard error what the steps of a build warned of; of each the first `SHOWN_WARNINGS`."""
    for result in results:
        for line in result.warnings[:SHOWN_WARNINGS]:
            print(f"warning: {result.step.name}: {line}", file=sys.stderr)
        left = len(result.warnings) - SHOWN_WARNINGS
        if left > 0:
            step = result.step.name
            print(f"warning: {step}: {left} more; all of them: wherry host log {workspace} {step}", file=sys.stderr)


def _tell_failure(error: StepFailed, name: str, *, verbose: bool) -> None:
    if error.tail and not verbose:
        for line in error.tail:
            print(f"  | {line}", file=sys.stderr)
    error.hint = (
        f"all of it: wherry host log {name} {error.step.name}; look around: wherry host shell {name} {error.step.name}"
    )


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@cache_option
@workspace_argument
def lock(as_json: bool, cache: str | None, workspace: str | None) -> None:
    """Pin the newest versions of what the builder takes from the distribution, by digest; tell what is different.

    The first build does it, too; from then on a build takes what is pinned, until this command is called again.

    \b
    Examples:
      wherry host lock my-device && git -C my-device diff debian.lock
    """
    from wherry.build.executing import StepFailed
    from wherry.build.locks import make_lock
    from wherry.cli.host_progress import watcher

    settings().enter_home()
    found = find_workspace(workspace)
    host = load(found)
    shown = watcher(quiet=settings().quiet, verbose=False)
    try:
        changes = make_lock(host, execution(found, cache, epoch=host.inputs.epoch, watcher=shown))
    except StepFailed as error:
        shown.close()
        _tell_failure(error, found.name, verbose=False)
        raise
    finally:
        shown.close()
    if as_json:
        print_json(
            {
                "path": str(changes.path),
                "new": changes.new,
                "added": list(changes.added),
                "removed": list(changes.removed),
                "changed": [list(pair) for pair in changes.changed],
            }
        )
        return
    for mark, items in (("+", changes.added), ("-", changes.removed)):
        for text in items if not changes.new else ():
            print(f"{mark} {text}")
    for old, new in changes.changed:
        print(f"  {old} -> {new.rpartition(' ')[2]}")
    counts = f"{len(changes.added)} added, {len(changes.removed)} removed, {len(changes.changed)} changed"
    note(f"{changes.path}: {counts if changes else 'as it was'}", quiet=settings().quiet)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@cache_option
@workspace_argument
def plan(as_json: bool, cache: str | None, workspace: str | None) -> None:
    """Show the steps of a build, and which of their results are kept.

    \b
    Examples:
      wherry host plan my-device
    """
    from wherry.build.building import whole_plan

    found = find_workspace(workspace)
    host = load(found)
    run = execution(found, cache, epoch=host.inputs.epoch)
    whole, _ = whole_plan(host)
    keys = whole.keys()
    rows = [(step, keys[step.name], run.kept(step, keys[step.name]) is not None) for step in whole.steps]
    if as_json:
        print_json(
            [
                {"name": step.name, "what": step.what, "needs": list(step.needs), "key": key, "kept": kept}
                for step, key, kept in rows
            ]
        )
        return
    print_table(
        ("STEP", "WHAT", "KEY", "KEPT"),
        [(step.name, step.what, key[:12], "yes" if kept else "no") for step, key, kept in rows],
        shrink=1,
    )


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the logs, or the lines of one.")
@workspace_argument
@click.argument("step", required=False)
def log(as_json: bool, workspace: str | None, step: str | None) -> None:
    """Print the log of a step's last run; without a step, which logs there are.

    \b
    Examples:
      wherry host log my-device base
    """
    from wherry.core.errors import NotFound

    found, step = find_workspace_and_step(workspace, step)
    folder = found.work / "logs"
    names = sorted(path.stem for path in folder.glob("*.log")) if folder.is_dir() else []
    if step is None:
        if as_json:
            print_json(names)
            return
        for name in names:
            print(name)
        return
    if step not in names:
        raise NotFound(f"no log of a step {step!r}", where=found.path, hint=f"there are {', '.join(names) or 'none'}")
    try:
        with open(folder / f"{step}.log", "rb") as file:
            if as_json:
                print_json([line.decode(errors="replace").rstrip("\n") for line in file])
                return
            while data := file.read(65536):
                sys.stdout.buffer.write(data)
    except OSError as error:
        raise WherryError(f"cannot read the log: {error.strerror}", where=folder) from error
