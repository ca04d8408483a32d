"""Single objects, and single refs, of a remote: for repairs. No refs move, and nothing is gone through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum, is_checksum
from wherry.core.errors import NotFound
from wherry.core.progress import QUIET, Progress
from wherry.core.transfer import SETTINGS, Transfers, TransferSettings
from wherry.store.disk.objectset import ObjectName
from wherry.store.format.objects import Mode, ObjectType, object_name
from wherry.store.pull.adopt import Source
from wherry.store.pull.downloads import Download, Limits
from wherry.store.pull.remote import cookie_path, find_remote
from wherry.store.pull.scan import MAX_DETACHED_BYTES, MAX_FETCHED_METADATA_BYTES, Arrived, Scan, ScanOptions
from wherry.store.pull.session import Session
from wherry.store.pull.stats import Counts
from wherry.store.pull.web import Web, local_path, transfer_settings
from wherry.store.refs import find_ref, parse_ref

if TYPE_CHECKING:
    from wherry.store.disk.transaction import Transaction
    from wherry.store.repository import Repository

MAX_REF_BYTES = 1024


def fetch_objects(
    repo: Repository,
    remote: str,
    wanted: Iterable[ObjectName],
    *,
    progress: Progress = QUIET,
    transfer: TransferSettings = SETTINGS,
) -> tuple[ObjectName, ...]:
    """Fetches objects from a remote, each checked, and writes those that are not here.

    Args:
        repo: where to.
        remote: its name in the config.
        wanted: which.
        progress: is told how many have come.
        transfer: how to speak to servers.

    Returns:
        Those that the remote does not have.

    Raises:
        NotFound: there is no such remote.
        IntegrityError: one came damaged twice.
        NetworkError: no answer after several tries; what has come is kept.
    """
    found = find_remote(repo, remote)
    path = local_path(found.url)
    if path is not None:
        return copy_objects(repo, path, wanted)
    lacking: list[ObjectName] = []
    with _web(repo, remote, transfer) as (transfers, web), repo.transaction() as transaction:
        session = Session(transaction, transfers, web.mirrors, Limits(), progress)
        scan = Scan(transaction, (), check=_take, options=ScanOptions(), counts=Counts())
        with session.downloading(scan):
            assert scan.downloads is not None  # noqa: S101 the session has set it
            for kind, checksum in wanted:
                if kind is not ObjectType.FILE:
                    scan.downloads.want(_metadata(transaction, kind, checksum, lacking))
                elif not repo.has(kind, checksum):
                    download = scan.file_download(checksum)
                    download.optional = True
                    download.missing = _noting(lacking, (kind, checksum))
                    scan.downloads.want(download)
    return tuple(lacking)


def remote_ref(repo: Repository, remote: str, ref: str, *, transfer: TransferSettings = SETTINGS) -> Checksum | None:
    """Returns the commit of a ref of a remote; None when it has no such ref.

    Raises:
        NotFound: there is no such remote.
        NetworkError: no answer after several tries.
    """
    found = find_remote(repo, remote)
    path = local_path(found.url)
    if path is not None:
        return find_ref(path, ref)
    with _web(repo, remote, transfer) as (_, web):
        try:
            text = web.read(f"refs/heads/{parse_ref(ref)}", MAX_REF_BYTES).body.decode("ascii", errors="replace")
        except NotFound:
            return None
    return Checksum(text.strip()) if is_checksum(text.strip()) else None


@contextmanager
def _web(repo: Repository, remote: str, transfer: TransferSettings) -> Iterator[tuple[Transfers, Web]]:
    found = find_remote(repo, remote)
    settings = transfer_settings(found, replace(transfer), cookie_file=cookie_path(repo, remote))
    transfers = Transfers(settings)
    try:
        yield transfers, Web(transfers, found.url, found.get("contenturl"))
    finally:
        transfers.close()


def _metadata(transaction: Transaction, kind: ObjectType, checksum: Checksum, lacking: list[ObjectName]) -> Download:
    def came(data: bytes | None) -> None:
        assert data is not None  # noqa: S101 `missing` is called then
        transaction.write_metadata(kind, data, checksum)

    return Download(
        path=f"objects/{object_name(kind, checksum, Mode.ARCHIVE)}",
        max_bytes=MAX_DETACHED_BYTES if kind is ObjectType.COMMITMETA else MAX_FETCHED_METADATA_BYTES,
        done=came,
        optional=True,
        missing=_noting(lacking, (kind, checksum)),
        label=f"{checksum}.{kind.extension}",
    )


def _noting(lacking: list[ObjectName], name: ObjectName) -> Callable[[], None]:
    return lambda: lacking.append(name)


def _take(_: Arrived) -> None:
    """No commit is gone through."""


def copy_objects(repo: Repository, path: Path, wanted: Iterable[ObjectName]) -> tuple[ObjectName, ...]:
    """Copies objects from a repository on this machine, each checked; returns those that it does not have."""
    lacking = []
    with repo.transaction() as transaction:
        source = Source(type(repo).open(path), transaction, untrusted=True)
        for kind, checksum in wanted:
            if not source.has(kind, checksum):
                lacking.append((kind, checksum))
            elif kind is not ObjectType.FILE:
                source.metadata(kind, checksum)
            elif not repo.has(kind, checksum):
                source.copy(checksum)
    return tuple(lacking)
