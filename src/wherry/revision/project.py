"""A project of a device: its folder, and what has changed in it.

What belongs to a revision: ``wherry.yaml``, ``compose.yaml``, all of ``config/`` and ``layers/``, and whatever else was
added. Git's words mean what they mean in git, with one difference: a commit with nothing staged takes every change
of what belongs to the project, where git would refuse. Once something is staged, only that is committed, unless
all is asked for. Looking is here; changing is ``revision/record.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wherry.core.digest import Checksum, Ref
from wherry.core.durable import make_dirs, write_file
from wherry.core.errors import InvalidInput, NotFound
from wherry.revision import files, states
from wherry.revision.compare import State, changed_paths
from wherry.revision.files import Entry, Files
from wherry.revision.images import ImageSource
from wherry.revision.load import load_revision
from wherry.revision.manifest import parse_manifest
from wherry.revision.resolve import FindImage
from wherry.revision.template import COMPOSE_TEXT, manifest_text
from wherry.revision.values import is_name
from wherry.revision.workspace import Workspace, files_of
from wherry.spec.container import AppImage
from wherry.spec.revision import Revision
from wherry.store.format.objects import Commit, ObjectType
from wherry.trust.keys import PrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """An app whose image's name means another image than in the newest revision."""

    app: str
    old: AppImage
    new: AppImage


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What ``wherry status`` shows. Each change is (path, kind), kind as in ``compare.FileChange``."""

    name: str
    head: str | None
    staged: tuple[tuple[str, str], ...]
    modified: tuple[tuple[str, str], ...]
    moved_images: tuple[Moved, ...]
    untracked: tuple[str, ...]
    """Files, and folders of which nothing belongs to the project, with a slash at the end."""
    problem: str | None
    """Why the next commit would fail; None when nothing is known against it."""

    @property
    def clean(self) -> bool:
        """Whether a commit would change nothing."""
        return not (self.staged or self.modified or self.moved_images)


class Project:
    """One project folder.

    Args:
        workspace: its ``.wherry``.
        machine_store: this machine's store, where images are looked up.
    """

    def __init__(self, workspace: Workspace, machine_store: Path) -> None:
        self.workspace = workspace
        self.root = workspace.root
        self.repo = workspace.repo
        self._machine_store = machine_store

    @classmethod
    def find(cls, start: Path, machine_store: Path) -> Project:
        """Returns the project that `start` lies in.

        Raises:
            NotFound: there is none here or above.
        """
        return cls(Workspace.find(start), machine_store)

    @classmethod
    def init(cls, root: Path, name: str, machine_store: Path) -> Project:
        """Makes a project with an example of each file, and an owner's key; files that are there stay.

        Raises:
            Conflict: there is a project already.
            InvalidInput: `name` cannot be one.
        """
        if not is_name(name):
            raise InvalidInput(
                f"not a name for a project: {name[:80]!r}", hint="give one of letters, digits, - _ and . with --name"
            )
        make_dirs(root)
        existing = files.examine(root, files.MANIFEST_FILE)
        if existing is not None:
            state = states.of_folder(root, {files.MANIFEST_FILE: existing}, None)
            name = parse_manifest(state.read(files.MANIFEST_FILE) or b"").name
        workspace = Workspace.make(root, name)
        if not os.path.lexists(workspace.key_path):
            key = PrivateKey.generate()
            key.save(workspace.key_path)
            key.public.save(workspace.key_path.with_name("key.pub"))
        for path, text in ((files.MANIFEST_FILE, manifest_text(name)), (files.COMPOSE_FILE, COMPOSE_TEXT)):
            if not os.path.lexists(root / path):
                write_file(root / path, text.encode())
        make_dirs(root / files.CONFIG_FOLDER)
        return cls(workspace, machine_store)

    # --- looking

    def head_revision(self) -> Revision | None:
        """Returns the newest revision; None before the first commit."""
        head = self.workspace.head()
        return None if head is None else load_revision(self.repo, head)

    def resolve(self, rev: str) -> Checksum:
        """Returns the commit that `rev` names: ``HEAD``, ``HEAD~2``, ``HEAD^``, a checksum's beginning, ``origin``.

        Raises:
            NotFound: there is none.
        """
        name, tilde, count = rev.partition("~")
        steps = 0
        if tilde:
            if not count.isdigit() and count:
                raise NotFound(f"no such revision: {rev}", hint="write it as HEAD~2")
            steps = int(count[:6] or "1")
        base = name.rstrip("^")
        steps += len(name) - len(base)
        if base in ("HEAD", "@", ""):
            head = self.workspace.head()
            if head is None:
                raise NotFound("there is no revision yet", hint="make one: wherry commit -m MESSAGE")
            commit = head
        elif base in self.workspace.remotes():
            commit = self.repo.resolve(f"{base}:{self.workspace.head_ref()}")
        else:
            try:
                commit = self.repo.resolve(base)
            except NotFound as error:
                raise NotFound(f"no such revision: {base}", hint="`wherry log` lists them") from error
        for _ in range(steps):
            parent = self.repo.load_commit(commit).parent
            if parent is None:
                raise NotFound(f"no such revision: {rev}", hint="it has fewer parents than that")
            commit = parent
        return commit

    def commit_state(self, commit: Checksum | None) -> State:
        """Returns the state that a revision is; an empty one for None."""
        return states.of_commit(self.repo, commit)

    def index_state(self) -> State:
        """Returns the state that the next commit would be, if it took what is staged."""
        index = self.workspace.index()
        return states.of_index(self.repo, index, self._find_or_unknown())

    def folder_state(self) -> State:
        """Returns the state of the files as they lie in the folder: all that belong to the project.

        Raises:
            InvalidInput: one of them cannot be part of a revision.
        """
        found = self._folder_files(self.workspace.index())
        return states.of_folder(self.root, found, self._find_or_unknown())

    def status(self) -> Status:
        """Returns what has changed.

        Raises:
            InvalidInput: the workspace is damaged.
        """
        head = self.workspace.head()
        committed = {} if head is None else dict(files_of(self.repo, head))
        index = self.workspace.index()
        now = self._folder_files(index)
        moved, problem = self._moved_images(index, now)
        return Status(
            name=self.workspace.head_ref().partition("/")[2],
            head=head,
            staged=tuple(changed_paths(committed, index)),
            modified=tuple(changed_paths(index, now)),
            moved_images=moved,
            untracked=tuple(states.untracked(self.root, {*index, *now})),
            problem=problem,
        )

    def _moved_images(self, index: Files, now: Files) -> tuple[tuple[Moved, ...], str | None]:
        """Returns the images that moved under an unchanged name, and what speaks against a commit of all."""
        old = self.head_revision()
        state = states.of_folder(self.root, now, None)
        try:
            new = states.build(state, self.images(old).find)
        except (InvalidInput, NotFound) as error:
            return (), str(error)
        moved = [
            Moved(app=name, old=old.apps[name].image, new=app.image)
            for name, app in new.apps.items()
            if old is not None
            and name in old.apps
            and old.apps[name].image.reference == app.image.reference
            and old.apps[name].image.commit != app.image.commit
        ]
        return tuple(moved), None

    def has(self, commit: Checksum) -> bool:
        """Tells whether a revision is here with all its files."""
        return self.repo.has(ObjectType.COMMIT, commit) and not self.repo.is_partial(commit)

    def history(self, commit: Checksum) -> Iterator[tuple[Checksum, Commit]]:
        """Gives a revision and those before it, as far as they are here."""
        current: Checksum | None = commit
        while current is not None and self.repo.has(ObjectType.COMMIT, current):
            found = self.repo.load_commit(current)
            yield current, found
            current = found.parent

    def names(self, commit: str) -> list[str]:
        """Returns what a revision is called: ``HEAD``, and the remotes that stand at it."""
        ref = self.workspace.head_ref()
        refs = self.repo.refs()
        found = ["HEAD"] if refs.get(ref) == commit else []
        return found + [name for name in sorted(self.workspace.remotes()) if refs.get(Ref(f"{name}:{ref}")) == commit]

    # --- help

    def _folder_files(self, index: Files) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for path in files.tracked_files(self.root, index):
            entry = files.examine(self.root, path)
            if entry is not None:
                found[path] = entry
        return found

    def _find_or_unknown(self) -> FindImage:
        return self.images(self.head_revision()).find_or_unknown

    def images(self, pinned: Revision | None) -> ImageSource:
        """Returns where images are looked up, given the newest revision."""
        return ImageSource(self.repo, self._machine_store, pinned)
