"""Images beside podman, skopeo, OSTree: pulls, disk, builds, packed apps."""
