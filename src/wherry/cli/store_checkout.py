"""``wherry store checkout``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.store import NO_SELINUX, open_repo, refused_option, repo_option
from wherry.cli.store_lists import read_skip_list
from wherry.core.errors import InvalidInput, NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from wherry.core.digest import Checksum
    from wherry.store.repository import Repository

_MAX_ITEM_BYTES = 64 * 1024
_UNIONS = ("union", "union_add", "union_identical")
_COMPOSEFS_EXCLUDES = ("disable_cache", "whiteouts", "require_hardlinks", "union_add", "force_copy",
                       "bareuseronly_dirs", "union_identical", "skip_list",
                       "process_passthrough_whiteouts")  # fmt: skip


@click.command(
    epilog="""\b
Examples:
  wherry store checkout --repo=repo -U os/main rootfs
  wherry store checkout --repo=repo -U -H --union os/extra rootfs
  wherry store checkout --repo=repo --subpath=/etc os/main etc
  printf 'os/main\\0/etc\\0' | wherry store checkout --repo=repo --from-stdin etc

A file that was hard-linked is the object itself: do not write to it, or check out
with -C."""
)
@repo_option
@click.argument("rev", metavar="COMMIT")
@click.argument("destination", required=False)
@click.option("-U", "--user-mode", is_flag=True, help="Do not set owners and attributes; needs no root.")
@click.option("--disable-cache", is_flag=True, help="In user mode from an archive: keep no unpacked files.")
@click.option("--subpath", metavar="PATH", help="Only this file or directory of the commit.")
@click.option("--union", is_flag=True, help="Keep directories, overwrite files.")
@click.option("--union-add", is_flag=True, help="Keep what is there, only add.")
@click.option("--union-identical", is_flag=True, help="A file that is there must be the same; needs -H.")
@click.option("--whiteouts", is_flag=True, help="Files .wh.NAME remove NAME, as in images' layers.")
@click.option(
    "--process-passthrough-whiteouts", is_flag=True, help="Files .ostree-wh.NAME become overlayfs' whiteouts."
)
@click.option("--allow-noent", is_flag=True, help="Do nothing when the subpath is not there.")
@click.option("--from-stdin", is_flag=True, help="COMMIT is the destination; read COMMIT NUL PATH NUL ... from stdin.")
@click.option("--from-file", metavar="FILE", help="The same from a file.")
@click.option("--fsync", type=click.BOOL, default=False, metavar="BOOL", help="Have it on the disk at the end.")
@click.option("-H", "--require-hardlinks", is_flag=True, help="Fail where a file cannot be hard-linked.")
@click.option("-z", "--force-copy-zerosized", is_flag=True, hidden=True)
@click.option("-C", "--force-copy", is_flag=True, help="Never hard-link.")
@click.option("-M", "--bareuseronly-dirs", is_flag=True, help="Of the modes of directories take 0775 only.")
@click.option("--skip-list", type=click.Path(path_type=Path), metavar="FILE", help="Lines of /PATH to leave out.")
@refused_option("--selinux-policy", reason=NO_SELINUX, metavar="PATH")
@refused_option("--selinux-prefix", reason=NO_SELINUX, metavar="PREFIX")
@click.option("--composefs", is_flag=True, help="Write a composefs image only.")
@click.option("--composefs-noverity", is_flag=True, help="The same without fs-verity digests.")
def checkout(repo_path: str | None, rev: str, destination: str | None, **options: Any) -> None:
    """Lay a commit out as a directory, by hard links where owners and modes allow."""
    repo = open_repo(repo_path)
    _check(options)
    if options["from_stdin"] or options["from_file"]:
        for name, subpath in _many(options["from_file"]):
            _one(repo, repo.resolve(name), subpath, Path(rev), options)
        return
    _one(repo, repo.resolve(rev), options["subpath"] or "/", Path(destination or rev), options)


def _check(options: dict[str, Any]) -> None:
    given = [name for name in _UNIONS if options[name]]
    if len(given) > 1:
        raise UsageError(f"Cannot specify both --{given[0].replace('_', '-')} and --{given[1].replace('_', '-')}")
    if options["require_hardlinks"] and options["force_copy"]:
        raise UsageError("Cannot specify both --require-hardlinks and --force-copy")
    if options["union_identical"] and not options["require_hardlinks"]:
        raise UsageError("--union-identical requires --require-hardlinks")
    composefs = options["composefs"] or options["composefs_noverity"]
    if composefs and any(options[name] for name in _COMPOSEFS_EXCLUDES):
        raise UsageError("Specified options are incompatible with --composefs")


def _one(repo: Repository, commit: Checksum, subpath: str, destination: Path, options: dict[str, Any]) -> None:
    if options["composefs"] or options["composefs_noverity"]:
        from wherry.store.mount.composefs import checkout_image

        checkout_image(repo, commit, destination, digests=not options["composefs_noverity"])
        return
    from wherry.store.tree.checkout import Union
    from wherry.store.tree.checkout import checkout as lay_out
    from wherry.store.tree.walk import lookup

    if options["allow_noent"]:
        try:
            lookup(repo, commit, subpath)
        except NotFound:
            return
    union = next((name for name in _UNIONS if options[name]), "none").replace("_", "-")
    lay_out(
        repo,
        commit,
        destination,
        user_mode=options["user_mode"],
        subpath=subpath,
        union=Union(union),
        force_copy=options["force_copy"],
        require_hardlinks=options["require_hardlinks"],
        whiteouts=options["whiteouts"],
        passthrough_whiteouts=options["process_passthrough_whiteouts"],
        bareuseronly_dirs=options["bareuseronly_dirs"],
        skip=_read_skip_list(options["skip_list"]),
        cache=not options["disable_cache"],
        durable=options["fsync"],
    )


def _read_skip_list(path: Path | None) -> Any:
    found = read_skip_list(path)
    return None if found is None else frozenset(line.rstrip("/") or "/" for line in found).__contains__


def _many(path: str | None) -> Iterator[tuple[str, str]]:
    """Gives the pairs of revision and path that stand in a file or on standard input, each ended by NUL."""
    if path is None:
        yield from _pairs(sys.stdin.buffer, "standard input")
        return
    from wherry.core.durable import map_os_error

    try:
        file = open(path, "rb")  # noqa: SIM115 closed below; an error within the loop is not of the list
    except OSError as error:
        raise map_os_error(error, "cannot read the list", where=path) from error
    with file:
        yield from _pairs(file, path)


def _pairs(file: BinaryIO, where: str) -> Iterator[tuple[str, str]]:
    buffer = b""
    while True:
        *items, rest = buffer.split(b"\0", 2)
        if len(items) == 2:
            buffer = rest
            if not items[0]:
                return
            yield items[0].decode(errors="surrogateescape"), items[1].decode(errors="surrogateescape") or "/"
            continue
        if len(buffer) > _MAX_ITEM_BYTES:
            raise InvalidInput(f"an item of more than {_MAX_ITEM_BYTES} bytes", where=where)
        piece = file.read1(_MAX_ITEM_BYTES) if hasattr(file, "read1") else file.read(_MAX_ITEM_BYTES)
        if not piece:
            break
        buffer += piece
    name, nul, path = buffer.partition(b"\0")
    if name.strip(b"\n") and not nul:
        raise InvalidInput("the list ends within a pair: COMMIT NUL PATH NUL is wanted", where=where)
    if nul:
        yield name.decode(errors="surrogateescape"), path.decode(errors="surrogateescape") or "/"
