"""Delta indexes: for each commit, one small file that lists the deltas to it, so that the summary need not.

``a{sv}`` with ``ostree.static-deltas``: an ``a{sv}`` of ``FROM-TO`` or ``TO`` to the SHA-256 of the superblock's file.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.durable import write_file
from wherry.core.errors import InvalidInput
from wherry.store.format import variant
from wherry.store.format.variant import Variant
from wherry.store.static_delta import names
from wherry.store.static_delta.names import DeltaName

if TYPE_CHECKING:
    from wherry.store.repository import Repository

KEY = "ostree.static-deltas"
MAX_INDEX_BYTES = 10 * 1024 * 1024
MAX_DELTAS = 100_000


def parse_deltas(value: object, *, where: object = None) -> dict[DeltaName, bytes]:
    """Returns what ``ostree.static-deltas`` says, in an index or in a summary.

    Args:
        value: names to digests, as Variants or plain.
        where: the file, for errors.

    Raises:
        InvalidInput: malformed.
    """
    if isinstance(value, Variant):
        value = value.value if value.type == "a{sv}" else None
    if not isinstance(value, dict) or len(value) > MAX_DELTAS:
        raise InvalidInput("malformed list of deltas", where=where)
    found = {}
    for name, item in value.items():
        digest = item.value if isinstance(item, Variant) and item.type == "ay" else item
        if not isinstance(digest, bytes) or len(digest) != 32:
            raise InvalidInput("the digest of a delta has not 32 bytes", where=where)
        found[names.parse_delta_name(name)] = digest
    return found


def parse_index(data: bytes, *, where: object = None) -> dict[DeltaName, bytes]:
    """Returns the deltas in an index, with the SHA-256 of their superblocks.

    Raises:
        InvalidInput: malformed.
    """
    if len(data) > MAX_INDEX_BYTES:
        raise InvalidInput(f"longer than {MAX_INDEX_BYTES} bytes", where=where)
    values = variant.decode("a{sv}", data, where=where)
    return parse_deltas(values.get(KEY, Variant("a{sv}", {})), where=where)


def superblock_digest(repo: Repository, name: DeltaName) -> bytes:
    """Returns the SHA-256 of a superblock's file."""
    with open(repo.path / names.delta_path(*name), "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def superblock_digests(repo: Repository) -> dict[str, Variant]:
    """Returns every delta with the SHA-256 of its superblock: the summary's ``ostree.static-deltas``."""
    return {names.delta_name(*name): Variant("ay", superblock_digest(repo, name)) for name in names.list_deltas(repo)}


def reindex(repo: Repository, to: Checksum | None = None) -> None:
    """Makes the indexes anew: all, or that of one commit. Those of commits without deltas are removed.

    The config then says ``core.indexed-deltas=true``, for which a pull looks.
    """
    with repo.lock(shared=True):
        if not repo.config.get_bool("core", "indexed-deltas", False):
            repo.config.set("core", "indexed-deltas", "true")
            repo.save_config()
        wanted: dict[Checksum, list[DeltaName]] = {to: []} if to else {item: [] for item in names.list_indexes(repo)}
        for name in names.list_deltas(repo):
            if to is None or name[1] == to:
                wanted.setdefault(name[1], []).append(name)
        for target, deltas in wanted.items():
            path = repo.path / names.index_path(target)
            if not deltas:
                path.unlink(missing_ok=True)
                continue
            listed = {names.delta_name(*name): Variant("ay", superblock_digest(repo, name)) for name in sorted(
                deltas, key=lambda name: name[0] or ""
            )}  # fmt: skip
            data = variant.encode("a{sv}", {KEY: Variant("a{sv}", listed)})
            if not path.is_file() or path.read_bytes() != data:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_file(path, data)
