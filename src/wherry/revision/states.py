"""The states that a project can be looked at in: a revision, what is staged, and the folder as it lies there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from wherry.core.digest import Checksum
from wherry.core.errors import InvalidInput, NotFound
from wherry.revision import files
from wherry.revision.compare import MAX_TEXT_BYTES, ReadText, State
from wherry.revision.compose import parse_compose_file
from wherry.revision.files import Entry, Files
from wherry.revision.load import load_revision
from wherry.revision.manifest import parse_manifest
from wherry.revision.resolve import FindImage, build_revision
from wherry.revision.workspace import files_of
from wherry.spec.revision import Revision
from wherry.store.disk.transaction import Transaction
from wherry.store.repository import Repository


def of_commit(repo: Repository, commit: Checksum | None) -> State:
    """Returns the state that a revision is; an empty one for None."""
    if commit is None:
        return State(files={}, read=lambda path: None, revision=None)
    entries = dict(files_of(repo, commit))
    return State(files=entries, read=_stored(repo, entries), revision=load_revision(repo, commit))


def of_index(repo: Repository, entries: Files, find_image: FindImage | None) -> State:
    """Returns the state of staged files; without `find_image` its revision is not worked out."""
    state = State(files=entries, read=_stored(repo, entries), revision=None)
    return state if find_image is None else _with_revision(state, find_image)


def of_folder(root: Path, entries: Files, find_image: FindImage | None) -> State:
    """Returns the state of files of the folder; without `find_image` its revision is not worked out."""

    def read(path: str) -> bytes | None:
        try:
            found = files.open_file(root, path)
        except FileNotFoundError:
            return None
        if found.content is None:
            return found.target.encode()
        with found.content:
            return found.content.read(MAX_TEXT_BYTES + 1)

    state = State(files=entries, read=read, revision=None)
    return state if find_image is None else _with_revision(state, find_image)


def store_file(transaction: Transaction, root: Path, path: str) -> Entry | None:
    """Writes one file of the folder as an object; None when it is not there.

    Raises:
        InvalidInput: it is neither a file nor a link.
        NoSpace: the disk is full.
    """
    if os.path.isdir(root / path) and not os.path.islink(root / path):
        return None
    try:
        found = files.open_file(root, path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    header = files.header_of(found.kind, found.target)
    if found.content is None:
        return Entry(checksum=transaction.write_file(header, None), kind=found.kind)
    with found.content:
        return Entry(checksum=transaction.write_file(header, found.content), kind=found.kind)


def untracked(root: Path, known: set[str]) -> Iterator[str]:
    """Gives the files that do not belong to the project; a folder with none that do is given as one, with a slash."""
    with_known = {path[: index + 1] for path in known for index, char in enumerate(path) if char == "/"}
    folded = ""
    for path in files.list_files(root):
        if path in known or (folded and path.startswith(folded)):
            continue
        folded = ""
        for index, char in enumerate(path):
            if char == "/" and path[: index + 1] not in with_known:
                folded = path[: index + 1]
                break
        yield folded or path


def _stored(repo: Repository, entries: Files) -> ReadText:
    def read(path: str) -> bytes | None:
        entry = entries.get(path)
        if entry is None:
            return None
        try:
            header, content = repo.load_file(entry.checksum)
        except NotFound:
            return None
        if content is None:
            return header.symlink_target.encode()
        with content:
            data = b""
            while len(data) <= MAX_TEXT_BYTES and (more := content.read(MAX_TEXT_BYTES + 1 - len(data))):
                data += more
            return data

    return read


def _with_revision(state: State, find_image: FindImage) -> State:
    try:
        return replace(state, revision=build(state, find_image))
    except (InvalidInput, NotFound) as error:
        return replace(state, problem=str(error))


def build(state: State, find_image: FindImage) -> Revision:
    """Works out the revision that a state's files are.

    Raises:
        NotFound: ``wherry.yaml`` or ``compose.yaml`` is not there, or `find_image` does not find.
        InvalidInput: one of them is wrong; with its line.
    """
    for path in files.TRACKED_FILES:
        if path not in state.files:
            raise NotFound("the project lacks a file", where=path, hint=f"write it, then: wherry add {path}")
    manifest = parse_manifest(state.read(files.MANIFEST_FILE) or b"")
    compose = parse_compose_file(state.read(files.COMPOSE_FILE) or b"")
    return build_revision(manifest, compose, state.files, find_image)
