"""``wherry store fsck``, ``prune`` and ``summary``."""

from __future__ import annotations

import sys

import click

from wherry.cli.context import settings
from wherry.cli.output import print_json
from wherry.cli.store import open_repo, parse_time, repo_option, split_pair
from wherry.core.errors import IntegrityError, NotFound, UsageError
from wherry.core.units import format_size


@click.command(epilog="\b\nExample:\n  wherry store fsck --repo=repo")
@repo_option
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-a", "--all", "all_", is_flag=True, help="Do not stop at the first error (it never does).", hidden=True)
@click.option("--delete", is_flag=True, help="Remove damaged objects; a pull brings them back.")
@click.option("--verify-bindings", is_flag=True, help="Check that commits were made for the refs that name them.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def fsck(repo_path: str | None, quiet: bool, all_: bool, delete: bool, verify_bindings: bool, as_json: bool) -> None:
    """Check every object, every commit and every ref."""
    from wherry.store.fsck import fsck as check

    repo = open_repo(repo_path)
    report = check(repo, delete=delete, verify_bindings=verify_bindings, progress=settings().progress())
    if as_json:
        print_json(report)
    else:
        for problem in report.problems:
            print(f"{problem.where}: {problem.what}", file=sys.stderr)
        if not quiet:
            print(f"{report.commits} commits, {report.objects} objects checked")
            if report.partial_commits:
                print(f"{report.partial_commits} partial commits not verified")
    if not report.ok:
        deleted = f", {report.deleted} objects deleted" if report.deleted else ""
        raise IntegrityError(
            f"{len(report.problems)} errors found{deleted}",
            where=repo.path,
            hint="pull the commits again" if deleted else "--delete removes damaged objects; then pull again",
        )


@click.command(
    epilog="""\b
Examples:
  wherry store prune --repo=repo --refs-only
  wherry store prune --repo=repo --refs-only --depth=0 --no-prune"""
)
@repo_option
@click.option("--no-prune", is_flag=True, help="Only say what would go.")
@click.option("--refs-only", is_flag=True, help="Keep only what refs reach; else every commit is kept.")
@click.option("--depth", type=click.IntRange(min=-1), default=-1, help="How many parents are kept (-1: all).")
@click.option("--delete-commit", multiple=True, metavar="COMMIT", help="A commit that goes.")
@click.option("--keep-younger-than", metavar="TIME", help="Commits older than this go, unless a ref reaches them.")
@click.option("--keep", multiple=True, metavar="REV", help="A commit that is kept with all it needs.")
def prune(
    repo_path: str | None,
    no_prune: bool,
    refs_only: bool,
    depth: int,
    delete_commit: tuple[str, ...],
    keep_younger_than: str | None,
    keep: tuple[str, ...],
) -> None:
    """Remove what nothing needs any more."""
    from wherry.store.prune import prune as remove

    repo = open_repo(repo_path)
    stats = remove(
        repo,
        refs_only=refs_only,
        depth=depth,
        keep={repo.resolve(rev) for rev in keep},
        keep_younger_than_s=parse_time(keep_younger_than, "--keep-younger-than") if keep_younger_than else None,
        delete_commits={repo.resolve(rev) for rev in delete_commit},
        dry_run=no_prune,
    )
    print(f"Total objects: {stats.total}")
    if stats.pruned == 0:
        print("No unreachable objects")
    elif no_prune:
        print(f"Would delete: {stats.pruned} objects, freeing {format_size(stats.freed_bytes)}")
    else:
        print(f"Deleted {stats.pruned} objects, {format_size(stats.freed_bytes)} freed")


@click.command(epilog="\b\nExamples:\n  wherry store summary --repo=repo -u\n  wherry store summary --repo=repo -v")
@repo_option
@click.option("-u", "--update", is_flag=True, help="Write it anew.")
@click.option("-v", "--view", is_flag=True, help="Show it.")
@click.option("--raw", is_flag=True, help="Show it as GVariant text.")
@click.option("-m", "--add-metadata", multiple=True, metavar="KEY=VALUE", help="With --update: further text in it.")
@click.option("--json", "as_json", is_flag=True, help="With --view: print JSON.")
def summary(
    repo_path: str | None, update: bool, view: bool, raw: bool, add_metadata: tuple[str, ...], as_json: bool
) -> None:
    """Write or show the summary that a remote reads."""
    from wherry.store import summary as module

    repo = open_repo(repo_path)
    if not update and not view and not raw:
        raise UsageError("nothing to do", hint="give --update or --view")
    if update:
        module.update_summary(repo, metadata=dict(split_pair(item, "--add-metadata") for item in add_metadata))
    if view or raw:
        try:
            data = (repo.path / "summary").read_bytes()
        except FileNotFoundError:
            raise NotFound("no summary", where=repo.path, hint="make one with --update") from None
        if raw:
            from wherry.store.variant import decode
            from wherry.store.vtext import byteswapped, to_text

            value = decode(module.SUMMARY_TYPE, data)
            print(to_text(module.SUMMARY_TYPE, byteswapped(module.SUMMARY_TYPE, value)))
            return
        parsed = module.parse_summary(data, where=repo.path / "summary")
        if as_json:
            print_json([{"ref": item.ref, "commit": item.commit, "timestamp_s": item.timestamp_s}
                        for item in parsed.refs])  # fmt: skip
        else:
            _print_summary(parsed)


def _print_summary(parsed: object) -> None:
    from datetime import UTC, datetime

    from wherry.store.summary import Summary, swap64
    from wherry.store.variant import from_plain
    from wherry.store.vtext import variant_text

    assert isinstance(parsed, Summary)  # noqa: S101 for the type checker
    for item in parsed.refs:
        print(f"* {item.ref}\n    Latest Commit ({item.commit_bytes} bytes):\n      {item.commit}")
        if item.timestamp_s is not None:
            when = datetime.fromtimestamp(item.timestamp_s, UTC).strftime("%Y-%m-%dT%H:%M:%S+00")
            if "ostree.commit.version" in item.metadata:
                print(f"    Version (ostree.commit.version): {item.metadata['ostree.commit.version']}")
            print(f"    Timestamp (ostree.commit.timestamp): {when}")
        print()
    for key, value in parsed.metadata.items():
        if key == "ostree.summary.last-modified" and isinstance(value, int):
            value = datetime.fromtimestamp(swap64(value), UTC).strftime("%Y-%m-%dT%H:%M:%S+00")
            print(f"Last-Modified ({key}): {value}")
        elif key == "ostree.summary.mode":
            print(f"Repository Mode ({key}): {value}")
        elif key == "ostree.summary.tombstone-commits":
            print(f"Has Tombstone Commits ({key}): {'Yes' if value else 'No'}")
        else:
            print(f"{key}: {variant_text(from_plain(value))}")
