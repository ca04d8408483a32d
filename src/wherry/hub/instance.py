"""The folder of a hub: what lies where, who may read it, and that one process alone serves it.

::

    DIR/                  0700
      hub.db              users, sessions, devices, history (SQLite, WAL); 0600
      repo/               the repository, OSTree archive mode
      secret.key          32 random bytes for CSRF tokens; 0600
      serve.lock          held by the process that serves
      migrate.lock        held while the schema changes

Losing ``secret.key`` costs open forms their CSRF token, no more. ``hub.db`` and ``repo/`` are what to save.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from wherry.core.durable import make_dirs, write_file
from wherry.core.errors import Conflict, Locked, NotFound, NotPermitted
from wherry.core.lock import file_lock
from wherry.hub.database import Database, open_database
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The folder of one hub."""

    path: Path

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        return self.path / "hub.db"

    @property
    def repo_path(self) -> Path:
        """The repository."""
        return self.path / "repo"

    @property
    def key_path(self) -> Path:
        """The secret key."""
        return self.path / "secret.key"

    def check(self) -> None:
        """Sees that this is a hub's folder.

        Raises:
            NotFound: it is not.
        """
        if not self.key_path.is_file() or not self.repo_path.is_dir():
            raise NotFound("not a hub's folder", where=self.path, hint=f"make one: wherry hub init {self.path}")

    def open_database(self) -> Database:
        """Opens the database, migrated."""
        self.check()
        return open_database(self.database_path)

    def open_repo(self) -> Repository:
        """Opens the repository."""
        return Repository.open(self.repo_path)

    def read_key(self) -> bytes:
        """Returns the secret key.

        Raises:
            NotPermitted: others may read it.
        """
        fd = os.open(self.key_path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(fd, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise NotPermitted(
                    f"the secret key may be read by others (mode {mode:04o})",
                    where=self.key_path,
                    hint=f"chmod 600 {self.key_path}",
                )
            return file.read(_KEY_BYTES)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Holds the right to serve this folder.

        Raises:
            Locked: another process serves it.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(file_lock(self.path / "serve.lock", timeout_s=0))
            except Locked as error:
                raise Locked(
                    "another process serves this hub", where=self.path, hint="stop it first, or serve another folder"
                ) from error
            yield


def make_instance(path: Path) -> Instance:
    """Makes the folder of a new hub, without a user; what a broken-off call left is taken up again.

    Raises:
        Conflict: there is a hub already.
    """
    instance = Instance(path=path)
    if instance.database_path.exists():
        raise Conflict("there is a hub already", where=path, hint="serve it, or choose another folder")
    make_dirs(path, mode=0o700)
    path.chmod(0o700)
    if not instance.repo_path.exists():
        Repository.init(instance.repo_path, Mode.ARCHIVE)
    write_file(instance.key_path, secrets.token_bytes(_KEY_BYTES), mode=0o600)
    return instance
