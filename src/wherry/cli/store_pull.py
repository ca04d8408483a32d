"""``wherry store pull`` and ``pull-local``."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.context import settings
from wherry.cli.output import print_json
from wherry.cli.sizes import glib_size
from wherry.cli.store import NO_GPG, OSTREE_VERSION, open_repo, refused_option, repo_option, split_pair
from wherry.core.errors import InvalidInput, UsageError

if TYPE_CHECKING:
    from wherry.core.transfer import TransferSettings
    from wherry.store.pull.pull import PullOptions, PullResult
    from wherry.store.pull.stats import PullStats
    from wherry.store.repository import Repository

_NBSP = "\u00a0"


def environment_proxies() -> tuple[tuple[tuple[str, str], ...], str]:
    """Returns the proxies by scheme, and the hosts that need none, as the environment says."""
    found = []
    for scheme, names in (
        ("http", ("http_proxy",)),  # not HTTP_PROXY: a web server may set that from a header
        ("https", ("https_proxy", "HTTPS_PROXY")),
        ("all", ("all_proxy", "ALL_PROXY")),
    ):
        value = next((os.environ[name] for name in names if os.environ.get(name)), "")
        if value:
            found.append((scheme, value))
    return tuple(found), os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""


def base_settings(**given: Any) -> TransferSettings:
    """Returns how the command line speaks to servers: as libostree, with the environment's proxies.

    Args:
        given: further fields of ``TransferSettings``.
    """
    from wherry.core.transfer import TransferSettings

    proxies, no_proxy = environment_proxies()
    return TransferSettings(
        **{"user_agent": f"libostree/{OSTREE_VERSION}", "proxies": proxies, "no_proxy": no_proxy, **given}
    )


def use_cache() -> bool:
    """Tells whether summaries are kept: not in upstream's tests, which say so in the environment."""
    return not os.environ.get("OSTREE_SKIP_CACHE")


@click.command(
    epilog="""\b
Examples:
  wherry store pull --repo=repo origin os/main
  wherry store pull --repo=repo --mirror origin
  wherry store pull --repo=repo --limit-rate=500k --max-bytes=50m origin os/main"""
)
@repo_option
@click.argument("remote_name", metavar="REMOTE")
@click.argument("branches", nargs=-1, metavar="[BRANCH[@COMMIT]]...")
@click.option("--commit-metadata-only", is_flag=True, help="Only the commits, without their trees.")
@click.option("--cache-dir", type=click.Path(path_type=Path), metavar="DIR", help="Where summaries are kept.")
@click.option("--disable-fsync", is_flag=True, help="Leave the syncs out: for what can be pulled again.")
@click.option("--per-object-fsync", is_flag=True, help="Sync each object by itself, so that others are not held up.")
@click.option("--disable-static-deltas", is_flag=True, help="Fetch single objects.")
@click.option("--require-static-deltas", is_flag=True, help="Fail when there is no delta.")
@click.option("--mirror", is_flag=True, help="Write refs as they are there; all of them when none is named.")
@click.option("--subpath", "subpaths", multiple=True, metavar="PATH", help="Only this of each tree.")
@click.option("--untrusted", is_flag=True, help="Check also what comes from this machine.")
@click.option("--http-trusted", is_flag=True, help="Mirrors take files unchecked.")
@click.option("--bareuseronly-files", is_flag=True, help="Refuse files with modes outside of 0775.")
@click.option("--dry-run", is_flag=True, help="Only say what deltas come to.")
@click.option("--depth", type=click.IntRange(min=-1), default=0, help="How many parents too (-1: all).")
@click.option("--url", metavar="URL", help="Pull from here instead of from where the config says.")
@click.option("--http-header", "headers", multiple=True, metavar="NAME=VALUE", help="A header of every request.")
@click.option("--append-user-agent", metavar="TEXT", help="Stands behind the user agent.")
@click.option(
    "--network-retries", type=click.IntRange(0, 1000), metavar="N", help="How often a file is asked for again."
)
@click.option("--disable-retry-on-network-errors", is_flag=True, help="Ask for nothing twice.")
@click.option("--low-speed-limit-bytes", type=click.IntRange(0, 2**31 - 1), metavar="N",
              help="A transfer slower than N bytes/s is given up (1000).")  # fmt: skip
@click.option("--low-speed-time-seconds", type=click.IntRange(1, 86_400), metavar="N",
              help="When it was so for N seconds (30).")  # fmt: skip
@click.option("--max-outstanding-fetcher-requests", type=click.IntRange(1, 1000), metavar="N",
              help="How many files are asked for at once.")  # fmt: skip
@click.option("-L", "--localcache-repo", "caches", multiple=True, type=click.Path(path_type=Path), metavar="REPO",
              help="A repository on this machine that is asked first.")  # fmt: skip
@click.option("-T", "--timestamp-check", is_flag=True, help="Commits must not be older than those that are here.")
@click.option("--timestamp-check-from-rev", metavar="REV", help="Commits must not be older than this one.")
@click.option(
    "--update-frequency", type=click.IntRange(min=0), default=0, metavar="MS", help="How often to show progress."
)
@click.option("--disable-verify-bindings", is_flag=True, help="Take commits that were made for other refs.")
@click.option("--disable-sign-verify", is_flag=True, help="Take commits whatever their signatures.")
@click.option("--ca", type=click.Path(path_type=Path), metavar="FILE", help="The only certificate authority to trust.")
@click.option("--token-env", metavar="NAME", help="Environment variable with a bearer token.")
@click.option("--max-bytes", metavar="SIZE", help="Stop when so much has come; the next pull goes on from there.")
@click.option("--limit-rate", metavar="SIZE", help="Bytes per second at most, such as 500k.")
@click.option("--json", "as_json", is_flag=True, help="Print what it took as JSON.")
def pull(repo_path: str | None, remote_name: str, branches: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Fetch commits from a remote: refs, or checksums of commits.

    What has come is kept when the link breaks; the same command goes on from there.
    """
    from wherry.store.pull.pull import pull as run
    from wherry.store.pull.remote import find_remote

    if options["dry_run"] and not options["require_static_deltas"]:
        raise UsageError("--dry-run currently requires --require-static-deltas")
    repo = open_repo(repo_path)
    name, colon, branch = remote_name.partition(":")
    names = (branch, *branches) if colon else branches
    remote = find_remote(repo, name)
    if options["per_object_fsync"]:
        repo.per_object_fsync = True
    result = run(repo, remote, names, _options(repo, options), progress=settings().progress())
    for item in result.stats.refetched:
        click.echo(f"came damaged, fetched again: {item}", err=True)
    if result.delta_failed:
        click.echo(f"no static delta, single objects instead: {result.delta_failed}", err=True)
    if as_json:
        print_json(result.deltas) if options["dry_run"] else _print_stats(result.stats)
    elif result.deltas is not None:
        totals = result.deltas
        print(
            f"Delta update: {totals.parts_here}/{totals.parts} parts, {_size(0)}/{_size(totals.size_bytes)}, "
            f"{_size(totals.unpacked_bytes)} total uncompressed"
        )
    else:
        print(status_line(result))


def _options(repo: Repository, given: dict[str, Any]) -> PullOptions:
    from wherry.cli.store_sign import allow_dummy
    from wherry.core.units import parse_size
    from wherry.store.disk.receive import Rules
    from wherry.store.pull.downloads import PARALLEL, RETRIES
    from wherry.store.pull.pull import PullOptions
    from wherry.store.repository import Repository

    agent = f"libostree/{OSTREE_VERSION}"
    if given["append_user_agent"]:
        agent += f" {given['append_user_agent']}"
    headers = tuple(split_pair(item, "--http-header") for item in given["headers"])
    for text in (agent, *(part for pair in headers for part in pair)):
        if "\n" in text or "\r" in text:
            raise InvalidInput(f"a line break in a header: {text!r}")
    token = os.environ.get(given["token_env"]) if given["token_env"] else None
    rate = parse_size(given["limit_rate"], where="--limit-rate") if given["limit_rate"] else 0
    transfer = base_settings(
        user_agent=agent, headers=headers, token=token, ca_file=given["ca"], limit_rate_bytes_s=rate
    )
    for name, option in (
        ("low_speed_bytes_s", "low_speed_limit_bytes"),
        ("low_speed_time_s", "low_speed_time_seconds"),
    ):
        if given[option] is not None:
            transfer = replace(transfer, **{name: given[option]})
    base = given["timestamp_check_from_rev"]
    retries = 0 if given["disable_retry_on_network_errors"] else given["network_retries"]
    return PullOptions(
        mirror=given["mirror"],
        depth=given["depth"],
        commits_only=given["commit_metadata_only"],
        subpaths=given["subpaths"],
        url=given["url"] or "",
        deltas=not given["disable_static_deltas"] or given["require_static_deltas"],
        require_deltas=given["require_static_deltas"],
        dry_run=given["dry_run"],
        untrusted=given["untrusted"],
        rules=Rules(safe_modes=given["bareuseronly_files"], trusted=given["http_trusted"]),
        verify_bindings=not given["disable_verify_bindings"],
        verify_signatures=not given["disable_sign_verify"],
        timestamp_check=given["timestamp_check"],
        timestamp_check_from=repo.resolve(base) if base else None,
        caches=tuple(Repository.open(path) for path in given["caches"]),
        transfer=transfer,
        retries=RETRIES if retries is None else retries,
        parallel=given["max_outstanding_fetcher_requests"] or PARALLEL,
        max_bytes=parse_size(given["max_bytes"], where="--max-bytes") if given["max_bytes"] else 0,
        cache_dir=given["cache_dir"],
        use_cache=use_cache(),
        sync=not given["disable_fsync"],
        allow_dummy=allow_dummy(),
        tell_s=(given["update_frequency"] or 100) / 1000,
    )


def _print_stats(stats: PullStats) -> None:
    from wherry.spec.codec import encode

    found = encode(stats)  # without what is zero
    counts = found.pop("counts", {})
    counts.pop("content_wanted", None)  # for the progress alone
    print_json({**found, "objects": stats.objects, **counts})


def status_line(result: PullResult) -> str:
    """Returns what ``ostree pull`` says at its end."""
    stats = result.stats
    if result.local:
        return _imported(stats)
    counts = stats.counts
    loose = counts.metadata_fetched + counts.content_fetched
    if counts.parts_fetched:
        text = f"{counts.parts_fetched} delta parts, {loose} loose fetched"
    else:
        text = f"{counts.metadata_fetched} metadata, {counts.content_fetched} content objects fetched"
    if counts.metadata_imported or counts.content_imported:
        text += f" ({counts.metadata_imported} meta, {counts.content_imported} content local)"
    size = stats.bytes_received
    moved = f"{size // 1024} KiB" if size > 1024 else f"{size} B"
    return f"{text}; {moved} transferred in {stats.seconds:.0f} seconds; {_size(counts.content_bytes)} content written"


def _imported(stats: PullStats) -> str:
    counts = stats.counts
    return (
        f"{counts.metadata_imported} metadata, {counts.content_imported} content objects imported; "
        f"{_size(counts.content_bytes)} content written"
    )


def _size(count: int) -> str:
    """Returns a size as ``ostree pull`` prints it: GLib's, with a plain space before bytes."""
    text = glib_size(count)
    return text.replace(_NBSP, " ") if count < 1000 else text


@click.command(
    "pull-local",
    epilog="\b\nExample:\n  wherry store pull-local --repo=repo /srv/other-repo os/main",
)
@repo_option
@click.argument("source", metavar="SRC_REPO", type=click.Path(path_type=Path))
@click.argument("revs", nargs=-1, metavar="[REF]...")
@click.option("--commit-metadata-only", is_flag=True, help="Only the commits, without their trees.")
@click.option("--remote", "remote_name", default="", metavar="REMOTE", help="Write the refs as REMOTE:REF.")
@click.option("--disable-fsync", is_flag=True, help="Leave the syncs out: for what can be pulled again.")
@click.option("--per-object-fsync", is_flag=True, help="Sync each object by itself, so that others are not held up.")
@click.option("--untrusted", is_flag=True, help="Copy and check every object, do not link.")
@click.option("--bareuseronly-files", is_flag=True, help="Refuse files with modes outside of 0775.")
@click.option("--require-static-deltas", is_flag=True, help="Fail when there is no delta.")
@click.option("--disable-static-deltas", is_flag=True, help="Copy single objects, as is done without this, too.")
@refused_option("--gpg-verify", reason=NO_GPG, is_flag=True)
@refused_option("--gpg-verify-summary", reason=NO_GPG, is_flag=True)
@click.option("--disable-verify-bindings", is_flag=True, help="Take commits that were made for other refs.")
@click.option("--depth", type=click.IntRange(min=-1), default=0, help="How many parents too (-1: all).")
@click.option("--json", "as_json", is_flag=True, help="Print what it took as JSON.")
def pull_local(
    repo_path: str | None, source: Path, revs: tuple[str, ...], remote_name: str, as_json: bool, **options: Any
) -> None:
    """Copy commits from another repository on this machine: refs (all of them when none is named) or checksums."""
    from wherry.store.disk.receive import Rules
    from wherry.store.pull.local import pull_local as copy
    from wherry.store.repository import Repository

    repo = open_repo(repo_path)
    if options["per_object_fsync"]:
        repo.per_object_fsync = True
    if options["require_static_deltas"] and options["disable_static_deltas"]:
        raise UsageError("Cannot specify both --require-static-deltas and --disable-static-deltas")
    if options["require_static_deltas"]:
        result = _pull_local_deltas(repo, source, revs, remote_name, options)
        _print_stats(result.stats) if as_json else print(status_line(result))
        return
    src = Repository.open(source)
    names = list(revs) or [str(ref) for ref in src.refs()]
    if not revs:
        for name in names:
            if ":" in name:
                raise InvalidInput(
                    f"Invalid ref name {name}", hint="name the refs that you want; this one is a remote's"
                )
    repo.fsync = repo.fsync and not options["disable_fsync"]
    stats = copy(
        repo,
        src,
        names,
        remote=remote_name,
        depth=options["depth"],
        untrusted=options["untrusted"],
        commits_only=options["commit_metadata_only"],
        rules=Rules(safe_modes=options["bareuseronly_files"]),
        verify_bindings=not options["disable_verify_bindings"],
        progress=settings().progress(),
    )
    _print_stats(stats) if as_json else print(_imported(stats))


def _pull_local_deltas(
    repo: Repository, source: Path, revs: tuple[str, ...], remote_name: str, options: dict[str, Any]
) -> PullResult:
    """Pulls by the static deltas of a repository on this machine."""
    from wherry.store.disk.receive import Rules
    from wherry.store.pull.pull import PullOptions, pull
    from wherry.store.pull.remote import Remote
    from wherry.store.repository import Repository

    src = Repository.open(source)
    remote = Remote(
        name=remote_name,
        values={"url": source.resolve().as_uri(), "gpg-verify": "false", "collection-id": src.collection_id},
    )
    wanted = PullOptions(
        require_deltas=True,
        depth=options["depth"],
        rules=Rules(safe_modes=options["bareuseronly_files"]),
        verify_bindings=not options["disable_verify_bindings"],
        verify_signatures=False,
        use_cache=False,
        sync=not options["disable_fsync"],
        transfer=base_settings(),
    )
    names = revs or tuple(str(ref) for ref in src.refs() if ":" not in ref)
    return pull(repo, remote, names, wanted, progress=settings().progress())
