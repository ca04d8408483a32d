"""Commands of layers: targets of ``extensions/Makefile``, run on this machine with the environment that hooks have."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build.hookenv import HookPlaces, environment, of_layer
from wherry.core.errors import NotFound, Unsupported

if TYPE_CHECKING:
    from wherry.build.hosts import Host
    from wherry.build.layers import Layer, Layers

_KEPT = ("HOME", "LANG", "PATH", "TERM", "USER", "SUDO_USER", "XDG_RUNTIME_DIR", "DISPLAY", "WAYLAND_DISPLAY")


def run_command(
    host: Host,
    layers: Layers,
    layer: Layer,
    command: str,
    variables: Mapping[str, str],
    *,
    own: Mapping[str, str],
) -> int:
    """Runs a command of a layer; returns its exit status.

    Args:
        host: of the workspace.
        layers: all that there are: each has its variables.
        layer: whose command.
        command: the target.
        variables: for make, and in the environment.
        own: this process's environment, of which a few are handed down.

    Raises:
        NotFound: the layer has no such command.
        Unsupported: there is no make.
    """
    folder = layer.path / "extensions"
    if not (folder / "Makefile").is_file():
        raise NotFound(f"layer {layer.name} has no commands", where=folder)
    if command.startswith("-") or "=" in command or not command:
        raise NotFound(f"not a command: {command[:60]!r}", where=layer.name)
    env = {name: own[name] for name in _KEPT if name in own} | command_environment(host, layers, layer)
    # tools that were built for this machine are found before its own, as in SkiffOS
    env["PATH"] = f"{env['BUILDROOT_DIR']}/host/bin:{own.get('PATH', os.defpath)}"
    words = ["make", "--no-print-directory", command, *(f"{name}={value}" for name, value in variables.items())]
    try:
        return subprocess.run(words, cwd=folder, env={**env, **variables}, check=False).returncode
    except FileNotFoundError:
        raise Unsupported("program not found: make", hint="apt install make") from None


def command_environment(host: Host, layers: Layers, layer: Layer) -> dict[str, str]:
    """Returns the variables of layers for a command of one of them, with the places of this machine."""
    workspace = host.workspace
    built = workspace.work / "kept" / "build" / "output"  # Buildroot's, if it is the builder
    output = built if built.is_dir() else workspace.output
    places = HookPlaces(
        output=output,
        generated=workspace.work,
        dropins=workspace.work / "dropins",
        tree=layers.paths[0].parent if layers.paths else Path("/"),
        layer=lambda each: each.path,
    )
    chain = host.inputs.contributions.chain
    images = str(workspace.output / "images")
    return {
        **environment(chain, places, workspace=workspace.name, version=workspace.name, known=layers),
        **of_layer(layer, places),
        "WHERRY_WORKSPACE": str(workspace.path),
        "WHERRY_IMAGES": images,
        "BINARIES_DIR": images,
    }
