"""A builder's inputs, made of layers in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wherry.build.boards import Board
from wherry.build.builder import Inputs
from wherry.build.contributions import gather
from wherry.build.layers import find_layers
from wherry.build.resolving import resolve
from wherry.build.source import lock
from wherry.spec.architecture import architecture

SHA256 = "ab" * 32
LAYER = {
    "a/base/kernel/10": "CONFIG_NET=y\n",
    "a/base/busybox/10": "CONFIG_ASH=y\n",
}


def write(top: Path, files: Mapping[str, str]) -> None:
    """Makes files of layers."""
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def inputs(top: Path, *, arch: str = "amd64", options: Mapping[str, Any] | None = None, **given: Any) -> Inputs:
    """Returns inputs of the layers in ``top/layers``, which come all, in the order of their names."""
    layers = find_layers([top / "layers"])
    (top / "work").mkdir(exist_ok=True)
    return Inputs(
        name="small",
        workspace=top / "work",
        contributions=gather(resolve(layers, [layer.name for layer in layers])),
        board=Board(),
        architecture=architecture(arch),
        options=options or {},
        **given,
    )


def pinned(role: str, name: str, path: str = "", *, version: str = "1", sha256: str = SHA256) -> lock.Pinned:
    """Returns a line of a lock."""
    return lock.Pinned(
        role=role, name=name, version=version, size=7, sha256=sha256, path=path or f"pool/{name}_{version}.deb"
    )


def write_lock(top: Path, *files: lock.Pinned) -> None:
    """Writes a workspace's lock: of the usual packages, where none are given."""
    usual = (
        pinned("kernel", "linux-source-6.1"),
        pinned("busybox", "busybox", "pool/b/busybox_1.dsc"),
        pinned("busybox", "busybox", "pool/b/busybox_1.tar.xz"),
    )
    (top / "work").mkdir(exist_ok=True)
    (top / "work/source.lock").write_bytes(lock.serialize(lock.Lock(suite="bookworm", files=files or usual)))
