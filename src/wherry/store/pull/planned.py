"""Pulling in two steps, for those who must know what is missing before they fetch it: devices and clones.

``plan`` fetches commits and directories, and says which files are missing; ``fetch`` gets those. Between the two the
caller may ask what it costs, and whether it fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from wherry.core.digest import Checksum, Ref, is_checksum, parse_checksum
from wherry.core.errors import IntegrityError, NotFound, Unsupported
from wherry.core.progress import QUIET, Progress
from wherry.core.trace import reach
from wherry.core.transfer import Transfers, TransferSettings
from wherry.store import refs
from wherry.store.config import Config
from wherry.store.format import objects
from wherry.store.format.objects import Mode, ObjectType, object_name
from wherry.store.pull.downloads import PARALLEL, Limits
from wherry.store.pull.scan import MAX_DETACHED_BYTES, Arrived, Scan, ScanOptions
from wherry.store.pull.session import Session
from wherry.store.pull.stats import Counts, PullStats
from wherry.store.pull.web import MAX_CONFIG_BYTES, MAX_SUMMARY_BYTES, Web
from wherry.store.tree.walk import gaps

if TYPE_CHECKING:
    from wherry.core.http import HttpClient
    from wherry.store.repository import Repository

MAX_REF_BYTES = 1024

Verify = Callable[[Checksum, bytes, Mapping[str, Any]], None]
"""Called with a commit, its bytes and its detached metadata; raises TrustError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What has to be fetched for some commits."""

    commits: tuple[Checksum, ...]
    missing_files: tuple[str, ...]
    """Names of file objects, ``xx/yyyy.filez``, sorted."""
    metadata_fetched: int
    metadata_bytes: int


class RemotePull:
    """Pulls from one archive repository over HTTP.

    Args:
        dest: where to.
        client: the server; its token and certificates count.
        base_path: where the repository is on it.
        verify: checks whose commit it is, before anything of its tree is fetched.
        transfer: what else there is to say about the network: the rate, proxies.
    """

    def __init__(
        self,
        dest: Repository,
        client: HttpClient,
        base_path: str = "/repo",
        *,
        verify: Verify | None = None,
        transfer: TransferSettings | None = None,
    ) -> None:
        self._dest = dest
        self._client = client
        self._url = f"{client.base_url}{base_path.rstrip('/')}"
        self._verify = verify
        self._transfer = transfer or TransferSettings()

    # --- what there is

    def check_remote(self) -> None:
        """Asks for the repository's config.

        Raises:
            NotFound: there is no repository.
            Unsupported: it is no archive, so that it cannot be pulled over HTTP.
        """
        config = Config(self._read("config", MAX_CONFIG_BYTES).decode(errors="replace"), where="the remote's config")
        mode = config.get("core", "mode", "bare")
        if mode not in ("archive", "archive-z2"):
            raise Unsupported(
                f"a repository of mode {mode} cannot be pulled over HTTP",
                where=self._url,
                hint="serve one of mode archive",
            )

    def resolve(self, ref: str) -> Checksum:
        """Returns the commit of a ref there.

        Raises:
            NotFound: there is no such ref.
        """
        if is_checksum(ref):
            return Checksum(ref)
        name = refs.parse_ref(ref)
        try:
            data = self._read(f"refs/heads/{name}", MAX_REF_BYTES)
        except NotFound:
            found = self.remote_refs().get(name)
            if found is None:
                raise NotFound(f"no such ref on the server: {ref}", where=self._url) from None
            return found
        return parse_checksum(data.decode("ascii", errors="replace").strip(), where=f"ref {ref} on the server")

    def remote_refs(self) -> dict[Ref, Checksum]:
        """Returns the refs that the server's summary lists; none when it has no summary."""
        from wherry.store.summary import parse_summary

        try:
            data = self._read("summary", MAX_SUMMARY_BYTES)
        except NotFound:
            return {}
        return {entry.ref: entry.commit for entry in parse_summary(data, where="the server's summary").refs}

    def _read(self, name: str, limit: int) -> bytes:
        with self._network() as (_, web):
            return web.read(name, limit).body

    @contextmanager
    def _network(self, parallel: int = PARALLEL) -> Iterator[tuple[Transfers, Web]]:
        settings = replace(self._transfer, token=self._client.token, ca_file=self._client.ca_file)
        transfers = Transfers(settings, parallel=parallel)
        try:
            yield transfers, Web(transfers, self._url)
        finally:
            self._client.bytes_received += transfers.bytes_received
            self._client.requests += transfers.requests
            transfers.close()

    # --- pulling

    def plan(
        self, commits: Iterable[Checksum], *, depth: int = 0, parallel: int = PARALLEL, progress: Progress = QUIET
    ) -> Plan:
        """Fetches the commits and their directories, and finds out which files are missing.

        Args:
            commits: which.
            depth: how many parents of each too; -1 for all that the server has.
            parallel: requests at a time.
            progress: is told how many directories have come.

        Returns:
            What to hand to ``fetch``.

        Raises:
            NotFound: the server lacks something.
            IntegrityError: the server has something damaged.
            TrustError: `verify` says so.
        """
        counts = Counts()
        options = ScanOptions(files=False)
        with self._dest.transaction() as transaction, self._network(parallel) as (transfers, web):
            session = Session(transaction, transfers, web.mirrors, Limits(), progress)
            scan = Scan(transaction, (), check=self._check, options=options, counts=counts)
            for commit in dict.fromkeys(commits):
                scan.want(commit, depth=depth)
            session.run(scan)
            received = transfers.bytes_received
        names = sorted(object_name(ObjectType.FILE, checksum, Mode.ARCHIVE) for checksum in scan.missing)
        return Plan(
            commits=tuple(scan.taken),
            missing_files=tuple(names),
            metadata_fetched=scan.written_metadata,
            metadata_bytes=received,
        )

    def fetch(self, plan: Plan, *, progress: Progress = QUIET, parallel: int = PARALLEL) -> PullStats:
        """Fetches the files of a plan, and marks its commits complete.

        Args:
            plan: from ``plan``.
            progress: is told how many objects have come, and how many bytes.
            parallel: requests at a time.

        Returns:
            What it took, the plan's own requests included.

        Raises:
            NotFound: the server lacks an object.
            IntegrityError: an object came damaged twice.
            NetworkError: no answer after several tries; what has come is kept.
            NoSpace: the disk is full, or would be.
        """
        counts = Counts()
        with self._dest.transaction() as transaction, self._network(parallel) as (transfers, web):
            session = Session(transaction, transfers, web.mirrors, Limits(), progress)
            scan = Scan(transaction, (), check=self._check, options=ScanOptions(), counts=counts)
            with session.downloading(scan):
                for name in plan.missing_files:
                    scan.want_file(objects.parse_object_name(name)[1])
            received = transfers.bytes_received
            transaction.checkpoint(last=True)
            self._complete(plan.commits)
        counts.metadata_fetched += plan.metadata_fetched
        return PullStats(
            counts=counts,
            bytes_received=received + plan.metadata_bytes,
            refetched=tuple(session.refetched),
        )

    def commit(self, plan: Plan, moved: Mapping[Ref, Checksum] | None = None) -> None:
        """Marks the commits of a plan complete, as ``fetch`` does too, and moves refs.

        Raises:
            IntegrityError: an object is missing.
        """
        self._complete(plan.commits)
        if moved:
            with self._dest.transaction() as transaction:
                for ref, checksum in moved.items():
                    transaction.set_ref(ref, checksum)

    def fetch_detached(self, commit: Checksum) -> dict[str, Any]:
        """Fetches the detached metadata of a commit anew, keeps and returns it; empty when there is none.

        Raises:
            InvalidInput: it is malformed; what was here stays.
        """
        name = object_name(ObjectType.COMMITMETA, commit, Mode.ARCHIVE)
        try:
            data = self._read(f"objects/{name}", MAX_DETACHED_BYTES)
        except NotFound:
            return {}
        found = objects.parse_dict(data, where=f"detached metadata of {commit}")
        with self._dest.transaction() as transaction:
            transaction.write_metadata(ObjectType.COMMITMETA, data, commit)
        return found

    def _check(self, arrived: Arrived) -> None:
        if self._verify is not None:
            detached = objects.parse_dict(arrived.detached, where=arrived.checksum) if arrived.detached else {}
            self._verify(arrived.checksum, arrived.data, detached)

    def _complete(self, commits: Iterable[Checksum]) -> None:
        for commit in commits:
            if not self._dest.is_partial(commit):
                continue
            lacking = next(gaps(self._dest, commit), None)
            if lacking is not None:
                raise IntegrityError("a pulled commit lacks an object", where=lacking, hint="pull it again")
            reach("store.pull.complete")
            self._dest.mark_complete(commit)
