"""The OCI distribution API as a client: pull, push, tags."""
