"""The place of Buildroot's own work in a workspace, for commands that ask its Makefile something."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.cli.context import settings
from wherry.cli.host_context import execution

if TYPE_CHECKING:
    from wherry.build.buildroot.builder import Build
    from wherry.build.executing import Execution
    from wherry.build.hosts import Host
    from wherry.build.place import StepPlace

STEP = "build"


@contextmanager
def build_place(host: Host, run: Execution) -> Iterator[tuple[Build, StepPlace]]:
    """Gives a host's build and the place of its step ``build``, once the steps before it are taken."""
    from wherry.build.buildroot.builder import Build

    build = Build.of(host.inputs)
    plan = build.plan()
    step = plan.step(STEP)
    results = run.take(plan, step.needs)
    with tempfile.TemporaryDirectory(prefix="buildroot-", dir=host.workspace.work) as top:
        yield build, run.place(step, {name: results[name].path for name in step.needs}, Path(top))


def ask_for_licences(host: Host, cache: str | None) -> None:
    """Has Buildroot collect the licences of what it has built, in the folder that stays."""
    from wherry.build.buildroot.targets import legal_info
    from wherry.cli.host_progress import watcher

    shown = watcher(quiet=settings().quiet, verbose=False)
    try:
        run = execution(host.workspace, cache, epoch=host.inputs.epoch, watcher=shown)
        with build_place(host, run) as (build, place):
            legal_info(build, place)
    finally:
        shown.close()
