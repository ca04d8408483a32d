"""The environment that layers' own scripts run in: hooks of a build, and the commands of ``extensions/Makefile``.

SkiffOS' layers rely on its variables, so these are kept, as a mapping: nothing of it is ever text for a shell until
`script` quotes it. They see the whole chain, overrides with it, which SkiffOS leaves out at the time of hooks.

=================================  =================================================================================
SKIFF_CONFIG                       names of the chain, with commas between
SKIFF_CONFIGS                      the same, with spaces
SKIFF_CONFIG_FULL                  the same in capitals, with ``_`` for ``/``
SKIFF_CONFIG_PATH                  folders of the chain in its order, with spaces between
SKIFF_CONFIG_PATH_NS_NAME          the folder of each known layer
SKIFF_CONFIG_NAME_NS_NAME          its name
SKIFF_BUILDROOT_DIR BUILDROOT_DIR
SKIFF_WORKSPACE_DIR WORKSPACE_DIR  the output folder of Buildroot, in which ``output`` is itself
SKIFF_FINAL_CONFIG_DIR             the folder of what was generated
SKIFF_WORKSPACE                    the workspace's name
SKIFF_VERSION(_COMMIT)             the version that the host says it has
SKIFF_ROOT_DIR ROOT_DIR            the tree that the layers are in
SKIFF_CURRENT_CONF_DIR             of the layer that a script is of: its folder,
SKIFF_CURRENT_CONF_NAME(_FULL)     its name, and the name of its variable
WHERRY_DROPINS                     the folder of the merged drop-ins (`dropins.py`): ``docker/daemon.json`` …
WHERRY_LAYER                       the name of the layer that a script is of
=================================  =================================================================================

Source: SkiffOS, scripts/primary_env.sh, enumerate_configs.sh, execute_command.sh (August 2026), by what they do.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.errors import InvalidInput

if TYPE_CHECKING:
    from wherry.build.layers import Layer

DROPINS = "WHERRY_DROPINS"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_NO_LETTER = re.compile(r"[^A-Z0-9_]")


@dataclass(frozen=True, slots=True, kw_only=True)
class HookPlaces:
    """Where things are, as the scripts see them."""

    output: Path
    """Buildroot's output folder."""
    generated: Path
    """What was generated from the layers."""
    dropins: Path
    tree: Path
    """The tree that the layers are in."""
    layer: Callable[[Layer], Path]
    """A layer's folder."""


def environment(
    chain: Sequence[Layer],
    places: HookPlaces,
    *,
    workspace: str,
    version: str = "",
    commit: str = "",
    known: Iterable[Layer] = (),
) -> dict[str, str]:
    """Returns the environment of all scripts of a chain.

    Args:
        chain: the layers in their order, overrides last.
        places: where they see things.
        workspace: its name.
        version: what the host calls its version.
        commit: the commit of it.
        known: more layers that have variables; the chain's count where two have one variable.

    Raises:
        InvalidInput: a folder's name has a space in it, which the scripts could not tell from two folders.
    """
    named = {
        name: value
        for layer in (*known, *chain)
        for name, value in (
            (f"SKIFF_CONFIG_PATH_{variable(layer.name)}", str(places.layer(layer))),
            (f"SKIFF_CONFIG_NAME_{variable(layer.name)}", layer.name),
        )
    }
    folders = [str(places.layer(layer)) for layer in chain]
    for folder in folders:
        if any(char.isspace() for char in folder):
            raise InvalidInput(
                "layers' scripts cannot be given a folder with a space in its name",
                where=folder,
                hint="they know their layers from a list with spaces between: rename the folder, or link to it",
            )
    output = str(places.output)
    return {
        **named,
        "SKIFF_CONFIG": ",".join(layer.name for layer in chain),
        "SKIFF_CONFIGS": " ".join(layer.name for layer in chain),
        "SKIFF_CONFIG_FULL": " ".join(variable(layer.name) for layer in chain),
        "SKIFF_CONFIG_PATH": " ".join(folders),
        "SKIFF_CONFIG_PATH_VAR": " ".join(f"SKIFF_CONFIG_PATH_{variable(layer.name)}" for layer in chain),
        "SKIFF_BUILDROOT_DIR": output,
        "BUILDROOT_DIR": output,
        "SKIFF_WORKSPACE_DIR": output,
        "WORKSPACE_DIR": output,
        "SKIFF_FINAL_CONFIG_DIR": str(places.generated),
        "SKIFF_WORKSPACE": workspace,
        "SKIFF_VERSION": version or "unknown",
        "SKIFF_VERSION_COMMIT": commit or version or "unknown",
        "SKIFF_ROOT_DIR": str(places.tree),
        "ROOT_DIR": str(places.tree),
        DROPINS: str(places.dropins),
    }


def of_layer(layer: Layer, places: HookPlaces) -> dict[str, str]:
    """Returns what a script of one layer has besides."""
    return {
        "SKIFF_CURRENT_CONF_DIR": str(places.layer(layer)),
        "SKIFF_CURRENT_CONF_NAME": layer.name,
        "SKIFF_CURRENT_CONF_NAME_FULL": f"SKIFF_CONFIG_PATH_{variable(layer.name)}",
        "WHERRY_LAYER": layer.name,
    }


def variable(name: str) -> str:
    """Returns the end of the variables of a layer: ``virt/qemu`` has ``VIRT_QEMU``.

    What no variable may have becomes ``_``, too: names with dashes, dots or more than two words are told apart by
    ``SKIFF_CONFIG_NAME_…`` no more where they differ in nothing else; the later in the chain has the variable.
    """
    return _NO_LETTER.sub("_", name.upper())


def script(variables: Mapping[str, str]) -> str:
    """Returns lines for a shell that set and export variables, by their names.

    Raises:
        InvalidInput: one is no variable of a shell's.
    """
    for name in variables:
        if not _VARIABLE.match(name):
            raise InvalidInput(f"not a variable: {name[:80]!r}")
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(variables.items()))
