"""``wherry store ls``, ``cat`` and ``checksum``, in ``ostree``'s own formats."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.store import common_options, open_repo, repo_option
from wherry.core.errors import InvalidInput

if TYPE_CHECKING:
    from wherry.core.digest import Checksum
    from wherry.store.repository import Repository

_CHUNK_BYTES = 1024 * 1024
_TYPES = {"d": "directory", "l": "symlink", "-": "file"}


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
    from wherry.store.tree.walk import split_path

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
        self._metas: dict[Checksum, Any] = {}

    def show(self, path: str) -> None:
        from wherry.store.tree.walk import lookup

        found = lookup(self._repo, self._commit, path)
        if not isinstance(found, tuple):
            self._file(found, path)
            return
        self._dir(*found, path)
        if self._options["recursive"] or not self._options["dironly"]:
            self._below(found[0], path + "/" if path else "", 0)

    def finish(self) -> None:
        if self._json is not None:
            from wherry.cli.output import print_json

            print_json(self._json)

    def _below(self, tree: Checksum, prefix: str, depth: int) -> None:
        from wherry.store.tree.walk import check_depth

        check_depth(depth, prefix)
        entries = self._repo.load_dirtree(tree)
        for name, checksum in entries.files:
            self._file(checksum, prefix + name)
        for name, subtree, meta in entries.dirs:
            self._dir(subtree, meta, prefix + name)
            if self._options["recursive"]:
                self._below(subtree, f"{prefix}{name}/", depth + 1)

    def _dir(self, tree: Checksum, meta: Checksum, path: str) -> None:
        if meta not in self._metas:
            self._metas[meta] = self._repo.load_dirmeta(meta)
        self._line("d", self._metas[meta], 0, f"{tree} {meta}", path, "", {"tree": tree, "meta": meta})

    def _file(self, checksum: Checksum, path: str) -> None:
        if self._options["nul_filenames_only"] and self._json is None:
            sys.stdout.write(f"/{path}\0")
            return
        from wherry.store.disk.stored import content_size

        header, content = self._repo.load_file(checksum)
        size = 0
        if content is not None:
            with content:
                size = content_size(self._repo, checksum, content)
        kind = "l" if header.is_symlink else "-"
        self._line(kind, header, size, checksum, path, header.symlink_target, {"checksum": checksum})

    def _line(
        self, kind: str, meta: Any, size: int, checksum: str, path: str, target: str, names: dict[str, Any]
    ) -> None:
        mode = stat.S_IMODE(meta.mode)
        if self._json is not None:
            item = {"path": f"/{path}", "type": _TYPES[kind], "mode": f"{mode:04o}", "uid": meta.uid, "gid": meta.gid}
            item |= {"size": size} if kind == "-" else {}
            item |= {"target": target} if target else {}
            xattrs = {name.decode(errors="backslashreplace"): value.hex() for name, value in meta.xattrs}
            self._json.append({**item, **names, **({"xattrs": xattrs} if xattrs else {})})
            return
        if self._options["nul_filenames_only"]:
            sys.stdout.write(f"/{path}\0")
            return
        line = f"{kind}0{mode:04o} {meta.uid} {meta.gid} {size:6d} "
        if self._options["checksum"]:
            line += f"{checksum} "
        if self._options["xattrs"]:
            line += f"{{ {_xattrs_text(meta)} }} "
        print(f"{line}/{path}" + (f" -> {target}" if target else ""))


def _xattrs_text(meta: Any) -> str:
    from wherry.store.format.vtext import to_text

    return to_text("a(ayay)", [(name + b"\0", value) for name, value in meta.xattrs])


@click.command(epilog="\b\nExample:\n  wherry store cat --repo=repo os/main /etc/os-release")
@repo_option
@click.argument("rev", metavar="COMMIT")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
def cat(repo_path: str | None, rev: str, paths: tuple[str, ...]) -> None:
    """Print files of a commit; symbolic links are followed within it."""
    from wherry.store.tree.walk import follow

    repo = open_repo(repo_path)
    commit = repo.resolve(rev)
    for path in paths:
        found = follow(repo, commit, path)
        if isinstance(found, tuple):
            raise InvalidInput("Can't open directory: it has no content to print", where=path)
        _, content = repo.load_file(found)
        if content is None:
            raise InvalidInput("a symbolic link that leads nowhere", where=path)
        with content:
            while piece := content.read(_CHUNK_BYTES):
                sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


@click.command(epilog="\b\nExample:\n  wherry store checksum --ignore-xattrs /etc/hostname")
@common_options
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--ignore-xattrs", is_flag=True, help="Leave extended attributes out.")
def checksum(path: Path, ignore_xattrs: bool) -> None:
    """Print the checksum that a file on disk has as an object; of a directory that of its dirmeta."""
    from wherry.store.tree.directory import file_checksum

    print(file_checksum(path, ignore_xattrs=ignore_xattrs))
