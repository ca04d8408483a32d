"""Media types of what images are made of: OCI's, and docker's of version 2.

Source: OCI image-spec 1.1, media-types.md; docker's "Image Manifest Version 2, Schema 2".
"""

from __future__ import annotations

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
"""Of a config of two bytes, ``{}``: what is no image has none (image-spec 1.1, manifest.md)."""
DOCKER_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
