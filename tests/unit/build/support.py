"""A tree of layers in a folder."""

from __future__ import annotations

from pathlib import Path

from wherry.build.layers import Layers, find_layers


def write(top: Path, layers: dict[str, str]) -> Path:
    """Makes layers: name -> what it depends on, or "" for nothing."""
    for name, dependencies in layers.items():
        metadata = top / name / "metadata"
        metadata.mkdir(parents=True)
        (metadata / "description").write_text(f"{name} it is\n")
        if dependencies:
            (metadata / "dependencies").write_text(f"{dependencies}\n")
    return top


def made(top: Path, layers: dict[str, str]) -> Layers:
    """Makes layers and finds them."""
    return find_layers([write(top, layers)])
