"""``wherry store commit``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.context import settings
from wherry.cli.store import open_repo, parse_time, repo_option, split_pair
from wherry.core.errors import NotFound, UsageError

if TYPE_CHECKING:
    from wherry.core.digest import Checksum
    from wherry.store.modifier import Modifier
    from wherry.store.repository import Repository


@click.command(
    epilog="""\b
Examples:
  wherry store commit --repo=repo -b os/main -s "first" rootfs/
  wherry store commit --repo=repo -b os/main --tree=ref=os/base --tree=dir=overlay/
  wherry store commit --repo=repo -b app --canonical-permissions --timestamp=@0 app/"""
)
@repo_option
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--parent", metavar="COMMIT", help='The commit before it, or "none"; else what the branch names.')
@click.option("-s", "--subject", default="", help="One line.")
@click.option("-m", "--body", default="", help="The rest.")
@click.option("-F", "--body-file", type=click.Path(path_type=Path), help="A file with the rest.")
@click.option("-b", "--branch", metavar="REF", help="The ref to move.")
@click.option("--orphan", is_flag=True, help="Move no ref.")
@click.option("--no-bindings", is_flag=True, help="Do not write into the commit which ref it is for.")
@click.option("--bind-ref", multiple=True, metavar="REF", help="A further ref that the commit is for.")
@click.option("--base", metavar="REV", help="Begin with this commit's tree, unchanged.")
@click.option("--tree", "trees", multiple=True, metavar="dir=PATH|ref=REV", help="Lay this over what came before.")
@click.option("--add-metadata-string", multiple=True, metavar="KEY=VALUE", help="Metadata of the commit.")
@click.option("--keep-metadata", multiple=True, metavar="KEY", help="Metadata taken over from the parent.")
@click.option("--add-detached-metadata-string", multiple=True, metavar="KEY=VALUE", help="Metadata beside the commit.")
@click.option("--owner-uid", type=click.IntRange(0, 2**32 - 2), help="Owner of everything.")
@click.option("--owner-gid", type=click.IntRange(0, 2**32 - 2), help="Group of everything.")
@click.option("--canonical-permissions", is_flag=True, help="Owner 0:0, of the modes only 0755.")
@click.option("--no-xattrs", is_flag=True, help="Leave extended attributes out.")
@click.option("--statoverride", type=click.Path(path_type=Path), help="File of lines [=+]MODE PATH, MODE in decimal.")
@click.option(
    "--skip-list", type=click.Path(path_type=Path), help="File of paths to leave out, each with a slash first."
)
@click.option("--skip-if-unchanged", is_flag=True, help="Do nothing when the tree is the parent's.")
@click.option("--table-output", is_flag=True, help="Print counts too.")
@click.option("--timestamp", metavar="TIME", help="@SECONDS or ISO 8601; else $SOURCE_DATE_EPOCH, else now.")
def commit(repo_path: str | None, path: Path | None, **options: Any) -> None:
    """Commit a directory (this folder when none is named), or trees laid over each other.

    Prints the checksum of the commit.
    """
    repo = open_repo(repo_path)
    if not options["branch"] and not options["orphan"]:
        raise UsageError("no branch is named", hint="give -b BRANCH, or --orphan")
    _Commit(repo, options).run(path)


class _Commit:
    """One call of ``wherry store commit``."""

    def __init__(self, repo: Repository, options: dict[str, Any]) -> None:
        self._repo = repo
        self._options = options

    def run(self, path: Path | None) -> None:
        from wherry.core.digest import Ref
        from wherry.store.commit import commit_tree

        options, repo = self._options, self._repo
        branch = None if options["orphan"] else Ref(options["branch"])
        parent = self._parent()
        body = Path(options["body_file"]).read_text() if options["body_file"] else options["body"]
        with repo.transaction() as transaction:
            tree, meta = self._write(path)
            if options["skip_if_unchanged"] and parent is not None:
                before = repo.load_commit(parent)
                if (before.tree, before.meta) == (tree, meta):
                    self._print(parent, 0, 0)
                    return
            checksum = commit_tree(
                repo,
                tree,
                meta,
                timestamp_s=self._time(),
                subject=options["subject"],
                body=body,
                parent=parent,
                metadata=self._metadata(parent),
                ref=branch,
                bind_ref=False,
            )
            detached = dict(split_pair(item, "--add-detached-metadata-string")
                            for item in options["add_detached_metadata_string"])  # fmt: skip
            if detached:
                repo.write_detached(checksum, detached)
        self._print(checksum, transaction.objects_written, transaction.bytes_written)

    def _print(self, checksum: Checksum, written: int, size: int) -> None:
        if self._options["table_output"]:
            print(f"Commit: {checksum}\nObjects Written: {written}\nContent Bytes Written: {size}")
        else:
            print(checksum)

    def _parent(self) -> Checksum | None:
        from wherry.core.digest import Ref

        named, branch = self._options["parent"], self._options["branch"]
        if named == "none" or (not named and self._options["orphan"]):
            return None
        if named:
            return self._repo.resolve(named)
        return self._repo.refs().get(Ref(branch))

    def _time(self) -> int:
        if self._options["timestamp"]:
            return parse_time(self._options["timestamp"], "--timestamp")
        epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
        return parse_time(f"@{epoch}", "SOURCE_DATE_EPOCH") if epoch else int(time.time())

    def _metadata(self, parent: Checksum | None) -> dict[str, Any]:
        from wherry.store.variant import Variant

        options = self._options
        metadata: dict[str, Any] = {}
        if options["keep_metadata"]:
            if parent is None:
                raise UsageError("--keep-metadata needs a parent")
            old = self._repo.load_commit(parent).metadata
            for key in options["keep_metadata"]:
                if key not in old:
                    raise NotFound(f"the parent has no metadata {key!r}", where=parent)
                metadata[key] = old[key]
        metadata |= dict(split_pair(item, "--add-metadata-string") for item in options["add_metadata_string"])
        if not options["no_bindings"]:
            bound = [*options["bind_ref"], *([options["branch"]] if options["branch"] else [])]
            metadata["ostree.ref-binding"] = Variant("as", sorted(bound))
        return metadata

    def _write(self, path: Path | None) -> tuple[Checksum, Checksum]:
        from wherry.store.commit import write_directory
        from wherry.store.tree import TreeBuilder

        options, repo = self._options, self._repo
        trees = [_tree_argument(text) for text in options["trees"]]
        if path is not None:
            if trees:
                raise UsageError("give a directory or --tree, not both")
            trees = [("dir", str(path))]
        modifier = self._modifier()
        progress = settings().progress()
        if not trees and not options["base"]:
            trees = [("dir", ".")]
        if len(trees) == 1 and trees[0][0] == "dir" and not options["base"]:
            return write_directory(repo, Path(trees[0][1]), modifier, progress=progress)
        builder = TreeBuilder(repo)
        if options["base"]:
            builder.overlay_commit(repo.resolve(options["base"]))
        for kind, value in trees:
            if kind == "ref":
                builder.overlay_commit(repo.resolve(value))
            else:
                builder.overlay_tree(*write_directory(repo, Path(value), modifier, progress=progress))
        return builder.write()

    def _modifier(self) -> Modifier:
        from wherry.store.modifier import Modifier

        options = self._options
        return Modifier(
            canonical_permissions=options["canonical_permissions"],
            owner_uid=options["owner_uid"],
            owner_gid=options["owner_gid"],
            no_xattrs=options["no_xattrs"],
            skip=_skip_list(options["skip_list"]),
            statoverride=_statoverride(options["statoverride"]),
        )


def _tree_argument(text: str) -> tuple[str, str]:
    kind, value = split_pair(text, "--tree")
    if kind == "tar":
        raise UsageError("--tree=tar= is not there", hint="import archives with `wherry image import`")
    if kind not in ("dir", "ref"):
        raise UsageError(f"--tree is neither dir=PATH nor ref=REV: {text!r}")
    return kind, value


def _skip_list(path: Path | None) -> Callable[[str], bool] | None:
    if path is None:
        return None
    return frozenset(line for line in path.read_text().splitlines() if line).__contains__


def _statoverride(path: Path | None) -> dict[str, tuple[bool, int]] | None:
    if path is None:
        return None
    found = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        bits, space, name = line.partition(" ")
        if not line or line.startswith("#"):
            continue
        if not space or not bits.lstrip("=+").isdigit():
            raise UsageError(f"not MODE PATH: {line!r}", where=f"{path}:{number}")
        found[name] = (bits.startswith("="), int(bits.lstrip("=+")))
    return found
