"""The fixtures of the unit tests, for tests that need a server, root or another process."""

from __future__ import annotations

from tests.unit.store.conftest import archive, repo, user_repo

__all__ = ["archive", "repo", "user_repo"]
