"""OSTree's static deltas: reading, applying, generating. Byte by byte in docs/internals/static-delta.md."""
