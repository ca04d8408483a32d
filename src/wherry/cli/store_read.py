"""``wherry store ls``, ``cat``, ``log``, ``show`` and ``diff``, in ``ostree``'s own formats."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.output import print_json
from wherry.cli.store import open_repo, repo_option
from wherry.core.errors import InvalidInput, NotFound, UsageError

if TYPE_CHECKING:
    from wherry.core.digest import Checksum
    from wherry.store.commit import Modifier
    from wherry.store.diff import Tree
    from wherry.store.objects import Commit
    from wherry.store.repository import Repository

_CHUNK_BYTES = 1024 * 1024


@click.command(
    epilog="\b\nExamples:\n  wherry store ls --repo=repo os/main /etc\n  wherry store ls -RC --repo=repo os/main"
)
@repo_option
@click.argument("rev", metavar="COMMIT")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("-d", "--dironly", is_flag=True, help="Show directories themselves, not what is in them.")
@click.option("-R", "--recursive", is_flag=True, help="Show all below.")
@click.option("-C", "--checksum", is_flag=True, help="Show checksums.")
@click.option("-X", "--xattrs", is_flag=True, help="Show extended attributes.")
@click.option("--nul-filenames-only", is_flag=True, help="Only names, each ending in NUL.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(repo_path: str | None, rev: str, paths: tuple[str, ...], as_json: bool, **options: bool) -> None:
    """List the files of a commit: mode, owner, group, size, path."""
    from wherry.store.walk import split_path

    repo = open_repo(repo_path)
    listing = _Listing(repo, repo.resolve(rev), options, as_json=as_json)
    for path in paths or ("/",):
        listing.show("/".join(split_path(path)))
    listing.finish()


class _Listing:
    def __init__(self, repo: Repository, commit: Checksum, options: dict[str, bool], *, as_json: bool) -> None:
        self._repo = repo
        self._commit = commit
        self._options = options
        self._json: list[dict[str, Any]] | None = [] if as_json else None

    def show(self, path: str) -> None:
        from wherry.store.walk import lookup

        found = lookup(self._repo, self._commit, path)
        if not isinstance(found, tuple):
            self._file(found, path)
            return
        self._dir(*found, path)
        if not self._options["dironly"]:
            self._below(found[0], path + "/" if path else "")

    def finish(self) -> None:
        if self._json is not None:
            print_json(self._json)

    def _below(self, tree: Checksum, prefix: str) -> None:
        entries = self._repo.load_dirtree(tree)
        for name, checksum in entries.files:
            self._file(checksum, prefix + name)
        for name, subtree, meta in entries.dirs:
            self._dir(subtree, meta, prefix + name)
            if self._options["recursive"]:
                self._below(subtree, f"{prefix}{name}/")

    def _dir(self, tree: Checksum, meta: Checksum, path: str) -> None:
        found = self._repo.load_dirmeta(meta)
        self._line("d", found, 0, f"{tree} {meta}", path, "", {"tree": tree, "meta": meta})

    def _file(self, checksum: Checksum, path: str) -> None:
        header, content = self._repo.load_file(checksum)
        size = 0
        if content is not None:
            with content:
                size = self._size(checksum, content)
        kind = "l" if header.is_symlink else "-"
        self._line(kind, header, size, checksum, path, header.symlink_target, {"checksum": checksum})

    def _size(self, checksum: Checksum, content: Any) -> int:
        from wherry.store.content import read_archive_head
        from wherry.store.objects import Mode, ObjectType

        if self._repo.mode is not Mode.ARCHIVE:
            return os.fstat(content.fileno()).st_size
        with open(self._repo.object_path(ObjectType.FILE, checksum), "rb") as file:
            return read_archive_head(file, where=checksum)[1]

    def _line(
        self, kind: str, meta: Any, size: int, checksum: str, path: str, target: str, names: dict[str, Any]
    ) -> None:
        mode = stat.S_IMODE(meta.mode)
        if self._json is not None:
            words = {"d": "directory", "l": "symlink", "-": "file"}
            item = {"path": f"/{path}", "type": words[kind], "mode": f"{mode:04o}", "uid": meta.uid, "gid": meta.gid}
            item |= {"size": size} if kind == "-" else {}
            item |= {"target": target} if target else {}
            xattrs = {name.decode(errors="backslashreplace"): value.hex() for name, value in meta.xattrs}
            self._json.append({**item, **names, **({"xattrs": xattrs} if xattrs else {})})
            return
        if self._options["nul_filenames_only"]:
            sys.stdout.write(f"/{path}\0")
            return
        line = f"{kind}{mode:05o} {meta.uid} {meta.gid} {size:6d} "
        if self._options["checksum"]:
            line += f"{checksum} "
        if self._options["xattrs"]:
            line += f"{{ {_xattrs_text(meta)} }} "
        print(f"{line}/{path}" + (f" -> {target}" if target else ""))


def _xattrs_text(meta: Any) -> str:
    from wherry.store.vtext import to_text

    return to_text("a(ayay)", [(name + b"\0", value) for name, value in meta.xattrs])


@click.command(epilog="\b\nExample:\n  wherry store cat --repo=repo os/main /etc/os-release")
@repo_option
@click.argument("rev", metavar="COMMIT")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
def cat(repo_path: str | None, rev: str, paths: tuple[str, ...]) -> None:
    """Print files of a commit."""
    from wherry.store.walk import lookup

    repo = open_repo(repo_path)
    commit = repo.resolve(rev)
    for path in paths:
        found = lookup(repo, commit, path)
        if isinstance(found, tuple):
            raise InvalidInput("a directory, not a file", where=path)
        _, content = repo.load_file(found)
        if content is None:
            raise InvalidInput("a symbolic link, not a file", where=path)
        with content:
            while piece := content.read(_CHUNK_BYTES):
                sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _print_commit(repo: Repository, checksum: Checksum, commit: Commit) -> None:
    """Prints a commit as ``ostree show`` does."""
    print(f"commit {checksum}")
    if commit.parent:
        print(f"Parent:  {commit.parent}")
    print(f"ContentChecksum:  {_content_checksum(commit)}")
    print(f"Date:  {_date(commit.timestamp_s)}")
    version = commit.metadata.get("version")
    if isinstance(version, str):
        print(f"Version: {version}")
    end = commit.metadata.get("ostree.endoflife")
    if isinstance(end, str):
        print(f"End-of-life: {end}")
    if repo.is_partial(checksum):
        print("Partial: not all of its objects are here")
    if commit.subject:
        print()
        print("\n".join(f"    {line}" for line in commit.subject.splitlines()))
    else:
        print("(no subject)")
    if commit.body:
        print()
        print("\n".join(f"    {line}" for line in commit.body.splitlines()))
    print()


def _content_checksum(commit: Commit) -> str:
    return hashlib.sha256(bytes.fromhex(commit.tree) + bytes.fromhex(commit.meta)).hexdigest()


def _date(time_s: int) -> str:
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S +0000")
    except (ValueError, OverflowError, OSError):
        return f"@{time_s}"


def _print_raw(repo: Repository, checksum: Checksum) -> None:
    """Prints a metadata object as text, with its integers swapped, as OSTree does."""
    from wherry.store import objects, variant
    from wherry.store.objects import ObjectType
    from wherry.store.vtext import byteswapped, to_text

    types = {
        ObjectType.COMMIT: objects.COMMIT_TYPE,
        ObjectType.DIRTREE: objects.DIRTREE_TYPE,
        ObjectType.DIRMETA: objects.DIRMETA_TYPE,
    }
    for kind, type_ in types.items():
        if repo.has(kind, checksum):
            value = variant.decode(type_, repo.metadata_bytes(kind, checksum), where=checksum)
            print(f"{kind.extension} {checksum}")
            print(to_text(type_, byteswapped(type_, value)))
            return
    raise NotFound("no such commit, dirtree or dirmeta", where=checksum)


def _commit_json(checksum: Checksum, commit: Commit) -> dict[str, Any]:
    from wherry.store.variant import from_plain
    from wherry.store.vtext import variant_text

    return {
        "commit": checksum,
        "parent": commit.parent,
        "content_checksum": _content_checksum(commit),
        "timestamp_s": commit.timestamp_s,
        "subject": commit.subject,
        "body": commit.body,
        "metadata": {key: variant_text(from_plain(value)) for key, value in commit.metadata.items()},
    }


@click.command(epilog="\b\nExample:\n  wherry store log --repo=repo os/main")
@repo_option
@click.argument("rev")
@click.option("--raw", is_flag=True, help="Print the commits as GVariant text.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def log(repo_path: str | None, rev: str, raw: bool, as_json: bool) -> None:
    """Show a commit and its parents, the newest first."""
    from wherry.store.objects import ObjectType

    repo = open_repo(repo_path)
    current: Checksum | None = repo.resolve(rev)
    listed = []
    while current is not None:
        commit = repo.load_commit(current)
        if as_json:
            listed.append(_commit_json(current, commit))
        elif raw:
            _print_raw(repo, current)
        else:
            _print_commit(repo, current, commit)
        current = commit.parent
        if current is not None and not repo.has(ObjectType.COMMIT, current):
            if not as_json:
                print("<< History beyond this commit not fetched >>")
            break
    if as_json:
        print_json(listed)


@click.command(
    epilog="""\b
Examples:
  wherry store show --repo=repo os/main
  wherry store show --repo=repo --print-metadata-key=version os/main"""
)
@repo_option
@click.argument("name", metavar="OBJECT")
@click.option("--raw", is_flag=True, help="Print it as GVariant text.")
@click.option("--print-metadata-key", metavar="KEY", help="Print one value of the commit's metadata.")
@click.option("--print-detached-metadata-key", metavar="KEY", help="Print one value of its detached metadata.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(
    repo_path: str | None,
    name: str,
    raw: bool,
    print_metadata_key: str | None,
    print_detached_metadata_key: str | None,
    as_json: bool,
) -> None:
    """Show one commit, or by its checksum another metadata object."""
    from wherry.store.objects import ObjectType
    from wherry.store.variant import from_plain
    from wherry.store.vtext import variant_text

    repo = open_repo(repo_path)
    checksum = repo.resolve(name)
    key = print_metadata_key or print_detached_metadata_key
    if key is not None:
        values = repo.load_commit(checksum).metadata if print_metadata_key else repo.read_detached(checksum)
        if key not in values:
            raise NotFound(f"no such metadata key: {key}", where=checksum)
        print(variant_text(from_plain(values[key])))
    elif as_json:
        print_json(_commit_json(checksum, repo.load_commit(checksum)))
    elif not repo.has(ObjectType.COMMIT, checksum) or raw:
        _print_raw(repo, checksum)
    else:
        _print_commit(repo, checksum, repo.load_commit(checksum))


@click.command(
    epilog="""\b
Examples:
  wherry store diff --repo=repo os/main^ os/main
  wherry store diff --repo=repo os/main ./rootfs"""
)
@repo_option
@click.argument("revs", nargs=-1, required=True, metavar="REV_OR_DIR [REV_OR_DIR]")
@click.option("--owner-uid", type=int, help="Owner of the files of directories.")
@click.option("--owner-gid", type=int, help="Group of the files of directories.")
@click.option("--no-xattrs", is_flag=True, help="Leave out the extended attributes of directories.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def diff(
    repo_path: str | None,
    revs: tuple[str, ...],
    owner_uid: int | None,
    owner_gid: int | None,
    no_xattrs: bool,
    as_json: bool,
) -> None:
    """Compare two commits or directories, or a commit with its parent.

    A directory is named with a slash first or with "./". Prints M, D or A and the path.
    """
    from wherry.store.commit import Modifier
    from wherry.store.diff import Kind, diff_trees

    if len(revs) > 2:
        raise UsageError("give one or two commits or directories")
    repo = open_repo(repo_path)
    if len(revs) == 1:
        revs = (f"{revs[0]}^", revs[0])
    modifier = Modifier(owner_uid=owner_uid, owner_gid=owner_gid, no_xattrs=no_xattrs)
    changes = diff_trees(_side(repo, revs[0], modifier), _side(repo, revs[1], modifier))
    if as_json:
        print_json([{"kind": change.kind, "path": f"/{change.path}"} for change in changes])
        return
    letters = {Kind.MODIFIED: "M", Kind.REMOVED: "D", Kind.ADDED: "A"}
    for change in changes:
        print(f"{letters[change.kind]}    /{change.path}")


def _side(repo: Repository, text: str, modifier: Modifier) -> Tree:
    from wherry.store.diff import scan_directory, tree_of

    if text.startswith(("/", "./", "../")) or text in (".", ".."):
        return scan_directory(Path(text), modifier)
    return tree_of(repo, repo.resolve(text))
