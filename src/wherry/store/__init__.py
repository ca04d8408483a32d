"""The content-addressed repository, in OSTree's own format."""

from wherry.store.repository import Repository as Repository
