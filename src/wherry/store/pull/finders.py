"""Finding out who has refs of collections: the remotes in the config, and media that are mounted.

The network around this machine is not asked (no Avahi). What a medium offers counts only for collections that a remote
in the config is of: its keys say what may come from there.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.errors import NotFound, WherryError
from wherry.core.progress import QUIET, Progress
from wherry.store.pull.pull import PullOptions, pull, read_remote_summary
from wherry.store.pull.remote import Remote, list_remotes
from wherry.store.pull.usb import repositories_on
from wherry.store.refs import CollectionRef
from wherry.store.summary import Summary, parse_summary, swap64

if TYPE_CHECKING:
    from wherry.store.repository import Repository

MEDIA_FOLDERS = ("/run/media", "/media", "/mnt")
"""Where media are mounted; only what is a mount of its own below one of them is looked at."""
_LAST_MODIFIED = "ostree.summary.last-modified"


class Finder(enum.StrEnum):
    """Where to look."""

    CONFIG = "config"
    MOUNT = "mount"


_PRIORITIES = {Finder.MOUNT: 50, Finder.CONFIG: 100}
"""As ostree's; the lower is taken first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One place that has some of what was asked for."""

    finder: Finder
    remote: Remote
    url: str
    refs: Mapping[CollectionRef, Checksum | None]
    """None: not there, or an older commit than somewhere else."""
    times: Mapping[CollectionRef, int] = field(default_factory=dict)
    last_modified_s: int | None = None

    @property
    def priority(self) -> int:
        """The lower is taken first."""
        return _PRIORITIES[self.finder]


def find_remotes(
    repo: Repository,
    refs: Sequence[CollectionRef],
    finders: Iterable[Finder] = (Finder.CONFIG, Finder.MOUNT),
    *,
    cache_dir: Path | None = None,
    mounts: Sequence[Path] | None = None,
    failed: list[tuple[str, str]] | None = None,
) -> list[Result]:
    """Asks every place for refs.

    Args:
        repo: whose remotes count.
        refs: what is wanted.
        finders: where to look.
        cache_dir: where summaries are kept; None: in the repository.
        mounts: the media; None: what is mounted below ``MEDIA_FOLDERS``.
        failed: is told which place could not be asked, and why.

    Returns:
        Those that have something, the best first.
    """
    wanted = set(finders)
    found: list[Result] = []
    failed = [] if failed is None else failed
    remotes = [remote for remote in list_remotes(repo).values() if remote.collection_id]
    if Finder.CONFIG in wanted:
        for remote in remotes:
            try:
                fetched = read_remote_summary(repo, remote, cache_dir=cache_dir)
                summary = parse_summary(fetched.data, where=f"summary of {remote.name}")
            except WherryError as error:
                failed.append((remote.name, str(error)))
                continue
            found += _result(Finder.CONFIG, remote, remote.url, summary, refs)
    if Finder.MOUNT in wanted:
        for mount in mounted_media() if mounts is None else mounts:
            for path in repositories_on(mount):
                found += _on_medium(path, remotes, refs, failed)
    return sorted(_only_latest(found), key=lambda result: (result.priority, -(result.last_modified_s or 0)))


def pull_found(
    repo: Repository,
    results: Sequence[Result],
    *,
    mirror: bool = False,
    sync: bool = True,
    progress: Progress = QUIET,
) -> list[CollectionRef]:
    """Pulls each ref that was found from the first place that has it.

    Returns:
        What was pulled.

    Raises:
        WherryError: as of ``pull``, when no place could give some ref.
    """
    done: dict[CollectionRef, None] = {}
    error: WherryError | None = None
    for result in results:
        names = [f"{ref.name}@{commit}" for ref, commit in result.refs.items() if commit and ref not in done]
        if not names:
            continue
        options = PullOptions(url=result.url, mirror=mirror, sync=sync)
        try:
            pull(repo, result.remote, names, options, progress=progress)
        except WherryError as caught:
            error = caught
            continue
        done.update(dict.fromkeys(ref for ref, commit in result.refs.items() if commit))
    missed = {ref for result in results for ref, commit in result.refs.items() if commit} - set(done)
    if missed and error is not None:
        raise NotFound(
            f"Failed to pull some refs from the remotes: {', '.join(map(str, sorted(missed)))}", where=error
        ) from error
    return list(done)


def mounted_media() -> list[Path]:
    """Returns where media are mounted now."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        place = line.split(" ")[4].encode("ascii", "backslashreplace").decode("unicode_escape")
        if any(place.startswith(f"{folder}/") or place == folder for folder in MEDIA_FOLDERS):
            found.append(Path(place))
    return sorted(found)


def _on_medium(
    path: Path, remotes: Sequence[Remote], refs: Sequence[CollectionRef], failed: list[tuple[str, str]]
) -> list[Result]:
    try:
        with open(path / "summary", "rb") as file:
            summary = parse_summary(file.read(_MAX_SUMMARY_BYTES + 1), where=path / "summary")
    except (OSError, WherryError) as error:
        failed.append((str(path), str(error)))
        return []
    found: list[Result] = []
    for remote in remotes:
        asked = [ref for ref in refs if ref.collection == remote.collection_id]
        found += _result(Finder.MOUNT, remote, path.absolute().as_uri(), summary, asked)
    return found


_MAX_SUMMARY_BYTES = 64 * 1024 * 1024


def _result(finder: Finder, remote: Remote, url: str, summary: Summary, refs: Sequence[CollectionRef]) -> list[Result]:
    """Returns what a summary has of the refs; nothing when it has none."""
    entries = {
        CollectionRef(collection, str(entry.ref)): entry
        for collection, items in ((summary.collection_id, summary.refs), *summary.mirrored.items())
        for entry in items
    }
    served = {collection for collection, _ in entries} & {remote.collection_id}
    asked = [ref for ref in refs if ref.collection in served]
    known = {ref: entries[ref] for ref in asked if ref in entries}
    if not known:
        return []
    modified = summary.metadata.get(_LAST_MODIFIED)
    return [
        Result(
            finder=finder,
            remote=remote,
            url=url,
            refs={ref: known[ref].commit if ref in known else None for ref in asked},
            times={ref: entry.timestamp_s or 0 for ref, entry in known.items()},
            last_modified_s=swap64(modified) if isinstance(modified, int) else None,
        )
    ]


def _only_latest(results: list[Result]) -> list[Result]:
    """Takes commits out for which another place has a later one."""
    latest: dict[CollectionRef, int] = {}
    for result in results:
        for ref, time_s in result.times.items():
            latest[ref] = max(latest.get(ref, 0), time_s)
    found = []
    for result in results:
        refs = {
            ref: commit if commit and result.times[ref] == latest[ref] else None for ref, commit in result.refs.items()
        }
        if any(refs.values()):
            found.append(replace(result, refs=refs))
    return found
