"""Recording: from the folder into the index, and from the index into a signed revision.

Order of effects, each durable before the next: file objects; the index; the revision's tree, commit and signature;
the ref, by one rename. Killed anywhere, the project has its old revision or its new one, and at worst files are staged.

Determinism: the tree of a revision depends on the contents, names and executable bits of its files and on the
images' commits and digests, and on nothing else. Same tree, parent, message, time and project name: same checksum;
and with the same key the same signature.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.errors import InvalidInput, NotFound
from wherry.core.trace import reach
from wherry.revision import files, states
from wherry.revision.compare import changed_paths
from wherry.revision.files import Entry, Files
from wherry.revision.load import load_revision
from wherry.revision.project import Project
from wherry.revision.sign import sign_commit
from wherry.revision.workspace import files_of, revision_ref
from wherry.spec.revision import FILE_NAME as REVISION_FILE
from wherry.spec.revision import Revision, serialize_revision
from wherry.store.tree.commit import commit_tree
from wherry.store.tree.mutable import TreeBuilder
from wherry.trust.keys import PrivateKey, PublicKey

if TYPE_CHECKING:
    from wherry.store.disk.transaction import Transaction

MAX_MESSAGE_CHARS = 64 * 1024
FIRST_GOOD_TIME_S = 1_704_067_200
"""2024: a clock before this stands wrong."""

Changes = tuple[tuple[str, str], ...]
"""Path and kind of each file that changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What a commit was."""

    commit: Checksum
    parent: Checksum | None
    revision: Revision
    key: PublicKey
    time_s: int
    clock_is_wrong: bool
    """The clock stands before 2024, or before the newest revision, whose time was then taken instead."""


def add(project: Project, paths: Sequence[str]) -> Changes:
    """Stages files, folders and removals.

    Args:
        project: the project.
        paths: relative to the project's folder; "" is all of it.

    Returns:
        What changed in the index.

    Raises:
        NotFound: nothing is there, and nothing of that name was added before.
        InvalidInput: it can never be part of a revision.
    """
    with project.workspace.lock():
        old = project.workspace.index()
        chosen: dict[str, None] = {}
        for path in paths:
            found = list(_below(project, path, old))
            if not found and path:
                raise NotFound("no such file, and none of that name was added before", where=path)
            chosen.update(dict.fromkeys(found))
        with project.repo.transaction() as transaction:
            new = _updated(project, transaction, old, chosen)
        reach("revision.add.stored")
        changes = tuple(changed_paths(old, new))
        if changes:
            project.workspace.save_index(new)
        return changes


def _below(project: Project, path: str, index: Files) -> Iterable[str]:
    full = project.root / path
    if full.is_dir() and not full.is_symlink():
        yield from files.list_files(project.root, path)
    elif os.path.lexists(full):
        yield path
    for known in index:
        if not path or known == path or known.startswith(f"{path}/"):
            yield known


def _updated(project: Project, transaction: Transaction, old: Files, paths: Iterable[str]) -> dict[str, Entry]:
    """Writes files as objects; returns the index with them in it, and without those that are gone."""
    new = dict(old)
    for path in dict.fromkeys(paths):
        files.check_path(path)
        entry = states.store_file(transaction, project.root, path)
        if entry is None:
            new.pop(path, None)
        else:
            new[path] = entry
    if len(new) > files.MAX_FILES:
        raise InvalidInput(f"more than {files.MAX_FILES} files")
    return new


def commit(
    project: Project,
    message: str,
    *,
    take_all: bool = False,
    key: PrivateKey | None = None,
    timestamp_s: int | None = None,
) -> Committed | None:
    """Makes a signed revision; returns None when it would be the newest one again.

    Args:
        project: the project.
        message: a subject, and after it a body.
        take_all: take every change of what belongs to the project, even when something is staged.
        key: what to sign with; None takes the project's own.
        timestamp_s: its time; None takes the clock's.

    Raises:
        InvalidInput: a file is wrong; with its line.
        NotFound: an image or the key is not there.
        Locked: another command changes the project.
        NoSpace: the disk is full; the newest revision is what it was.
    """
    subject, body = _split_message(message)
    signer = key or project.workspace.key()
    workspace, repo = project.workspace, project.repo
    with workspace.lock():
        head = workspace.head()
        committed = {} if head is None else dict(files_of(repo, head))
        index = workspace.index()
        new = index
        if take_all or index == committed:
            with repo.transaction() as transaction:
                new = _updated(project, transaction, index, files.tracked_files(project.root, index))
        old = None if head is None else load_revision(repo, head)
        images = project.images(old)
        revision = states.build(states.of_index(repo, new, None), images.find)
        if old == revision and new == committed:
            return None
        images.fetch(Checksum(component) for component in revision.components())
        if new != index:
            workspace.save_index(new)
        reach("revision.commit.staged")
        time_s, wrong = _time(project, head) if timestamp_s is None else (timestamp_s, False)
        ref = revision_ref(revision.name)
        with repo.transaction() as transaction:
            tree, meta = _write_tree(project, new, revision)
            made = commit_tree(repo, tree, meta, timestamp_s=time_s, subject=subject, body=body, parent=head, ref=ref)
            sign_commit(repo, made, signer)
            load_revision(repo, made)  # whatever is written can be read
            reach("revision.commit.written")
        if workspace.head_ref() != ref:
            workspace.set_head_ref(ref)
        reach("revision.commit.done")
    return Committed(
        commit=made, parent=head, revision=revision, key=signer.public, time_s=time_s, clock_is_wrong=wrong
    )


def _write_tree(project: Project, entries: Files, revision: Revision) -> tuple[Checksum, Checksum]:
    tree = TreeBuilder(project.repo, files.DIR_META)
    for path, entry in entries.items():
        folder, slash, _ = path.rpartition("/")
        if slash:
            tree.mkdir(folder, files.DIR_META, parents=True)
        tree.add_existing(path, entry.checksum)
    tree.add_file(REVISION_FILE, files.header_of(files.Kind.FILE), serialize_revision(revision))
    return tree.write()


def _time(project: Project, head: Checksum | None) -> tuple[int, bool]:
    now = int(time.time())
    before = 0 if head is None else project.repo.load_commit(head).timestamp_s
    if now < before:
        return before, True
    return now, now < FIRST_GOOD_TIME_S


def _split_message(message: str) -> tuple[str, str]:
    if len(message) > MAX_MESSAGE_CHARS or "\0" in message:
        raise InvalidInput(f"a message has at most {MAX_MESSAGE_CHARS} characters and no zero byte")
    subject, _, body = message.strip().partition("\n")
    if not subject:
        raise InvalidInput("the message is empty", hint="say what the revision is: wherry commit -m MESSAGE")
    return subject.strip(), body.strip()
