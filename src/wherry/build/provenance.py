"""Where a host came from: a record of all that went into its build, each by its digest, in SLSA's form.

::

    {"_type": "https://in-toto.io/Statement/v1",
     "subject": [{"name": "host/my-device", "digest": {"sha256": COMMIT}}, {"name": "images/disk.img", ...}],
     "predicateType": "https://slsa.dev/provenance/v1",
     "predicate": {"buildDefinition": {"buildType", "externalParameters", "internalParameters", "resolvedDependencies"},
                   "runDetails": {"builder": {"id", "version"}}}}

The same build gives the same bytes: there is no time but SOURCE_DATE_EPOCH, no name of a machine or a person, and no
place where something lay. A commit cannot hold its own checksum, so that the record in a commit's metadata
(`METADATA_KEY`) has its root tree for a subject, and the one beside the images (``output/provenance.json``) the commit.

It is a statement about a build, not a proof: nobody has signed it. The commit that holds it may be signed.

Source: in-toto Attestation Framework, Statement v1 and ResourceDescriptor v1; SLSA v1.0, "Provenance".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wherry.build.contributions import digest
from wherry.core.digest import is_checksum
from wherry.core.errors import InvalidInput
from wherry.core.jsonio import canonical, loads
from wherry.version import __version__

if TYPE_CHECKING:
    from wherry.build.layers import Layer

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:wherry:host-build:v1"
BUILDER_ID = "urn:wherry:builder:"
METADATA_KEY = "wherry.provenance"
"""Of the commit's metadata; the value is `serialize`'s bytes."""
FILE = "output/provenance.json"
PLACES = ("layers_path", "path", "paths", "folder", "directory", "downloads", "ccache")
"""Keys of ``host.yaml`` whose values are places on a machine, where they are absolute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Something that went into a build."""

    name: str
    version: str = ""
    uri: str = ""
    """Where it is from, on any machine: a package URL, an address; "" makes one of the name and version."""
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A build, as it is told of."""

    name: str
    """The host's."""
    builder: str
    architecture: str
    target: tuple[str, ...]
    """The layers that were asked for."""
    layers: tuple[Material, ...] = ()
    """The whole chain, in order, each with the digest of its content (`layer_materials`)."""
    host_file: Mapping[str, Any] = field(default_factory=dict)
    """What ``host.yaml`` says."""
    packages: tuple[Material, ...] = ()
    """Of the lock."""
    sources: tuple[Material, ...] = ()
    """Archives that were compiled."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Programs that did the work, with their versions."""
    epoch: int | None = None
    """SOURCE_DATE_EPOCH."""
    tree: str = ""
    """The checksum of the root's directory object: the subject of a record inside a commit."""
    commit: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    """The SHA-256 of each image, by its path below ``output/``."""


def layer_materials(chain: Iterable[Layer]) -> tuple[Material, ...]:
    """Returns the layers of a chain with the digests of their contents, which no place on this machine is a part of.

    Raises:
        InvalidInput: there is something in a layer that cannot be read.
    """
    return tuple(
        Material(name=layer.name, uri=f"urn:wherry:layer:{layer.name}", sha256=digest([layer])) for layer in chain
    )


def package_material(name: str, version: str, architecture: str, sha256: str, *, distribution: str) -> Material:
    """Returns a package of a distribution as a package URL names it: ``pkg:deb/debian/bash@5.2-1?arch=amd64``."""
    uri = f"pkg:deb/{distribution}/{_quoted(name)}@{_quoted(version)}?arch={_quoted(architecture)}"
    return Material(name=name, version=version, uri=uri, sha256=sha256)


def provenance(record: Record) -> dict[str, Any]:
    """Returns the statement about a build.

    Raises:
        InvalidInput: there is nothing that it could be about, or a digest is none.
    """
    subjects = [
        *([_subject(f"host/{record.name}", record.commit)] if record.commit else []),
        *([_subject(f"host/{record.name}/root", record.tree)] if record.tree and not record.commit else []),
        *(_subject(name, sha256) for name, sha256 in sorted(record.images.items())),
    ]
    if not subjects:
        raise InvalidInput("a record of a build is about a commit, its tree or an image")
    internal: dict[str, Any] = {} if record.epoch is None else {"SOURCE_DATE_EPOCH": record.epoch}
    definition: dict[str, Any] = {
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "name": record.name,
            "builder": record.builder,
            "architecture": record.architecture,
            "target": list(record.target),
            "chain": [layer.name for layer in record.layers],
            "host": without_places(record.host_file),
        },
        "resolvedDependencies": [
            *(_descriptor(layer) for layer in record.layers),
            *_sorted(record.packages),
            *_sorted(record.sources),
        ],
    }
    if internal:
        definition["internalParameters"] = internal
    return {
        "_type": STATEMENT_TYPE,
        "subject": subjects,
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": definition,
            "runDetails": {
                "builder": {
                    "id": f"{BUILDER_ID}{record.builder}",
                    "version": {"wherry": __version__, **dict(sorted(record.tools.items()))},
                }
            },
        },
    }


def serialize(statement: Mapping[str, Any]) -> bytes:
    """Returns a statement as canonical JSON, with a line feed at its end.

    Raises:
        InvalidInput: it holds something that is not JSON, or a fraction.
    """
    return canonical(dict(statement)) + b"\n"


def parse(data: bytes, *, where: object = None) -> dict[str, Any]:
    """Returns the statement in bytes that `serialize` made, here or elsewhere.

    Raises:
        InvalidInput: it is no statement about a build of a host.
    """
    value = loads(data, where=where)
    if not isinstance(value, dict) or value.get("_type") != STATEMENT_TYPE:
        raise InvalidInput("not an in-toto statement", where=where)
    if value.get("predicateType") != PREDICATE_TYPE or not isinstance(value.get("predicate"), dict):
        raise InvalidInput("not a SLSA provenance", where=where)
    definition = value["predicate"].get("buildDefinition")
    if not isinstance(definition, dict) or definition.get("buildType") != BUILD_TYPE:
        raise InvalidInput("not about a build of a host", where=where)
    return value


def without_places(value: Any) -> Any:
    """Returns a JSON value without the places on a machine that stand under the keys of `PLACES`."""
    if isinstance(value, Mapping):
        return {
            key: kept
            for key, item in value.items()
            if (kept := _without_absolute(item) if key in PLACES else without_places(item)) is not None
        }
    return [without_places(item) for item in value] if isinstance(value, list | tuple) else value


def _without_absolute(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [item for item in value if _without_absolute(item) is not None] or None
    is_place = isinstance(value, str) and value.startswith(("/", "~", "file:"))
    return None if is_place else without_places(value)


def _subject(name: str, sha256: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": _checked(sha256, name)}}


def _sorted(every: Sequence[Material]) -> list[dict[str, Any]]:
    found = (_descriptor(material) for material in every)
    return sorted(found, key=lambda item: (item["uri"], item.get("digest", {}).get("sha256", "")))


def _descriptor(material: Material) -> dict[str, Any]:
    version = f"@{_quoted(material.version)}" if material.version else ""
    uri = material.uri or f"pkg:generic/{_quoted(material.name)}{version}"
    if uri.startswith(("/", "file:")):
        raise InvalidInput("a place on this machine is no origin", where=f"{material.name}: {uri}")
    found: dict[str, Any] = {"name": material.name, "uri": uri}
    if material.sha256:
        found["digest"] = {"sha256": _checked(material.sha256, material.name)}
    return found


def _checked(sha256: str, name: str) -> str:
    if not is_checksum(sha256):
        raise InvalidInput(f"not a SHA-256: {sha256[:80]!r}", where=name)
    return sha256


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe=".-_~")
