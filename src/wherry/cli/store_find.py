"""``wherry store find-remotes``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry.cli.context import settings
from wherry.cli.output import note
from wherry.cli.store import open_repo, repo_option
from wherry.cli.store_usb import collection_refs
from wherry.core.errors import Unsupported, UsageError

if TYPE_CHECKING:
    from wherry.store.pull.finders import Finder, Result

_NAMES = {"config": "OstreeRepoFinderConfig", "mount": "OstreeRepoFinderMount"}


@click.command(
    "find-remotes",
    epilog="""\b
Examples:
  wherry store find-remotes --repo=repo org.example.Os os/main
  wherry store find-remotes --repo=repo --finders=mount --pull org.example.Os os/main

Finders: config asks the remotes that have a collection-id, mount looks at media below
/run/media, /media and /mnt (create-usb makes them). The network is not searched (lan).""",
)
@repo_option
@click.argument("words", nargs=-1, metavar="COLLECTION-ID REF [COLLECTION-ID REF...]")
@click.option("--cache-dir", type=click.Path(path_type=Path), metavar="DIR", help="Where summaries are kept.")
@click.option("--disable-fsync", is_flag=True, help="Do not wait until what is pulled is on the disk.")
@click.option("--finders", metavar="FINDERS", help="Where to look, with commas between: config,mount.")
@click.option("--pull", "pulls", is_flag=True, help="Pull what was found.")
@click.option("--mirror", is_flag=True, help="With --pull: as `pull --mirror` does.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def find_remotes(
    repo_path: str | None,
    words: tuple[str, ...],
    cache_dir: Path | None,
    disable_fsync: bool,
    finders: str | None,
    pulls: bool,
    mirror: bool,
    as_json: bool,
) -> None:
    """Find remotes and media that have the refs of collections."""
    from wherry.store.pull.finders import find_remotes as find
    from wherry.store.pull.finders import pull_found

    refs = collection_refs(words)
    if mirror and not pulls:
        raise UsageError("When --mirror is specified, --pull must also be")
    chosen = _finders(finders)
    repo = open_repo(repo_path)
    failed: list[tuple[str, str]] = []
    results = find(repo, refs, chosen, cache_dir=cache_dir, failed=failed)
    for name, why in failed:
        note(f"{name} was not asked: {why}", quiet=settings().quiet)
    found = {ref for result in results for ref, commit in result.refs.items() if commit}
    if as_json:
        _print_json(results)
    else:
        for number, result in enumerate(results):
            _print(number, result)
        if not results:
            print("No results.")
            return
        print(f"{len(found)}/{len(refs)} refs were found.")
        missing = [ref for ref in refs if ref not in found]
        if missing:
            print("Refs not found in any remote:")
            for ref in missing:
                print(f" - {ref}")
    if pulls and results:
        pull_found(repo, results, mirror=mirror, sync=not disable_fsync, progress=settings().progress())
        if not as_json:
            print(f"Pulled {len(found)}/{len(refs)} refs successfully.")


def _finders(text: str | None) -> list[Finder]:
    from wherry.store.pull.finders import Finder

    if text is None:
        return list(Finder)
    words = [word for word in text.split(",") if word]
    if not words:
        raise UsageError("List of finders in --finders option must not be empty")
    if "lan" in words:
        raise Unsupported("LAN repo finder requested but Wherry does not search the network", hint="config,mount")
    known = {str(finder) for finder in Finder}
    for word in words:
        if word not in known or words.count(word) > 1:
            raise UsageError(f"Unknown or duplicate finder type given in --finders option: ‘{word}’")
    return [Finder(word) for word in words]


def _print(number: int, result: Result) -> None:
    print(f"Result {number}: {result.url}")
    print(f" - Finder: {_NAMES[result.finder]}")
    print(f" - Keyring: {result.remote.name}.trustedkeys.gpg")
    print(f" - Priority: {result.priority}")
    print(f" - Summary last modified: {_date(result.last_modified_s)}")
    print(" - Refs:")
    for ref, commit in result.refs.items():
        print(f"    - {ref} = {commit or '(not found)'}")
    print()


def _date(time_s: int | None) -> str:
    from datetime import UTC, datetime

    if time_s is None:
        return "unknown"
    try:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return "invalid"


def _print_json(results: list[Result]) -> None:
    from wherry.cli.output import print_json

    print_json(
        [
            {
                "url": result.url,
                "finder": str(result.finder),
                "remote": result.remote.name,
                "priority": result.priority,
                "last_modified_s": result.last_modified_s,
                "refs": [
                    {"collection": ref.collection, "ref": ref.name, "commit": commit}
                    for ref, commit in result.refs.items()
                ],
            }
            for result in results
        ]
    )
