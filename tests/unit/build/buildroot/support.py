"""A tree that looks like Buildroot's, layers, and a plan over them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.unit.build.support import write

from wherry.build.boards import Board
from wherry.build.builder import Inputs
from wherry.build.buildroot.builder import Build
from wherry.build.buildroot.options import TREE_FILES
from wherry.build.contributions import gather
from wherry.build.layers import Layer, find_layers
from wherry.build.resolving import resolve
from wherry.spec.architecture import architecture

NAMES = {"pi/4": "skiff/core", "skiff/core": "", "site/group/kiosk": "pi/4"}
EXTERNAL = {
    "buildroot_ext/external.desc": "name: SKIFF_CORE\ndesc: it\n",
    "buildroot_ext/external.mk": "",
    "buildroot_ext/Config.in": "",
}


def tree(top: Path) -> Path:
    """Makes what passes for a tree of Buildroot."""
    for name in TREE_FILES:
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("export BR2_VERSION := 2026.08\n")
    return top


def chain(top: Path, files: Mapping[str, str]) -> list[Layer]:
    """Makes layers with files: ``skiff/core/kernel/x`` -> text; returns their chain."""
    if not (top / "pi").exists():
        write(top, NAMES)
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return resolve(find_layers([top]), ["site/group/kiosk"])


def build(top: Path, files: Mapping[str, str], *, arch: str = "arm64", offline: bool = False, **options: Any) -> Build:
    """Returns the build that layers with these files come to."""
    (top / "work").mkdir(exist_ok=True)
    layers = chain(top / "layers", files)
    return Build.of(
        Inputs(
            name="kiosk",
            workspace=top / "work",
            contributions=gather(layers),
            board=Board(),
            architecture=architecture(arch),
            options={"path": str(tree(top / "tree")), **options},
            epoch=1,
            offline=offline,
        )
    )
