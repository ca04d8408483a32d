"""Cloning: a project folder from a hub's revision.

The revisions come with their whole history; of the components, those of the newest revision. Every object is hashed as
it arrives. With a trusted key, nothing is written to the folder before the newest revision's signature has been
checked. What arrives is not trusted to have sane names: ``.wherry`` and ``.git`` in a revision are refused.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wherry.core.digest import Checksum, Ref
from wherry.core.durable import make_dirs, map_os_error
from wherry.core.errors import Conflict, InvalidInput, NotFound
from wherry.core.progress import QUIET, Progress
from wherry.revision.credentials import hub_key
from wherry.revision.files import Kind, check_path
from wherry.revision.hubclient import HubClient
from wherry.revision.load import component_commits, load_revision
from wherry.revision.sign import signers, verify_bytes, verify_commit
from wherry.revision.values import is_name
from wherry.revision.workspace import REF_PREFIX, Workspace, files_of, revision_ref
from wherry.store.repository import Repository
from wherry.trust.keys import PublicKey

REMOTE = "origin"
MAX_HISTORY = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloned:
    """What a clone made."""

    root: Path
    commit: Checksum
    bytes_received: int
    signed_by: tuple[PublicKey, ...]
    """Who signed; trusted only with `verified`."""
    verified: bool


def split_address(address: str) -> tuple[str, str]:
    """Returns the hub's address and the project's name of ``URL/NAME``.

    Raises:
        InvalidInput: it is not that.
    """
    url, _, name = address.rstrip("/").rpartition("/")
    if not urlsplit(url).hostname or not is_name(name):
        raise InvalidInput("not the address of a project", where=address, hint="write it as https://hub.example/NAME")
    return hub_key(url), name


def clone(
    client: HubClient,
    name: str,
    root: Path,
    *,
    trust: Sequence[PublicKey] = (),
    progress: Progress = QUIET,
) -> Cloned:
    """Makes a project folder from the newest revision of a project on a hub.

    Args:
        client: the hub, logged in.
        name: the project's name there.
        root: the folder; must not be there, or be empty.
        trust: keys, one of which must have signed; none: nothing is checked but integrity.
        progress: is told how far it is.

    Raises:
        NotFound: the hub has no such project.
        Conflict: the folder is in use.
        TrustError: none of `trust` signed the revision; the folder is as it was.
        NetworkError: the link broke; the folder is as it was.
    """
    ref = revision_ref(name)
    refs = client.refs()
    if ref not in refs:
        projects = sorted(found.removeprefix(REF_PREFIX) for found in refs if found.startswith(REF_PREFIX))
        raise NotFound(
            f"no project {name!r} on this hub", where=client.url, hint=f"it has: {', '.join(projects) or 'none'}"
        )
    commit = Checksum(refs[ref])
    with _new_folder(root):
        workspace = Workspace.make(root, name)
        received = _fetch(workspace.repo, client, commit, trust, progress)
        revision = load_revision(workspace.repo, commit)
        if revision.name != name:
            raise InvalidInput(f"the revision is of project {revision.name!r}", where=f"{client.url}: {ref}")
        _write_files(workspace.repo, commit, root)
        with workspace.lock():
            workspace.set_remote(REMOTE, client.url, new=True)
            workspace.repo.set_ref(Ref(f"{REMOTE}:{ref}"), commit)
            workspace.repo.set_ref(ref, commit)
        signed_by = (verify_commit(workspace.repo, commit, trust),) if trust else signers(workspace.repo, commit)
    return Cloned(root=root, commit=commit, bytes_received=received, signed_by=signed_by, verified=bool(trust))


def _fetch(
    repo: Repository, client: HubClient, commit: Checksum, trust: Sequence[PublicKey], progress: Progress
) -> int:
    from wherry.store.pull.pull import RemotePull

    def verify(checksum: Checksum, data: bytes, detached: Mapping[str, Any]) -> None:
        if trust:
            verify_bytes(checksum, data, detached, trust)

    before = client.http.bytes_received
    newest = RemotePull(repo, client.http, client.repo_path, verify=verify)
    newest.fetch(newest.plan([commit], progress=progress), progress=progress)
    rest = RemotePull(repo, client.http, client.repo_path)
    components = component_commits(load_revision(repo, commit))
    for wanted, depth in ((components, 0), ([commit], MAX_HISTORY)):
        rest.fetch(rest.plan(wanted, depth=depth, progress=progress), progress=progress)
    return client.http.bytes_received - before


def _write_files(repo: Repository, commit: Checksum, root: Path) -> None:
    for path, entry in files_of(repo, commit):
        target = root / check_path(path)
        make_dirs(target.parent)
        header, content = repo.load_file(entry.checksum)
        try:
            if content is None:
                os.symlink(header.symlink_target, target)
                continue
            mode = 0o777 if entry.kind is Kind.EXECUTABLE else 0o666
            fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
            with content, os.fdopen(fd, "wb") as file:
                shutil.copyfileobj(content, file)
        except OSError as error:
            raise map_os_error(error, "cannot write", where=target) from error


@contextmanager
def _new_folder(root: Path) -> Iterator[None]:
    """Gives an empty folder; when the block fails, what it made in there is removed again."""
    was_there = root.is_dir()
    if os.path.lexists(root) and (not was_there or any(root.iterdir())):
        raise Conflict("the folder is there and not empty", where=root, hint="name another one")
    make_dirs(root)
    try:
        yield
    except BaseException:
        for entry in root.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        if not was_there:
            root.rmdir()
        raise
