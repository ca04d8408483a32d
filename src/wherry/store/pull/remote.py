"""Remotes: the repositories that are pulled from, as a repository's config names them.

::

    [remote "origin"]
    url=https://host/repo              or mirrorlist=URL, metalink=URL, file:///path
    contenturl=https://cdn/repo        for objects that need no signature of their own; or mirrorlist=URL
    branches=os/main;                  what a pull without names gets
    gpg-verify=false                   Wherry has no GPG: see trust.py
    sign-verify=ed25519                with verification-ed25519-key= or -file=
    collection-id=org.example.Os
    proxy=URL, http2=false, tls-ca-path=, tls-client-cert-path=, tls-client-key-path=, tls-permissive=true,
    unconfigured-state=TEXT, custom-backend=NAME
    REMOTE.cookies.txt                 beside the config: cookies, in Netscape's format

A repository whose config names a ``core.parent`` knows that one's remotes too. The system's own repository, the one at
``/ostree/repo``, knows those in ``/etc/ostree/remotes.d/*.conf``, and adds new ones there as ``NAME.conf``, unless its
``core.add-remotes-config-dir`` is false. A remote must not stand in two places of the same repository. All as OSTree's,
but that a remote is deleted alone where others stand in its file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.durable import remove_file
from wherry.core.errors import Conflict, InvalidInput, NotFound
from wherry.store.config import Config

if TYPE_CHECKING:
    from wherry.store.repository import Repository

MAX_PARENTS = 8
_NAME = re.compile(r"\w[-.\w]*\Z")
_SYSTEM_REPOSITORY = Path("/ostree/repo")
_SYSTEM_FOLDER = Path("/etc/ostree/remotes.d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """One remote: its name and the keys of its section."""

    name: str
    """Empty for a bare address."""
    values: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None
    """Where it stands, when that is a file of the system's folder and not a repository's config."""

    def get(self, key: str, default: str = "") -> str:
        """Returns a value."""
        return self.values.get(key, default)

    def flag(self, key: str, default: bool) -> bool:
        """Returns a boolean value.

        Raises:
            InvalidInput: it is neither ``true`` nor ``false``.
        """
        text = self.values.get(key, "")
        if text in ("true", "1"):
            return True
        if text in ("false", "0"):
            return False
        if text:
            raise InvalidInput(f"neither true nor false: {text!r}", where=f"{key} of remote {self.name}")
        return default

    @property
    def url(self) -> str:
        """Where it is.

        Raises:
            NotFound: it does not say.
        """
        found = self.values.get("url") or (f"metalink={self.values['metalink']}" if self.get("metalink") else "")
        if not found:
            raise NotFound(f'No "url" option in remote "{self.name}"', hint="give --url, or set it in the config")
        return found

    @property
    def branches(self) -> tuple[str, ...]:
        """What a pull without names gets."""
        return tuple(name for name in self.get("branches").split(";") if name)

    @property
    def collection_id(self) -> str:
        """The collection that its refs belong to; empty for none."""
        return self.get("collection-id")


def section_name(name: str) -> str:
    """Returns the name of a remote's section in the config.

    Raises:
        InvalidInput: it is no name for a remote.
    """
    if _NAME.match(name) is None:
        raise InvalidInput(f"Invalid remote name {name[:80]!r}", hint="use letters, digits, '-', '_' and '.'")
    return f'remote "{name}"'


def list_remotes(repo: Repository) -> dict[str, Remote]:
    """Returns every remote, sorted by name: the repository's own, the system's where they apply, and its parents'.

    Raises:
        Conflict: the repository has one twice.
        InvalidInput: a file cannot be read as a config.
    """
    found = dict(_remotes_in(repo.config))
    for file in _system_files(repo):
        for name, remote in _remotes_in(Config.load(file), file):
            if name in found:
                raise Conflict(
                    f'Multiple specifications found for remote "{name}"',
                    where=file,
                    hint=f"it stands in {found[name].file or repo.path / 'config'} too: keep one of them",
                )
            found[name] = remote
    for config in _parents(repo):
        for name, remote in _remotes_in(config):
            found.setdefault(name, remote)
    return dict(sorted(found.items()))


def find_remote(repo: Repository, name: str) -> Remote:
    """Returns a remote.

    Raises:
        NotFound: there is none of this name.
    """
    found = list_remotes(repo).get(name)
    if found is None:
        raise NotFound(f'Remote "{name}" not found', hint="`wherry store remote list` shows those there are")
    return found


def add_remote(
    repo: Repository, name: str, values: Mapping[str, str], *, if_not_exists: bool = False, force: bool = False
) -> bool:
    """Adds a remote to a repository's config, or to the system's folder, durably.

    Args:
        repo: the repository.
        name: of the remote.
        values: the keys of its section, in their order.
        if_not_exists: whether nothing happens when it is there.
        force: whether it is replaced when it is there.

    Returns:
        Whether it was written.

    Raises:
        Conflict: it is there already.
        InvalidInput: the name, a key or a value cannot be written.
    """
    section = section_name(name)
    there = list_remotes(repo).get(name)
    if there is not None:
        if if_not_exists:
            return False
        if not force:
            raise Conflict(
                f'Remote configuration for "{name}" already exists: {there.file or "(in config)"}',
                hint="--force replaces it",
            )
    for key, value in values.items():
        if "\n" in value or "\n" in key or "=" in key or not key:
            raise InvalidInput(f"not a key and value for a config: {key!r}", where=f"remote {name}")
    file = there.file if there is not None else _new_file(repo, name)
    config = repo.config if file is None else Config.load(file) if file.exists() else Config()
    config.remove_section(section)
    for key, value in values.items():
        config.set(section, key, value)
    if file is None:
        repo.save_config()
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        config.save(file)
    return True


def delete_remote(repo: Repository, name: str, *, if_exists: bool = False) -> bool:
    """Removes a remote and its cookies; its refs stay.

    Returns:
        Whether it was there.

    Raises:
        NotFound: it is not.
        Conflict: it is another repository's.
    """
    section = section_name(name)
    there = list_remotes(repo).get(name)
    if there is None:
        if if_exists:
            return False
        raise NotFound(f'Remote "{name}" not found', where=repo.path)
    if there.file is not None:
        config = Config.load(there.file)
        config.remove_section(section)
        if config.sections():
            config.save(there.file)
        else:
            remove_file(there.file)
    elif section in repo.config.sections():
        repo.config.remove_section(section)
        repo.save_config()
    else:
        raise Conflict(f'Remote "{name}" does not stand in this config', where=repo.path, hint="it is a parent's")
    cookie_path(repo, name).unlink(missing_ok=True)
    return True


def cookie_path(repo: Repository, name: str) -> Path:
    """Returns where the cookies of a remote are kept."""
    section_name(name)
    return repo.path / f"{name}.cookies.txt"


def _remotes_in(config: Config, file: Path | None = None) -> Iterator[tuple[str, Remote]]:
    for section in config.sections():
        if section.startswith('remote "') and section.endswith('"'):
            values = {key: config.get(section, key) for key in config.keys(section)}
            yield section[8:-1], Remote(name=section[8:-1], values=values, file=file)


def _parents(repo: Repository) -> Iterator[Config]:
    config, path = repo.config, repo.path
    for _ in range(MAX_PARENTS):
        parent = config.get("core", "parent")
        if not parent:
            return
        path = path / parent
        config = Config.load(path / "config")
        yield config


def _is_system(repo: Repository) -> bool:
    try:
        return os.path.samefile(repo.path, _SYSTEM_REPOSITORY)
    except OSError:
        return False


def _system_files(repo: Repository) -> list[Path]:
    if not _is_system(repo):
        return []
    return sorted(file for file in _SYSTEM_FOLDER.glob("*.conf") if file.is_file())


def _new_file(repo: Repository, name: str) -> Path | None:
    """Returns where a new remote goes; None for the repository's config."""
    if not _is_system(repo) or not repo.config.get_bool("core", "add-remotes-config-dir", True):
        return None
    return _SYSTEM_FOLDER / f"{name}.conf"
