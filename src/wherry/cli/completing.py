"""What the shell completes: names of containers, volumes, networks, images and secrets of this call's engine root.

Given to click as ``shell_complete``; whatever goes wrong, nothing is completed and nothing is printed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from wherry.cli.places import default_root

MAX_NAMES = 500
Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def _completer(names: Callable[[Path], Iterable[str]]) -> Complete:
    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        given_root = context.find_root().params.get("root")
        root = Path(str(given_root or default_root(os.environ, os.geteuid())))
        try:
            given = context.params.get(parameter.name or "") or ()
            found = [name for name in sorted(names(root)) if name.startswith(incomplete) and name not in given]
        except Exception:  # noqa: BLE001 a shell must never see a traceback while somebody types
            return []
        return found[:MAX_NAMES]

    return complete


def _container_names(root: Path) -> Iterable[str]:
    return (name for name in os.listdir(root / "names") if (root / "names" / name).is_symlink())


def _volume_names(root: Path) -> Iterable[str]:
    return (name for name in os.listdir(root / "volumes") if not name.startswith("."))


def _secret_names(root: Path) -> Iterable[str]:
    return (name for name in os.listdir(root / "secrets") if not name.startswith("."))


def _network_names(root: Path) -> Iterable[str]:
    own = [name.removesuffix(".json") for name in os.listdir(root / "networks")] if (root / "networks").is_dir() else []
    return ["bridge", "host", "none", *own]


def _image_names(root: Path) -> Iterable[str]:
    from wherry.image.catalog import Images
    from wherry.store.repository import Repository

    return (record.reference.familiar for record in Images(Repository.open(root / "store")).list())


def _container_paths(root: Path) -> Iterable[str]:
    return (f"{name}:" for name in _container_names(root))


containers = _completer(_container_names)
container_paths = _completer(_container_paths)
volumes = _completer(_volume_names)
secrets = _completer(_secret_names)
networks = _completer(_network_names)
images = _completer(_image_names)
