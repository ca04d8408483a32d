"""The record of where a host came from, as a build has it: layers, what a lock pins, and what was made of them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from wherry.build.builder import BuilderName
from wherry.build.provenance import Material, Record, layer_materials, package_material, provenance, serialize
from wherry.spec.codec import encode

if TYPE_CHECKING:
    from wherry.build.hosts import Host

_LOCKS = {BuilderName.DEBIAN: "wherry.build.debian", BuilderName.SOURCE: "wherry.build.source"}


def host_provenance(host: Host, *, tree: str = "", commit: str = "", images: Mapping[str, str] | None = None) -> bytes:
    """Returns the provenance of a host that was built, in canonical JSON.

    Args:
        host: the host.
        tree: the checksum of its root's directory object, for the record in its commit.
        commit: of the root, for the record beside the images.
        images: each image's digest, by its path below ``output/``.
    """
    packages, sources = pinned(host)
    return serialize(
        provenance(
            Record(
                name=host.workspace.name,
                builder=host.builder.name.value,
                architecture=host.inputs.architecture.name,
                target=host.file.target,
                layers=layer_materials(host.inputs.contributions.chain),
                host_file=encode(host.file),
                packages=packages,
                sources=sources,
                epoch=host.inputs.epoch,
                tree=tree,
                commit=commit,
                images=images or {},
            )
        )
    )


def pinned(host: Host) -> tuple[tuple[Material, ...], tuple[Material, ...]]:
    """Returns the packages and the sources that the lock of a host pins."""
    package = _LOCKS.get(host.builder.name)
    if package is None:
        return (), ()
    locking = import_module(f"{package}.locking")
    options = import_module(f"{package}.options").options_of(host.inputs)
    lock = locking.fitting_lock(host.inputs, options)
    if host.builder.name is BuilderName.DEBIAN:
        found = (
            package_material(each.name, each.version, each.architecture, each.sha256, distribution="debian")
            for each in lock.packages
        )
        return tuple({each.uri: each for each in found}.values()), ()
    return (), tuple(
        Material(
            name=each.file_name, version=each.version, uri=f"urn:wherry:source:{each.file_name}", sha256=each.sha256
        )
        for each in lock.files
    )
