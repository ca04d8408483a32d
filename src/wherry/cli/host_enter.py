"""``wherry host shell`` and ``cmd``: a person, or a layer's own command, in the sandbox of a build."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry.cli.context import settings
from wherry.cli.host_context import (
    cache_option,
    execution,
    find_layers_of,
    find_workspace,
    find_workspace_and_step,
    load,
    workspace_argument,
)
from wherry.cli.output import note
from wherry.core.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from wherry.build.executing import Execution
    from wherry.build.hosts import Host
    from wherry.build.place import StepPlace
    from wherry.build.sandbox import Command


@click.command()
@cache_option
@workspace_argument
@click.argument("step", required=False)
def shell(cache: str | None, workspace: str | None, step: str | None) -> None:
    """Open a shell in the sandbox of a step that failed, with its files as it left them.

    Without a step: beside the root that was built, at /build/target, with the layers at /layers. What is changed there
    is thrown away.

    \b
    Examples:
      wherry host shell my-device kernel
      wherry host shell my-device
    """
    from wherry.build.building import whole_plan

    settings().enter_home()
    found, step = find_workspace_and_step(workspace, step)
    host = load(found)
    run = execution(found, cache, epoch=host.inputs.epoch)
    plan, _ = whole_plan(host)
    if step is not None:
        place = run.again(plan.step(step), {name: run.folder(key) / "output" for name, key in plan.keys().items()})
        command = place.command(["bash"], env=_terminal())
        note(f"the files of step {step}, as it left them: /build/output, /build/scratch, /build/kept")
        raise SystemExit(enter(place, command))
    with tempfile.TemporaryDirectory(prefix="wherry-shell-", dir=found.work if found.work.is_dir() else None) as top:
        place = _scratch_place(run, Path(top))
        command = _beside_root(place, host, run)
        raise SystemExit(enter(place, command))


def _scratch_place(run: Execution, top: Path) -> StepPlace:
    from wherry.build.place import StepPlace

    for name in ("output", "scratch", "kept", "upper", "work"):
        (top / name).mkdir()
    (run.cache / "downloads").mkdir(parents=True, exist_ok=True)
    return StepPlace(
        output=top / "output",
        scratch=top / "scratch",
        kept=top / "kept",
        downloads=run.cache / "downloads",
        bundle=top / "sandbox",
        log=open(os.devnull, "wb"),
        epoch=run.epoch,
    )


def _beside_root(place: StepPlace, host: Host, run: Execution) -> Command:
    from wherry.build.hosttree import LAYERS, TARGET, TREE
    from wherry.runtime.spec import Mount

    plan = host.plan()
    keys = plan.keys()
    tree = run.kept(plan.step(TREE), keys[TREE]) if plan.root else None
    if tree is None:
        raise NotFound("the root was not built", where=host.workspace.path, hint="run `wherry host build` first")
    top = place.output.parent
    options = (f"lowerdir={tree.path / 'root'}", f"upperdir={top / 'upper'}", f"workdir={top / 'work'}")
    mounts = [Mount(destination=str(TARGET), type="overlay", source="overlay", options=options)]
    for layer in host.inputs.contributions.chain:
        target = str(LAYERS / layer.name)
        mounts.append(Mount(destination=target, type="bind", source=str(layer.path), options=("rbind", "rro")))
    return place.command(["bash"], cwd=TARGET, env=_terminal(), mounts=mounts)


def _terminal() -> dict[str, str]:
    return {"TERM": os.environ.get("TERM", "linux")}


def enter(place: StepPlace, command: Command) -> int:
    """Runs a command in a sandbox, with this terminal if there is one; returns its status."""
    from dataclasses import replace

    from wherry.build.place import prepare_bundle

    command = replace(command, terminal=sys.stdin.isatty())
    prepare_bundle(place.bundle, command)
    words = [sys.executable, "-m", "wherry", "runtime", "--root", str(place.bundle / "states"), "run"]
    done = subprocess.run([*words, "--bundle", str(place.bundle), f"build-shell-{os.getpid()}"], check=False)
    return done.returncode


@click.command(name="cmd")
@click.option("--list", "listing", is_flag=True, help="List the commands of all layers.")
@click.option("-w", "--workspace", "workspace", metavar="DIR", help="The workspace.  [default: the one here]")
@click.argument("name", required=False, metavar="[LAYER]")
@click.argument("command", required=False, metavar="[COMMAND]")
@click.argument("variables", nargs=-1, metavar="[NAME=VALUE...]")
def cmd(
    listing: bool, workspace: str | None, name: str | None, command: str | None, variables: tuple[str, ...]
) -> None:
    """Run a command of a layer: a target of its extensions/Makefile, with the environment that hooks have.

    It runs outside of the sandbox, as its purpose is this machine: to write a card, to start a virtual machine. Any
    layer that is found will do, whether the workspace builds it or not.

    \b
    Examples:
      wherry host cmd --list
      wherry host cmd pi/common install PI_SD=/dev/sdb
    """
    from wherry.build.extensions import run_command

    found = find_workspace(workspace)
    host = load(found)
    layers = find_layers_of(found.layers_paths(host.file))
    if listing or name is None:
        for layer in layers:
            for each in layer.commands:
                print(f"{layer.name} {each.name}: {each.description}")
        return
    layer = layers.get(name)
    if command is None:
        for each in layer.commands:
            print(f"{each.name}: {each.description}")
        return
    given = {}
    for word in variables:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise InvalidInput(f"not NAME=VALUE: {word[:60]!r}")
        given[key] = value
    raise SystemExit(run_command(host, layers, layer, command, given, own=dict(os.environ)))
