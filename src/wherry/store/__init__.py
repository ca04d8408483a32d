"""The content-addressed repository, in OSTree's own format."""
