"""Projects of several containers from Compose files: reading, merging, and making it so."""
