"""The place of Buildroot's own work in a workspace, for commands that ask its Makefile something."""

from __future__ import annotations

import sys
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
def build_place(host: Host, run: Execution, what: str) -> Iterator[tuple[Build, StepPlace]]:
    """Gives a host's build and the place of its step ``build``, once the steps before it are taken.

    Args:
        host: the host.
        run: takes the steps.
        what: is done there, as the log of it is called; of one that fails the end is shown.
    """
    from wherry.build.buildroot.builder import Build
    from wherry.build.place import Failed

    build = Build.of(host.inputs)
    plan = build.plan()
    step = plan.step(STEP)
    results = run.take(plan, step.needs)
    with tempfile.TemporaryDirectory(prefix="buildroot-", dir=host.workspace.work) as top:
        place = run.place(step, {name: results[name].path for name in step.needs}, Path(top), log=what)
        try:
            with place.log:
                yield build, place
        except Failed as error:
            for line in error.tail:
                print(f"  | {line}", file=sys.stderr)
            error.hint = f"all of it: wherry host log {host.workspace.name} {what}"
            raise


def ask_for_licences(host: Host, cache: str | None) -> None:
    """Has Buildroot collect the licences of what it has built, in the folder that stays."""
    from wherry.build.buildroot.targets import LEGAL_INFO, legal_info
    from wherry.cli.host_progress import watcher

    shown = watcher(quiet=settings().quiet, verbose=False)
    try:
        run = execution(host.workspace, cache, epoch=host.inputs.epoch, watcher=shown)
        with build_place(host, run, LEGAL_INFO) as (build, place):
            legal_info(build, place)
    finally:
        shown.close()
