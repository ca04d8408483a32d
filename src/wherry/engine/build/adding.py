"""ADD of what is not in the context as it is: archives that are unpacked, downloads, commits of Git repositories.

Source: Dockerfile reference, "ADD".
"""

from __future__ import annotations

import hashlib
import re
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import urlsplit

from wherry.core.digest import Checksum, Digest
from wherry.core.errors import IntegrityError, InvalidInput, NotFound, ToolError
from wherry.core.proc import run
from wherry.engine.build.copying import Ownership
from wherry.engine.build.stagetree import StageTree
from wherry.image.layers import Flattener
from wherry.store.format.objects import DirMeta, FileHeader
from wherry.store.tree.commit import write_directory
from wherry.store.tree.compression import MAGIC_BYTES, compression_of, decompressed
from wherry.store.tree.modifier import Modifier
from wherry.store.tree.mutable import TreeBuilder
from wherry.store.tree.tar import DEFAULT_LIMITS, TarReader

if TYPE_CHECKING:
    from wherry.image.dockerfile.sources import GitSource, UrlSource
    from wherry.store.repository import Repository

MAX_DOWNLOAD_BYTES = 64 * 1024**3
_MAX_REDIRECTS = 8
_TAR_MAGIC_AT = 257
TAR_HEAD_BYTES = _TAR_MAGIC_AT + 5
"""How much of a file tells whether it is a tar archive."""
_HEX = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_GIT_TIMEOUT_S = 1800.0


def is_tar_head(head: bytes) -> bool:
    """Tells whether a file that begins so is a tar archive."""
    return head[_TAR_MAGIC_AT:TAR_HEAD_BYTES] == b"ustar"


def is_archive(repo: Repository, checksum: Checksum) -> bool:
    """Tells whether a file is a tar archive, compressed or not: what ADD unpacks."""
    _, content = repo.load_file(checksum)
    if content is None:
        return False
    with content:
        head = content.read(TAR_HEAD_BYTES)
        if compression_of(head[:MAGIC_BYTES]):
            content.close()
            _, again = repo.load_file(checksum)
            if again is None:
                return False
            with again:
                try:
                    head = decompressed(again, where="ADD").read(TAR_HEAD_BYTES)
                except (IntegrityError, InvalidInput):
                    return False
        return is_tar_head(head)


def content_of(repo: Repository, checksum: Checksum, *, where: str) -> BinaryIO:
    """Opens a file object.

    Raises:
        InvalidInput: it is a symbolic link.
    """
    _, content = repo.load_file(checksum)
    if content is None:
        raise InvalidInput("not a file", where=where)
    return content


def unpack(target: StageTree, checksum: Checksum, path: str, owner: Ownership, *, where: str) -> None:
    """Unpacks an archive, a file object, into a directory, which is made when it is missing.

    Raises:
        InvalidInput: a name in it leads out of it.
        IntegrityError: it is damaged.
    """
    builder = TreeBuilder(target.repo)
    with content_of(target.repo, checksum, where=where) as content:
        reader = TarReader(decompressed(content, where=where), where=where, limits=DEFAULT_LIMITS)
        Flattener(repo=target.repo, tree=builder, note=lambda text: None).apply(reader, where=where)
    lay_over(target, StageTree(target.repo, *builder.write()), path, owner)


def lay_over(target: StageTree, source: StageTree, path: str, owner: Ownership) -> None:
    """Puts all that is in a tree into a directory of another."""
    place = target.make_directories(path)
    for relative, entry in source.walk(""):
        below = target.follow_parent(f"{place}/{relative}")
        if isinstance(entry, DirMeta):
            if isinstance(target.lookup(below), str):
                target.remove(below)
            target.set_directory(below, owner.directory(entry))
        else:
            if target.is_directory(below):
                target.remove(below)
            target.put(below, owner.file(target, entry))


def download(repo: Repository, source: UrlSource, checksum: str, *, where: str) -> Checksum:
    """Fetches a file; returns it as a file object, mode 0600 as docker's.

    Raises:
        IntegrityError: it has not the checksum that was asked for.
        NetworkError: it cannot be fetched.
    """
    from wherry.core.http import HttpClient

    url = source.url
    with tempfile.TemporaryFile(dir=repo.path / "tmp") as spool:
        found = hashlib.sha256()
        for _ in range(_MAX_REDIRECTS):
            parts = urlsplit(url)
            client = HttpClient(f"{parts.scheme}://{parts.netloc}")
            rest = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            try:
                with client.open("GET", rest) as response:
                    if response.status in (301, 302, 303, 307, 308):
                        from urllib.parse import urljoin

                        url = urljoin(url, response.headers.get("Location", ""))
                        continue
                    if response.status != 200:
                        raise NotFound(f"the server answered {response.status}", where=f"{where}: {source.url}")
                    size = 0
                    for chunk in response.chunks():
                        size += len(chunk)
                        if size > MAX_DOWNLOAD_BYTES:
                            raise InvalidInput(f"a download of more than {MAX_DOWNLOAD_BYTES} bytes", where=where)
                        found.update(chunk)
                        spool.write(chunk)
                    break
            finally:
                client.close()
        else:
            raise InvalidInput(f"more than {_MAX_REDIRECTS} redirects", where=f"{where}: {source.url}")
        got = Digest(f"sha256:{found.hexdigest()}")
        if checksum and got != checksum:
            raise IntegrityError(f"it has the checksum {got} instead of {checksum}", where=f"{where}: {source.url}")
        spool.seek(0)
        header = FileHeader(uid=0, gid=0, mode=stat.S_IFREG | 0o600)
        with repo.transaction() as transaction:
            return transaction.write_file(header, cast("BinaryIO", spool))


def fetch_git(
    repo: Repository,
    source: GitSource,
    *,
    keep_git_dir: bool,
    checksum: str,
    environment: Mapping[str, str],
    where: str,
) -> StageTree:
    """Fetches one commit of a Git repository with the system's ``git``; returns its files, root's.

    Args:
        repo: where they go.
        source: the commit.
        keep_git_dir: whether ``.git`` is among them.
        checksum: what the commit's id must begin with; "" for any.
        environment: of git: where its program, its user's settings and SSH keys are.
        where: file and line, for errors.

    Raises:
        NotFound: there is no such commit, or no such directory in it.
        IntegrityError: it is not the commit that was asked for.
        ToolError: git failed.
    """
    with tempfile.TemporaryDirectory(prefix="wherry-git-") as folder:
        top = Path(folder)
        settings = {
            **environment,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_ALLOW_PROTOCOL": "http:https:ssh:git",
            "GIT_LFS_SKIP_SMUDGE": "1",
        }

        def git(*args: str) -> str:
            done = run(["git", "-C", folder, *args], env=settings, timeout_s=_GIT_TIMEOUT_S)
            return done.stdout.decode(errors="replace").strip()

        git("init", "-q")
        git("remote", "add", "origin", "--", source.remote)
        ref = source.ref or "HEAD"
        try:
            git("fetch", "-q", "--depth=1", "--no-tags", "origin", "--", ref)
        except ToolError:
            # a server that gives no single commits, or files without a program
            git("fetch", "-q", "--no-tags", "origin", *([] if _HEX.match(ref) else ["--", ref]))
        git("-c", "advice.detachedHead=false", "checkout", "-q", "FETCH_HEAD" if _HEX.match(ref) is None else ref, "--")
        got = git("rev-parse", "HEAD")
        if checksum and not got.startswith(checksum):
            raise IntegrityError(f"it is the commit {got} instead of {checksum}", where=f"{where}: {source.remote}")
        path = top / source.subdirectory if source.subdirectory else top
        if not path.resolve().is_relative_to(top.resolve()) or not path.is_dir():
            raise NotFound(f"no such directory in the repository: {source.subdirectory}", where=where)
        skip = None if keep_git_dir else (lambda name: name.strip("/") == ".git")
        modifier = Modifier(owner_uid=0, owner_gid=0, no_xattrs=True, skip_special=True, skip=skip)
        return StageTree(repo, *write_directory(repo, path, modifier))
