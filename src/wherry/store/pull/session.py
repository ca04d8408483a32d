"""One run of downloads into a transaction: published every few seconds, told about, and kept when it breaks off."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wherry.core.errors import NoSpace, TrustError
from wherry.core.progress import Progress
from wherry.core.trace import reach
from wherry.core.transfer import Transfers
from wherry.store.pull.downloads import Downloads, Limits, Mirrors
from wherry.store.pull.parts import PARTS

if TYPE_CHECKING:
    from wherry.store.disk.transaction import Transaction
    from wherry.store.pull.scan import Scan

CHECKPOINT_S = 5.0
CHECKPOINT_BYTES = 64 * 1024 * 1024


class Session:
    """What the runs of one pull share.

    Args:
        transaction: where objects go.
        transfers: the network.
        mirrors: where the remote is.
        limits: what may be taken.
        progress: is told how far it is.
        tell_s: how often.
    """

    def __init__(
        self,
        transaction: Transaction,
        transfers: Transfers,
        mirrors: Mirrors,
        limits: Limits,
        progress: Progress,
        *,
        tell_s: float = 0.1,
    ) -> None:
        self._transaction = transaction
        self._transfers = transfers
        self._mirrors = mirrors
        self._limits = limits
        self._progress = progress
        self._tell_s = tell_s
        self._saved_s = self._told_s = time.monotonic()
        self._saved_bytes = 0
        self._scan: Scan | None = None
        self.refetched: list[str] = []

    def run(self, scan: Scan, *, network: bool = True) -> None:
        """Works a scan off.

        Args:
            scan: with what is wanted in it.
            network: whether the network may be asked.
        """
        if network:
            with self.downloading(scan):
                pass
            return
        self._scan = scan
        with self._keeping():
            while scan.work():
                self._tick()

    @contextmanager
    def downloading(self, scan: Scan) -> Iterator[None]:
        """Lets the block want downloads, then runs them and the scan."""
        self._scan = scan
        repo, transaction = self._transaction.repo, self._transaction
        downloads = Downloads(
            self._transfers,
            self._mirrors,
            repo.path / PARTS,
            prepare=lambda: repo.join(transaction),
            tick=self._tick,
            reserve=transaction.reserve,
            work=scan.work,
            supply=scan.next_file,
            limits=self._limits,
        )
        scan.downloads = downloads
        try:
            with self._keeping(downloads):
                yield
                downloads.run()
        finally:
            downloads.close()
            self._transfers.cancel()
            self.refetched += downloads.refetched

    @contextmanager
    def _keeping(self, downloads: Downloads | None = None) -> Iterator[None]:
        """Keeps what has come when the block breaks off, unless nothing of it may stay."""
        try:
            yield
        except (NoSpace, TrustError):
            raise
        except BaseException:
            if downloads is not None:
                downloads.close()
            self._transaction.checkpoint()
            raise

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._told_s >= self._tell_s:
            self._told_s = now
            self._tell()
        received = self._transfers.bytes_received
        if now - self._saved_s > CHECKPOINT_S or received - self._saved_bytes > CHECKPOINT_BYTES:
            self._transaction.checkpoint()
            reach("store.fetch.checkpoint")
            self._saved_s = time.monotonic()
            self._saved_bytes = received

    def _tell(self) -> None:
        scan = self._scan
        if scan is None:
            return
        counts = scan.counts
        if counts.content_wanted:
            self._progress.update("fetching objects", counts.content_fetched, counts.content_wanted, unit="objects")
        else:
            self._progress.update("fetching directories", counts.metadata_fetched, None, unit="objects")
        self._progress.update("fetching", self._transfers.bytes_received, None, unit="B")
