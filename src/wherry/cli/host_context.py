"""What the commands of ``wherry host`` share: the workspace that is meant, its layers, where builds keep results."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.context import settings
from wherry.cli.layer import search_paths
from wherry.core.errors import Unsupported, UsageError

if TYPE_CHECKING:
    from wherry.build.executing import Execution, Watcher
    from wherry.build.hosts import Host
    from wherry.build.layers import Layers
    from wherry.build.workspace import Workspace

MIN_IDS = 65536
"""Users and groups of a root, nobody's among them."""
CACHE_VARIABLE = "WHERRY_BUILD_CACHE"
BUILDROOT = "WHERRY_BUILDROOT"
"""A tree of Buildroot, for workspaces that name none."""


def workspace_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the argument ``[WORKSPACE]``."""
    return click.argument(
        "workspace", required=False, metavar="[WORKSPACE]", shell_complete=_complete, type=click.Path(file_okay=False)
    )(command)


def _complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from wherry.build.workspace import find_workspaces

    del context
    return [each.name for each in find_workspaces(Path.cwd()) if each.name.startswith(incomplete)]


def cache_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--cache``."""
    return click.option(
        "--cache",
        metavar="DIR",
        envvar=CACHE_VARIABLE,
        help="Where results of steps and downloads are kept.  [default: build/ in --root]",
    )(command)


def find_workspace(name: str | None) -> Workspace:
    """Returns the workspace that a command means."""
    from wherry.build.workspace import open_workspace, the_workspace

    return open_workspace(Path(name)) if name else the_workspace(Path.cwd())


def find_workspace_and_step(name: str | None, step: str | None) -> tuple[Workspace, str | None]:
    """Returns what the words ``[WORKSPACE] [STEP]`` mean: a single one may be either."""
    from wherry.build.workspace import FILE

    if step is None and name is not None and not (Path(name) / FILE).is_file() and "/" not in name:
        try:
            return find_workspace(None), name
        except UsageError:
            pass  # there is none here, so that it was meant to be one
    return find_workspace(name), step


def find_layers_of(more: Sequence[Path], given: Sequence[str] = ()) -> Layers:
    """Returns the layers of a workspace: those of its own paths first."""
    from wherry.build.layers import find_layers

    own = [Path(word) for text in given for word in text.split(":") if word]
    return find_layers([*own, *more, *search_paths(())])


def load(workspace: Workspace, *, given: Sequence[str] = (), **options: Any) -> Host:
    """Returns the host of a workspace."""
    from dataclasses import replace

    from wherry.build.builder import BuilderName
    from wherry.build.hosts import load_host

    host = load_host(workspace, lambda paths: find_layers_of(paths, given), machine=os.uname().machine, **options)
    tree = os.environ.get(BUILDROOT, "")
    if not tree or host.builder.name is not BuilderName.BUILDROOT or host.inputs.options.get("path"):
        return host
    return replace(host, inputs=replace(host.inputs, options={**host.inputs.options, "path": os.path.abspath(tree)}))


def cache_folder(given: str | None) -> Path:
    """Returns where results are kept."""
    return Path(given).absolute() if given else settings().root / "build"


def enter() -> None:
    """Makes somebody without root the root of a user namespace, for a build: roots have files of many owners.

    Raises:
        Unsupported: it would be one with too few ids.
    """
    settings().enter_home()
    with open("/proc/self/gid_map", encoding="ascii") as file:
        check_ids(file.read())


def check_ids(gid_map: str) -> None:
    """Refuses a user namespace with too few ids, by its map.

    Raises:
        Unsupported: there are fewer than `MIN_IDS`.
    """
    ids = sum(int(line.split()[2]) for line in gid_map.splitlines())
    if ids < MIN_IDS:
        hint = "as root, or with a range in /etc/subuid and /etc/subgid (docs/how-to/run-without-root.md)"
        raise Unsupported(f"a root has files of many owners, and this user has {ids}", hint=hint)


def end_by_signals() -> None:
    """Has SIGTERM and SIGHUP end a build as Ctrl-C does: its sandboxes with it, and their control groups."""

    def end(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


def execution(
    workspace: Workspace,
    cache: str | None,
    *,
    epoch: int,
    watcher: Watcher | None = None,
    force: Sequence[str] = (),
) -> Execution:
    """Returns what takes the steps of a workspace."""
    from wherry.build.executing import NOBODY, Execution
    from wherry.core.progress import QUIET

    end_by_signals()
    return Execution(
        cache=cache_folder(cache),
        work=workspace.work,
        epoch=epoch,
        progress=settings().progress() if watcher is None else QUIET,
        watcher=watcher or NOBODY,
        force=frozenset(force),
    )
