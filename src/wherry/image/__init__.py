"""OCI and docker images: their names, their configuration, their layers, and how they come into the store."""
