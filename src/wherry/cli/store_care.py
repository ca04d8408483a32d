"""``wherry store fsck`` and ``prune``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from wherry.cli.context import settings
from wherry.cli.output import print_json
from wherry.cli.store import open_repo, parse_time, repo_option
from wherry.core.errors import IntegrityError, UsageError

if TYPE_CHECKING:
    from wherry.store.care.fsck import FsckReport, Problem
    from wherry.store.repository import Repository


@click.command(
    epilog="""\b
Examples:
  wherry store fsck --repo=repo
  wherry store fsck --repo=repo --delete
  wherry store fsck --repo=repo --repair=origin"""
)
@repo_option
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-a", "--all", "all_", is_flag=True, help="Do not stop at the first error.")
@click.option("--delete", is_flag=True, help="Remove damaged objects; a pull brings them back.")
@click.option("--add-tombstones", is_flag=True, help="Note of parents that are not there that they were deleted.")
@click.option("--verify-bindings", is_flag=True, help="Check that commits were made for the refs that name them.")
@click.option("--verify-back-refs", is_flag=True, help="And that the refs they were made for name them.")
@click.option(
    "--repair",
    is_flag=False,
    flag_value="",
    metavar="[REMOTE]",
    help="Fetch again what is damaged or missing: from this remote or repository, else from every remote in turn.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def fsck(
    repo_path: str | None,
    quiet: bool,
    all_: bool,
    delete: bool,
    add_tombstones: bool,
    verify_bindings: bool,
    verify_back_refs: bool,
    repair: str | None,
    as_json: bool,
) -> None:
    """Check every object, every commit and every ref."""
    from wherry.store.care.fsck import fsck as check

    repo = open_repo(repo_path)
    stop = not (all_ or delete or as_json or repair is not None)
    talks = not quiet and not as_json

    def tell(problem: Problem) -> None:
        if not stop and not as_json:
            print(problem.what, file=sys.stderr)
        elif problem.item is not None and problem.kind in ("missing", "ref"):
            kind, checksum = problem.item
            print(
                f"Object missing: {checksum}.{kind.extension}" if problem.kind == "ref" else problem.what,
                file=sys.stderr,
            )

    def run(*, last: bool) -> FsckReport:
        return check(
            repo,
            delete=delete or not last,
            verify_bindings=verify_bindings,
            verify_back_refs=verify_back_refs,
            add_tombstones=add_tombstones and last,
            stop_at_first=stop,
            progress=settings().progress(),
            say=print if talks else lambda _: None,
            tell=tell,
            marked=lambda commit: print(f"Marking commit as partial: {commit}", file=sys.stderr),
        )

    report = run(last=repair is None)
    if repair is not None:
        if not report.ok:
            _repair(repo, report, repair)
        report = run(last=True) if not report.ok or add_tombstones else report
    if as_json:
        print_json(report)
    else:
        for commit in report.tombstones:
            print(f"Adding tombstone for commit {commit}")
        if report.partial_commits and not add_tombstones:
            print(f"{report.partial_commits} partial commits not verified")
    _verdict(report, stop=stop)
    if not as_json:
        print(f"object fsck of {report.commits} commits completed successfully - no errors found.")


def _verdict(report: FsckReport, *, stop: bool) -> None:
    """Raises what ostree says at the end when something is wrong."""
    first = next((problem for problem in report.problems if problem.kind not in ("missing", "partial")), None)
    if stop and first is not None:
        raise IntegrityError(first.what)
    if any(problem.kind != "partial" for problem in report.problems):
        hint = "pull the commits again" if report.deleted else "--repair fetches what is damaged or missing anew"
        raise IntegrityError("Repository corruption encountered", hint=hint)
    if report.broken_commits:
        raise IntegrityError(
            f"{report.broken_commits} partial commits from fsck-detected corruption",
            hint="pull them again, or --repair",
        )


def _repair(repo: Repository, report: FsckReport, remote: str) -> None:
    from wherry.store.care.repair import repair, sources

    done = repair(repo, report, sources(repo, remote), progress=settings().progress())
    for item in done.refs:
        print(f"Repaired ref {item}")
    print(f"Repaired: {done.objects} objects fetched, {len(done.completed)} commits whole again")


@click.command(
    epilog="""\b
Examples:
  wherry store prune --repo=repo --refs-only
  wherry store prune --repo=repo --refs-only --depth=0 --no-prune
  wherry store prune --repo=repo --keep-younger-than="1 week ago" --retain-branch-depth=os/stable=-1"""
)
@repo_option
@click.option("--no-prune", is_flag=True, help="Only say what would go.")
@click.option("--refs-only", is_flag=True, help="Keep only what refs reach; else every commit is kept.")
@click.option("--depth", type=click.IntRange(min=-1), default=-1, help="How many parents are kept (-1: all).")
@click.option("--delete-commit", multiple=True, metavar="COMMIT", help="A commit that goes; a tombstone stays.")
@click.option("--keep-younger-than", metavar="TIME", help="Keep each ref's commits back to this time.")
@click.option("--static-deltas-only", is_flag=True, help="With --delete-commit: remove static deltas to it, not it.")
@click.option("--retain-branch-depth", multiple=True, metavar="BRANCH=DEPTH", help="Another depth for one branch.")
@click.option("--only-branch", multiple=True, metavar="BRANCH", help="Take parents from these branches only.")
@click.option("--commit-only", is_flag=True, help="Only remove commits, not what they were made of.")
@click.option("--keep", multiple=True, metavar="REV", help="A commit that is kept with all it needs.")
def prune(
    repo_path: str | None,
    no_prune: bool,
    refs_only: bool,
    depth: int,
    delete_commit: tuple[str, ...],
    keep_younger_than: str | None,
    static_deltas_only: bool,
    retain_branch_depth: tuple[str, ...],
    only_branch: tuple[str, ...],
    commit_only: bool,
    keep: tuple[str, ...],
) -> None:
    """Remove what nothing needs any more."""
    from wherry.store.care.prune import prune as remove
    from wherry.store.care.prune import prune_deltas

    if delete_commit and no_prune:
        raise UsageError("Cannot specify both --delete-commit and --no-prune")
    if static_deltas_only and not delete_commit:
        raise UsageError("--static-deltas-only requires --delete-commit")
    repo = open_repo(repo_path)
    doomed = {repo.resolve(rev) for rev in delete_commit}
    if static_deltas_only:
        for commit in doomed:
            prune_deltas(repo, commit)
        doomed = set()
    elif doomed:
        repo.enable_tombstones()
    stats = remove(
        repo,
        refs_only=refs_only,
        depth=depth,
        keep={repo.resolve(rev) for rev in keep},
        keep_younger_than_s=parse_time(keep_younger_than, "--keep-younger-than") if keep_younger_than else None,
        branch_depth=dict(_branch_depth(text) for text in retain_branch_depth),
        only_branches=only_branch,
        delete_commits=doomed,
        commit_only=commit_only,
        dry_run=no_prune,
    )
    print(f"Total {'(commit only) ' if commit_only else ''}objects: {stats.total}")
    if stats.pruned == 0:
        print("No unreachable objects")
    elif no_prune:
        print(f"Would delete: {stats.pruned} objects, freeing {_size(stats.freed_bytes)}")
    else:
        print(f"Deleted {stats.pruned} objects, {_size(stats.freed_bytes)} freed")


def _branch_depth(text: str) -> tuple[str, int]:
    branch, _, depth = text.rpartition("=")
    if not branch:
        raise UsageError(f"Invalid value {text}, must specify BRANCH=DEPTH")
    try:
        return branch, max(-1, int(depth))
    except ValueError:
        raise UsageError(f"Invalid depth {depth}", hint="a whole number; -1: all") from None


def _size(count: int) -> str:
    """Returns a size as GLib writes it: ``812 bytes``, ``1.1 kB`` with a space that does not break."""
    if count < 1000:
        return "1 byte" if count == 1 else f"{count} bytes"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 1000 or unit == "TB":
            return f"{value:.1f}\u00a0{unit}"
    raise AssertionError("unreachable")
