"""A revision as it lies in a repository: its ``revision.json``, and the folders that its apps' configuration is.

Whoever loads a revision has checked its signature first (``revision/sign.py``) or does not run it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.core.digest import Checksum, parse_checksum, short
from wherry.core.errors import InvalidInput, NotFound
from wherry.spec.revision import FILE_NAME, MAX_REVISION_BYTES, Revision, parse_revision
from wherry.store.tree.walk import read_path

if TYPE_CHECKING:
    from wherry.store.repository import Repository

CONFIG_FOLDER = "config"


def load_revision(repo: Repository, commit: Checksum) -> Revision:
    """Returns the revision that a commit holds, its configuration checked against its tree.

    Raises:
        NotFound: no such commit, or it is not a revision.
        InvalidInput: ``revision.json`` is malformed, or names another ``config/<app>`` than the commit holds.
        Unsupported: it is of a newer format.
    """
    where = f"revision {short(commit)}"
    try:
        data = read_path(repo, commit, FILE_NAME, max_bytes=MAX_REVISION_BYTES)
    except NotFound as error:
        raise NotFound(
            f"no {FILE_NAME} in this commit", where=where, hint="is it a revision, and is it here?"
        ) from error
    revision = parse_revision(data, where=f"{where}: {FILE_NAME}")
    found = config_trees(repo, commit)
    for name, app in revision.apps.items():
        if app.config != found.get(name):
            raise InvalidInput(f"apps.{name}.config is not what config/{name} is", where=f"{where}: {FILE_NAME}")
    return revision


def component_commits(revision: Revision) -> tuple[Checksum, ...]:
    """Returns the commits that must be there for a revision to run, sorted, each once."""
    return tuple(parse_checksum(commit, where=FILE_NAME) for commit in revision.components())


def config_trees(repo: Repository, commit: Checksum) -> dict[str, Checksum]:
    """Returns the dirtree checksum of each folder in ``config/`` of a commit, by name; empty when there is none."""
    root = repo.load_dirtree(repo.load_commit(commit).tree)
    for name, tree, _ in root.dirs:
        if name == CONFIG_FOLDER:
            return {app: app_tree for app, app_tree, _ in repo.load_dirtree(tree).dirs}
    return {}
