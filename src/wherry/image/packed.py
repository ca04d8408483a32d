"""An image as it is found in a file or a directory, before it goes into the store: a config, and layers to be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wherry.core import jsonio
from wherry.core.digest import Digest
from wherry.core.errors import InvalidInput
from wherry.image.blobs import MAX_JSON_BYTES, Blobs, read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBlob:
    """One layer, as it is kept: compressed or not."""

    blobs: Blobs
    name: str
    where: str
    """For errors."""
    digest: Digest | None = None
    """Of the bytes as they are kept; None where nothing says."""
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedImage:
    """An image whose layers have not been read."""

    config: bytes
    """The config's JSON."""
    layers: tuple[LayerBlob, ...]
    """The lowest first."""
    digest: Digest | None = None
    """Of the manifest; None: the config's own digest stands for it."""
    manifest: bytes = b""
    """The manifest's JSON, byte for byte; empty where there is none."""
    names: tuple[str, ...] = ()
    """What the source calls it."""
    complete: bool = True
    """Whether the config says what the layers are; else that is written into it once they are read."""


def load_object(blobs: Blobs, name: str, *, where: object, digest: Digest | None = None) -> dict[str, Any]:
    """Returns a JSON object, checked against its digest if that is known.

    Raises:
        NotFound: the file is not there.
        InvalidInput: it is no JSON object.
        IntegrityError: it has another digest.
    """
    return parse_object(read_json(blobs, name, where=where, digest=digest), where=f"{where}: {name}")


def parse_object(raw: bytes, *, where: object) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        InvalidInput: it is none.
    """
    value = jsonio.loads(raw, where=where, max_bytes=MAX_JSON_BYTES)
    if not isinstance(value, dict):
        raise InvalidInput("a JSON object is needed", where=where)
    return value


def field(value: Any, key: str, kind: type, *, where: object) -> Any:
    """Returns one member of a JSON object, which must be there and of a type.

    Raises:
        InvalidInput: it is not.
    """
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, kind) or isinstance(found, bool):
        raise InvalidInput(f"{key}: missing, or not what it should be", where=where)
    return found
