"""The OCI runtime: from a root file system and a specification to a process, and its end."""
