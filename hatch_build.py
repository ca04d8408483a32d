"""What a wheel has besides the package: Wherry's own layers. An editable installation finds them in the checkout.

A wheel has no links, and those in layers may lead to files of a host that are not here: a layer with some is left out
with all that stand on it, rather than a host be built without them. The checkout has all.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TOP = "layers"


class LayersHook(BuildHookInterface):
    """Puts ``layers/`` into wheels that are not editable."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds; see `BuildHookInterface`."""
        if version == "editable":
            return
        top = Path(self.root, TOP)
        layers = {path.parent.parent.relative_to(top).as_posix() for path in top.rglob("metadata/description")}
        files = {name: _below(top / name) for name in sorted(layers)}
        left = {name for name in files if any(path.is_symlink() for path in files[name])}
        while more := {name for name in files if name not in left and left & _dependencies(top / name)}:
            left |= more
        for name in files:
            for path in files[name] if name not in left else ():
                build_data["force_include"][str(path)] = f"wherry/layers/{path.relative_to(top)}"


def _below(layer: Path) -> list[Path]:
    every = (Path(folder, name) for folder, folders, names in os.walk(layer) for name in (*folders, *names))
    return sorted(path for path in every if path.is_symlink() or path.is_file())


def _dependencies(layer: Path) -> set[str]:
    path = layer / "metadata/dependencies"
    return set(path.read_text().replace(",", " ").split()) if path.is_file() else set()
