"""``wherry image inspect --remote`` and ``--raw``: an image that is in a registry, looked at without pulling it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wherry.cli.registries import RegistryOptions
    from wherry.image.platforms import Platform


def remote_manifest(name: str, registries: RegistryOptions) -> bytes:
    """Returns the manifest or index that a name leads to, byte for byte."""
    from wherry.image.reference import Reference
    from wherry.image.registry.manifests import get_manifest

    reference = Reference.parse(name)
    with registries.clients(reference.domain) as clients:
        return get_manifest(clients, reference.path, reference.digest or reference.tag or "latest").raw


def remote_document(name: str, platform: Platform | None, registries: RegistryOptions) -> dict[str, Any]:
    """Returns all about an image in a registry: docker's keys, and what its manifest says.

    Args:
        name: of the image.
        platform: which one, where there are several; None: this machine's.
        registries: how they are reached.

    Raises:
        NotFound: there is none of that name, or none for this platform.
        Unsupported: it is an artifact, not an image.
    """
    from wherry.core.errors import Unsupported
    from wherry.image.config import parse_config
    from wherry.image.layout import CONFIG_TYPES, manifests_of, platform_of
    from wherry.image.packed import field
    from wherry.image.platforms import Platform
    from wherry.image.reference import Reference
    from wherry.image.registry.copying import read_small
    from wherry.image.registry.manifests import choose_manifest, get_manifest, sizes_of

    reference = Reference.parse(name)
    wanted = platform or Platform.of_this_machine()
    with registries.clients(reference.domain) as clients:
        top = get_manifest(clients, reference.path, reference.digest or reference.tag or "latest")
        manifest = choose_manifest(clients, reference.path, top, wanted, where=reference)
        document = manifest.document()
        descriptor = field(document, "config", dict, where=reference)
        if descriptor.get("mediaType") not in CONFIG_TYPES:
            kind = str(document.get("artifactType") or descriptor.get("mediaType"))[:80]
            raise Unsupported(f"an artifact, not an image: {kind}", where=reference, hint="--raw shows its manifest")
        sizes = sizes_of(manifest, where=reference)
        raw = read_small(clients, reference.path, field(descriptor, "digest", str, where=reference))
    config = parse_config(raw, where=reference)
    layers = field(document, "layers", list, where=reference)
    platforms = {config.platform}
    if top.is_index:
        offered = [platform_of(item) for item in manifests_of(top.document(), reference)]
        platforms = {str(item) for item in offered if item.architecture not in ("", "unknown")}
    return {
        "Id": config.digest,
        "RepoTags": [reference.familiar] if reference.tag else [],
        "RepoDigests": [f"{reference.familiar_repository}@{top.digest}"],
        "Created": config.created,
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": sum(sizes.values()),
        "Config": config.document().get("config") or {},
        "RootFS": {"Type": "layers", "Layers": list(config.diff_ids)},
        "Digest": manifest.digest,
        "MediaType": manifest.media_type,
        "Layers": [{key: item.get(key) for key in ("mediaType", "digest", "size")} for item in layers],
        "Platforms": sorted(platforms),
    }
