"""The list of what is in a host, for an SBOM: its packages, and what is beside them: kernel, firmware, layers, apps.

It is the inventory of `image/sbom`, so that the same code writes CycloneDX and SPDX of images and of hosts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build.legal.component import Component
from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, NotFound
from wherry.image.reference import Reference
from wherry.image.sbom.model import Component as Item
from wherry.image.sbom.model import Inventory, Kind, Role, Unread
from wherry.image.sbom.tree import Tree, Unreadable
from wherry.revision.yamldoc import MAX_YAML_BYTES, Value, read_yaml

if TYPE_CHECKING:
    from wherry.build.provenance import Material
    from wherry.spec.host_record import HostRecord

APPS = "usr/lib/wherry/apps"
COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
MAX_BOOT_FILES = 5000
_ROLES = {"linux": Role.OPERATING_SYSTEM, "u-boot": Role.APPLICATION}


def host_inventory(
    inventory: Inventory,
    *,
    record: HostRecord,
    image: str = "",
    epoch: int = 0,
    compiled: Iterable[Component] = (),
    layers: Sequence[Material] = (),
    boot_files: Iterable[Item] = (),
    apps: Iterable[Item] = (),
    warnings: Iterable[Unread] = (),
) -> Inventory:
    """Returns what is in a host.

    Args:
        inventory: of its root.
        record: of its build.
        image: the name of the image that the list is of; "" for the host.
        epoch: the time that it is dated.
        compiled: what was built from source, by Buildroot too.
        layers: the layers that it was built from, with the digests of their contents.
        boot_files: what is beside the root, by `boot_items`.
        apps: containers, by `app_items`.
        warnings: what could not be read.

    Raises:
        NotFound: there is no such image.
    """
    name, digest = record.name, f"sha256:{record.commit}" if record.commit else inventory.digest
    if image:
        found = record.images.get(image)
        if found is None:
            known = ", ".join(sorted(record.images)) or "none"
            raise NotFound(f"no image {image!r}", where=record.name, hint=f"there are {known}")
        name, digest = f"{record.name}/{image}", f"sha256:{found.sha256}"
    more = [*(_compiled(item) for item in compiled), *map(_layer, layers), *boot_files, *apps]
    every = {item.key: item for item in (*inventory.components, *more)}
    return replace(
        inventory,
        name=name,
        digest=digest,
        created=datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        platform=f"linux/{record.architecture}",
        components=tuple(item for _, item in sorted(every.items())),
        warnings=(*inventory.warnings, *warnings),
        role=Role.OPERATING_SYSTEM,
    )


def _compiled(item: Component) -> Item:
    return Item(
        kind=Kind.GENERIC,
        name=item.name,
        version=item.version,
        architecture=item.architecture,
        licence=item.licence,
        basis=item.basis,
        source=item.origin,
        hashes=(("SHA-256", item.sha256),) if item.sha256 else (),
        properties=(("proprietary", item.proprietary),) if item.proprietary else (),
        found_in=f"built:{item.kind}",
        role=_ROLES.get(item.name, Role.LIBRARY),
    )


def _layer(material: Material) -> Item:
    return Item(
        kind=Kind.GENERIC,
        name=material.name,
        version=f"sha256:{material.sha256}",
        namespace="wherry/layer",
        hashes=(("SHA-256", material.sha256),) if material.sha256 else (),
        found_in="layers",
        role=Role.DATA,
    )


def boot_items(workspace: Path, record: HostRecord) -> list[Item]:
    """Returns the files that a host boots with: kernel, initramfs, device trees, firmware, each with its digest.

    Raises:
        NotFound: one that the record names is not there.
    """
    named = [(record.boot.kernel, Role.OPERATING_SYSTEM), (record.boot.initramfs, Role.FILE)]
    found = [(workspace / name, role) for name, role in named if name]
    folder = workspace / "output/boot"
    known = {path for path, _ in found}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_file() and not path.is_symlink() and path not in known:
            found.append((path, Role.FIRMWARE if "firmware" in path.relative_to(folder).parts[:1] else Role.FILE))
    if len(found) > MAX_BOOT_FILES:
        raise InvalidInput(f"more than {MAX_BOOT_FILES} files to boot with", where=folder)
    return [_file(path, path.relative_to(workspace / "output").as_posix(), role) for path, role in found]


def _file(path: Path, name: str, role: Role) -> Item:
    try:
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise NotFound("not there any more", where=path, hint="build the host again") from None
    except OSError as error:
        raise map_os_error(error, "cannot read", where=path) from error
    return Item(
        kind=Kind.GENERIC,
        name=name,
        version=f"sha256:{sha256}",
        hashes=(("SHA-256", sha256),),
        found_in=name,
        role=role,
    )


def app_items(tree: Tree) -> tuple[list[Item], list[Unread]]:
    """Returns the containers of the Compose projects that a host brings along, and what could not be read of them."""
    found: list[Item] = []
    unread: list[Unread] = []
    for app in tree.listdir(APPS):
        path = next((one for name in COMPOSE_FILES if tree.is_file(one := f"{APPS}/{app}/{name}")), None)
        if path is None:
            continue
        try:
            found += _containers(tree.read(path, max_bytes=MAX_YAML_BYTES), path)
        except (InvalidInput, Unreadable) as error:
            unread.append(Unread(where=path, what=error.what))
    return found, unread


def _containers(data: bytes, path: str) -> list[Item]:
    found = []
    for key, _, services in _entries(read_yaml(data, path)):
        for service, _, value in _entries(services) if key == "services" else ():
            found += [
                _container(Reference.parse(item.raw()), service, path)
                for word, _, item in _entries(value)
                if word == "image" and item.is_scalar and not item.is_null
            ]
    return found


def _entries(value: Value | None) -> Iterator[tuple[str, Value, Value]]:
    return value.entries() if value is not None and value.is_map else iter(())


def _container(image: Reference, service: str, path: str) -> Item:
    repository = image.repository
    qualifiers = {"repository_url": repository, **({"tag": image.tag} if image.tag else {})}
    return Item(
        kind=Kind.OCI,
        name=repository.rpartition("/")[2],
        version=str(image.digest or image.tag or ""),
        qualifiers=tuple(sorted(qualifiers.items())),
        properties=(("service", service),),
        found_in=f"{path}#{service}",
        role=Role.CONTAINER,
    )
