r"""``.wherry/``: what a project keeps beside its files, as ``.git`` does.

::

    .wherry/
      format        "1\n"
      HEAD          "ref: revision/<name>\n": the ref of the store that commits go to
      index         JSON: what the next commit will hold; replaced durably, under the lock
      remotes       JSON: name -> address of a hub
      key           the owner's private key (PEM, 0600); made by init, not by clone
      key.pub       its public half, for devices
      store/        the repository (bare-user): revisions, and the components that they pin
      .gitignore    "*\n": nothing of this, least of all the key, belongs into git
      lock          flock(2), held by every command that changes something here

A ref moves last, and by one rename: whoever is killed before has at most files staged and objects that nothing names.
Nothing of this folder ever goes into a commit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from wherry.core import jsonio
from wherry.core.digest import Checksum, Ref, parse_checksum
from wherry.core.durable import make_dirs, map_os_error, write_file
from wherry.core.errors import Conflict, InvalidInput, NotFound, Unsupported
from wherry.core.lock import file_lock
from wherry.revision.credentials import hub_key
from wherry.revision.files import Entry, Files, check_path, kind_of
from wherry.spec.codec import decode, encode
from wherry.spec.revision import FILE_NAME as REVISION_FILE
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository
from wherry.store.tree.walk import walk
from wherry.trust.keys import PrivateKey

FOLDER = ".wherry"
FORMAT = "1"
REF_PREFIX = "revision/"
LOCK_TIMEOUT_S = 10.0
MAX_INDEX_BYTES = 64 * 1024 * 1024
MAX_REMOTES = 64
_REMOTE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
_REF_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_HEAD = re.compile(r"ref: (\S{1,200})\n?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    files: Mapping[str, Entry] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remotes:
    remotes: Mapping[str, str] = field(default_factory=dict)


def revision_ref(name: str) -> Ref:
    """Returns the ref that the revisions of a project go to, here and on a hub."""
    return Ref(REF_PREFIX + name)


class Workspace:
    """The ``.wherry`` of one project.

    Args:
        root: the project's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / FOLDER
        self.key_path = self.path / "key"
        self._repo: Repository | None = None

    # --- making and finding

    @classmethod
    def find(cls, start: Path) -> Workspace:
        """Returns the workspace of the project that `start` lies in.

        Raises:
            NotFound: there is none here or above.
            Unsupported: it was made by a newer Wherry.
        """
        for folder in (start.absolute(), *start.absolute().parents):
            if (folder / FOLDER / "format").is_file():
                found = cls(folder)
                found._check_format()
                return found
        raise NotFound("not in a project folder", where=start, hint="make one with `wherry init`")

    @classmethod
    def make(cls, root: Path, name: str) -> Workspace:
        """Makes an empty workspace, without a key.

        Raises:
            Conflict: there is one already.
        """
        made = cls(root)
        make_dirs(made.path, mode=0o700)
        with made.lock():
            if (made.path / "format").exists():
                raise Conflict("this is a project already", where=root)
            write_file(made.path / ".gitignore", b"*\n")  # the key must not slip into somebody's git
            made._repo = Repository.init(made.path / "store", Mode.BARE_USER)
            made.set_head_ref(revision_ref(name))
            write_file(made.path / "format", f"{FORMAT}\n".encode())
        return made

    def _check_format(self) -> None:
        text = _read(self.path / "format", 100).decode(errors="replace").strip()
        if text != FORMAT:
            raise Unsupported(
                f"a workspace of format {text[:20]!r}", where=self.path, hint="update Wherry, or clone the project anew"
            )

    def lock(self) -> AbstractContextManager[None]:
        """Returns the lock that whoever changes the workspace holds.

        Raises (on entry):
            Locked: another command has it, and did not end in time.
        """
        return file_lock(self.path / "lock", timeout_s=LOCK_TIMEOUT_S, what="the project")

    # --- the store

    @property
    def repo(self) -> Repository:
        """The project's own store.

        Raises:
            NotFound: it is gone.
        """
        if self._repo is None:
            try:
                self._repo = Repository.open(self.path / "store")
            except NotFound as error:
                raise NotFound(
                    "the project's store is gone", where=self.path / "store", hint="clone the project anew"
                ) from error
        return self._repo

    def head_ref(self) -> Ref:
        """Returns the ref that commits go to.

        Raises:
            InvalidInput: ``HEAD`` is damaged.
        """
        path = self.path / "HEAD"
        match = _HEAD.match(_read(path, 1000).decode(errors="replace"))
        if match is None or not match[1].startswith(REF_PREFIX) or not _REF_PART.match(match[1][len(REF_PREFIX) :]):
            raise InvalidInput(
                "damaged", where=path, hint="write `ref: revision/NAME` into it, with the project's name"
            )
        return Ref(match[1])

    def set_head_ref(self, ref: Ref) -> None:
        """Has commits go to another ref."""
        write_file(self.path / "HEAD", f"ref: {ref}\n".encode())

    def head(self) -> Checksum | None:
        """Returns the newest revision; None before the first commit."""
        return self.repo.refs().get(self.head_ref())

    def key(self) -> PrivateKey:
        """Returns the owner's key.

        Raises:
            NotFound: there is none; says how to get one.
        """
        try:
            return PrivateKey.load(self.key_path)
        except NotFound as error:
            raise NotFound(
                "no key to sign with",
                where=self.key_path,
                hint=f"name yours with --key FILE, or make one: wherry key generate {self.key_path}",
            ) from error

    # --- the index

    def index(self) -> dict[str, Entry]:
        """Returns what the next commit will hold: the index, or without one the files of the newest revision.

        Raises:
            InvalidInput: it is damaged.
        """
        path = self.path / "index"
        try:
            data = _read(path, MAX_INDEX_BYTES)
        except NotFound:
            head = self.head()
            return {} if head is None else dict(files_of(self.repo, head))
        try:
            index = decode(_Index, jsonio.loads(data, where=path, max_bytes=MAX_INDEX_BYTES), where=path)
            for name, entry in index.files.items():
                check_path(name)
                parse_checksum(entry.checksum, where=path)
        except InvalidInput as error:
            raise InvalidInput(
                f"damaged: {error.what}", where=path, hint="remove it; what was added must then be added again"
            ) from error
        return dict(index.files)

    def save_index(self, files: Files) -> None:
        """Replaces the index durably."""
        write_file(self.path / "index", jsonio.canonical(encode(_Index(files=files))))

    # --- remotes

    def remotes(self) -> dict[str, str]:
        """Returns name -> address of each hub.

        Raises:
            InvalidInput: the file is damaged.
        """
        path = self.path / "remotes"
        try:
            data = _read(path, 1024 * 1024)
        except NotFound:
            return {}
        try:
            return dict(decode(_Remotes, jsonio.loads(data, where=path), where=path).remotes)
        except InvalidInput as error:
            raise InvalidInput(f"damaged: {error.what}", where=path, hint="remove it, then add them again") from error

    def remote(self, name: str | None) -> tuple[str, str]:
        """Returns name and address of a remote: the one named, else ``origin``, else the only one.

        Raises:
            NotFound: there is none, or none of that name.
        """
        remotes = self.remotes()
        if name is None:
            if "origin" in remotes or len(remotes) != 1:
                name = "origin"
            else:
                (name,) = remotes
        if name not in remotes:
            raise NotFound(f"no remote {name!r}", hint=f"add the hub: wherry remote add {name} https://hub.example")
        return name, remotes[name]

    def set_remote(self, name: str, url: str | None, *, new: bool = False) -> None:
        """Adds a remote, changes its address, or with None removes it; the caller holds the lock.

        Raises:
            InvalidInput: the name or the address cannot be one.
            Conflict: it is there already, and `new` is set.
            NotFound: it is not there, and `new` is not set.
        """
        if _REMOTE.match(name) is None:
            raise InvalidInput(f"not the name of a remote: {name[:80]!r}", hint="letters, digits, - _ and . only")
        remotes = self.remotes()
        if new and name in remotes:
            raise Conflict(f"remote {name!r} is there already", where=remotes[name], hint="see `wherry remote set-url`")
        if not new and name not in remotes:
            raise NotFound(f"no remote {name!r}", hint=f"there are: {', '.join(remotes) or 'none'}")
        if url is None:
            del remotes[name]
        else:
            remotes[name] = hub_key(url)
        if len(remotes) > MAX_REMOTES:
            raise InvalidInput(f"more than {MAX_REMOTES} remotes")
        write_file(self.path / "remotes", jsonio.canonical(encode(_Remotes(remotes=remotes))))


def files_of(repo: Repository, commit: Checksum) -> Iterator[tuple[str, Entry]]:
    """Gives the user's own files of a revision: all but ``revision.json``."""
    for path, entry in walk(repo, commit):
        if isinstance(entry, tuple):
            name = path.strip("/")
            if name != REVISION_FILE:
                yield name, Entry(checksum=entry[0], kind=kind_of(entry[1]))


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise NotFound("no such file", where=path) from error
    except OSError as error:
        raise map_os_error(error, "cannot read", where=path) from error
    if len(data) > max_bytes:
        raise InvalidInput(f"longer than {max_bytes} bytes", where=path)
    return data
