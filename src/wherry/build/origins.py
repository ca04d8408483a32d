"""What went into a host, for the record of its build (`provenance.py`), out of the host itself and its lock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from wherry.build.provenance import Material, Record, layer_materials, package_material

if TYPE_CHECKING:
    from wherry.build.debian.lock import Lock
    from wherry.build.hosts import Host
    from wherry.build.legal.component import Component

DISTRIBUTION = "debian"


def record_of(
    host: Host,
    *,
    lock: Lock | None = None,
    compiled: Iterable[Component] = (),
    tools: Mapping[str, str] | None = None,
    tree: str = "",
    commit: str = "",
    images: Mapping[str, str] | None = None,
) -> Record:
    """Returns the record of a host's build.

    Args:
        host: what was built.
        lock: its packages.
        compiled: what was compiled, with the digests of the archives (`legal/gathering.py`).
        tools: programs that did the work, with their versions.
        tree: the checksum of the root's directory object, for the record in the commit itself.
        commit: the root's commit, for the record beside the images.
        images: SHA-256 of each, by its path below ``output/``.

    Raises:
        InvalidInput: a layer has something that cannot be read.
    """
    inputs = host.inputs
    return Record(
        name=inputs.name,
        builder=host.builder.name.value,
        architecture=inputs.architecture.name,
        target=host.file.target,
        layers=layer_materials(inputs.contributions.chain),
        host_file=_plain({key: value for key, value in asdict(host.file).items() if value}),
        packages=tuple(
            package_material(one.name, one.version, one.architecture, one.sha256, distribution=DISTRIBUTION)
            for one in (lock.packages if lock is not None else ())
        ),
        sources=tuple(
            Material(name=item.source or item.name, version=item.source_version or item.version, sha256=item.sha256)
            for item in compiled
            if item.sha256
        ),
        tools=dict(tools or {}),
        epoch=inputs.epoch,
        tree=tree,
        commit=commit,
        images=dict(images or {}),
    )


def _plain(value: Any) -> Any:
    """Returns a value with nothing in it but what JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int) else str(value)
