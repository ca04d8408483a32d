"""A host that is to be built: what its workspace, its layers and its board come to, and the plan of all steps.

::

    host.yaml ─▶ layers, in order ─▶ contributions ─▶ builder ─▶ steps ─┐
                     └─▶ board, image layout ─────────────────────────────┴─▶ plan: ... root, over, tree, images
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build.boards import Board, board_of
from wherry.build.builder import Builder, BuilderName, Inputs
from wherry.build.contributions import gather
from wherry.build.hosttree import tree_steps
from wherry.build.resolving import resolve
from wherry.core.errors import InvalidInput, UsageError
from wherry.spec.architecture import architecture, of_machine

if TYPE_CHECKING:
    from wherry.build.layers import Layers
    from wherry.build.steps import Plan
    from wherry.build.workspace import HostFile, Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host, before it is built."""

    workspace: Workspace
    file: HostFile
    inputs: Inputs
    builder: Builder

    @property
    def board(self) -> Board:
        """What it is built for."""
        return self.inputs.board

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of its layers, in their order, overrides last."""
        return tuple(layer.name for layer in self.inputs.contributions.chain)

    def plan(self) -> Plan:
        """Returns the steps to a whole root: the builder's, then those that are the same for all builders.

        Raises:
            InvalidInput: layers or options do not fit the builder.
        """
        plan = self.builder.plan(self.inputs)
        steps = [*plan.steps, *(tree_steps(self.inputs, plan) if plan.root else ())]
        return replace(plan, steps=tuple(steps))


_BUILDERS = {
    BuilderName.DEBIAN: ("wherry.build.debian.builder", "DebianBuilder"),
    BuilderName.SOURCE: ("wherry.build.source.builder", "SourceBuilder"),
    BuilderName.BUILDROOT: ("wherry.build.buildroot.builder", "BuildrootBuilder"),
}


def builder_of(name: BuilderName) -> Builder:
    """Returns a builder; only that one is imported."""
    module, attribute = _BUILDERS[name]
    builder: Builder = getattr(import_module(module), attribute)()
    return builder


def load_host(
    workspace: Workspace,
    find: Callable[[Sequence[Path]], Layers],
    *,
    machine: str,
    offline: bool = False,
    target: Iterable[str] = (),
    builder: BuilderName | None = None,
    architecture_name: str = "",
    make_builder: Callable[[BuilderName], Builder] = builder_of,
) -> Host:
    """Returns the host of a workspace.

    Args:
        workspace: where it is built.
        find: finds layers, below the workspace's own paths first.
        machine: this machine's ``uname -m``: the architecture where neither host nor board says one.
        offline: whether nothing may be fetched.
        target: in the place of what ``host.yaml`` says.
        builder: the same.
        architecture_name: the same.
        make_builder: returns the builder of a name.

    Raises:
        UsageError: no layers are named.
        NotFound: a layer is not there.
        InvalidInput: something is malformed; says where.
    """
    file = workspace.read()
    names = list(target) or list(file.target)
    if not names:
        raise UsageError("nothing to build", hint=f"name layers: target in {workspace.path}/host.yaml, or --target")
    layers = find(workspace.layers_paths(file))
    chain = (*resolve(layers, names), *workspace.overrides())
    board = board_of(chain, architecture_name or file.architecture)
    found = architecture(board.architecture) if board.architecture else of_machine(machine)
    chosen = builder or file.builder or _named(board)
    inputs = Inputs(
        name=workspace.name,
        workspace=workspace.path,
        contributions=gather(chain),
        board=replace(board, command_line=(*board.command_line, *file.command_line)),
        architecture=found,
        options=file.options(chosen),
        epoch=file.epoch,
        offline=offline,
    )
    return Host(workspace=workspace, file=file, inputs=inputs, builder=make_builder(chosen))


def _named(board: Board) -> BuilderName:
    if not board.builder:
        return BuilderName.DEBIAN
    try:
        return BuilderName(board.builder)
    except ValueError:
        known = ", ".join(BuilderName)
        raise InvalidInput(f"builder: no such builder: {board.builder[:60]!r}", hint=f"there are {known}") from None


def command_line(board: Board) -> tuple[str, ...]:
    """Returns the kernel's words on a board: its console, then what layers and the host say."""
    return (*((f"console={board.console}",) if board.console else ()), *board.command_line)
