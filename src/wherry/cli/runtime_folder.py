"""The folder of all containers of ``wherry runtime``, and what the command itself keeps in each one's own."""

from __future__ import annotations

import os

from wherry.runtime.state import FILE

CONFIG_COPY = "config.json"
"""In the state directory: what the container was made from, whatever becomes of the bundle."""


def known(root: str) -> list[str]:
    """Returns the names of the containers of a root directory."""
    try:
        names = os.listdir(root)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if os.path.exists(f"{root}/{name}/{FILE}"))
