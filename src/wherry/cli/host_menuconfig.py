"""``wherry host menuconfig``: a tool's own menu, whose edits come back as a fragment of the workspace."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry.cli.context import settings
from wherry.cli.host_buildroot import build_place
from wherry.cli.host_context import cache_option, execution, find_workspace, load, workspace_argument
from wherry.cli.host_enter import enter
from wherry.cli.output import note
from wherry.core.errors import ToolError, Unsupported

if TYPE_CHECKING:
    from wherry.build.executing import Execution
    from wherry.build.hosts import Host
    from wherry.build.place import StepPlace


@click.command()
@cache_option
@click.argument("kind", type=click.Choice(["buildroot", "busybox", "kernel", "uboot"]))
@workspace_argument
def menuconfig(cache: str | None, kind: str, workspace: str | None) -> None:
    """Edit the configuration of Buildroot, or of what is compiled, in its own menu.

    What was changed becomes overrides/KIND/zz-menuconfig of the workspace, which counts before all else.

    \b
    Examples:
      wherry host menuconfig kernel my-device
    """
    from wherry.build.builder import BuilderName
    from wherry.cli.host_progress import watcher

    settings().enter_home()
    found = find_workspace(workspace)
    host = load(found)
    if host.builder.name not in (BuilderName.BUILDROOT, BuilderName.SOURCE):
        raise Unsupported(f"the builder {host.builder.name} configures nothing", hint="builder: source, or buildroot")
    change = _edit if host.builder.name is BuilderName.BUILDROOT else _edit_source
    shown = watcher(quiet=settings().quiet, verbose=False)
    try:
        path = change(host, execution(found, cache, epoch=host.inputs.epoch, watcher=shown), kind)
    finally:
        shown.close()
    if path is None:
        note("nothing differs from what the layers say", quiet=settings().quiet)
    else:
        print(path.relative_to(found.path))


def _edit(host: Host, run: Execution, kind: str) -> Path | None:
    from wherry.build.buildroot.menuconfig import edit, save

    with build_place(host, run, "menuconfig") as (build, place):
        found = edit(build, place, kind, _terminal(place))
    return save(host.workspace.path / "overrides", found)


def _edit_source(host: Host, run: Execution, kind: str) -> Path | None:
    from wherry.build.buildroot.menuconfig import save
    from wherry.build.source.menuconfig import STEPS, check_kind, edit

    check_kind(kind)
    plan = host.plan()
    step = plan.step(STEPS[kind])
    results = run.take(plan, step.needs)
    with tempfile.TemporaryDirectory(prefix="menuconfig-", dir=host.workspace.work) as top:
        place = run.place(step, {name: results[name].path for name in step.needs}, Path(top))
        found = edit(host.inputs, place, kind, _terminal(place))
    return save(host.workspace.path / "overrides", found)


def _terminal(place: StepPlace) -> Callable[[Sequence[str], Mapping[str, str]], None]:
    def run(args: Sequence[str], env: Mapping[str, str]) -> None:
        term = {"TERM": os.environ.get("TERM", "linux")}
        status = enter(place, place.command(args, env={**env, **term}))
        if status:
            raise ToolError(f"it ended with status {status}: nothing was taken over", where=args[-1])

    return run
