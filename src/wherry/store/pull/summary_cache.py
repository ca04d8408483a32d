"""The summary of a remote: fetched when it has changed, checked, and kept.

::

    tmp/cache/summaries/REMOTE        the summary; its time is the server's Last-Modified
    tmp/cache/summaries/REMOTE.sig    its signatures
                                      user.wherry.etag on both: the server's ETag, where the file system takes it

Names and content are OSTree's, so both programs use one cache. The signatures are asked for first: when they are those
that are here, so is the summary. A summary from here that does not fit them is thrown away, not believed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wherry.core.durable import map_os_error, write_file
from wherry.core.errors import NotFound, TrustError
from wherry.core.trace import reach
from wherry.core.transfer import Transfer
from wherry.store.pull.trust import RemoteTrust
from wherry.store.pull.web import MAX_SUMMARY_BYTES

FOLDER = "summaries"
MAX_SIGNATURE_BYTES = 1024 * 1024
_ETAG = "user.wherry.etag"
_MAX_ETAG_CHARS = 1024

Read = Callable[[str, int, tuple[str, ...]], Transfer]
"""Reads a file of the remote: its path, the limit, further headers. Raises NotFound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A summary and its signatures."""

    data: bytes
    signatures: bytes | None


class SummaryCache:
    """What is kept of one remote's summary.

    Args:
        folder: ``tmp/cache`` of the repository, or another that the caller names.
        name: of the remote.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder / FOLDER
        self._name = name

    def path(self, file: str) -> Path:
        """Returns where ``summary`` or ``summary.sig`` is kept."""
        return self._folder / (self._name + file.removeprefix("summary"))

    def load(self, file: str) -> bytes | None:
        """Returns what is kept."""
        try:
            return self.path(file).read_bytes()
        except OSError:
            return None

    def conditions(self, file: str) -> tuple[str, ...]:
        """Returns the headers that ask for a file only when it is another."""
        from email.utils import formatdate

        path = self.path(file)
        try:
            modified_s = int(path.stat().st_mtime)
            try:
                etag = os.getxattr(path, _ETAG).decode("latin-1")
            except OSError:
                etag = ""
        except OSError:
            return ()
        found = (f"If-None-Match: {etag}",) if etag else ()
        return (*found, f"If-Modified-Since: {formatdate(modified_s, usegmt=True)}") if modified_s else found

    def store(self, file: str, transfer: Transfer) -> None:
        """Keeps what was fetched.

        Raises:
            NoSpace: the disk is full.
        """
        from email.utils import parsedate_to_datetime

        path = self.path(file)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise map_os_error(error, "cannot keep a summary", where=path) from error
        if self.load(file) != transfer.body:
            write_file(path, transfer.body)
        try:
            when = parsedate_to_datetime(transfer.answer_headers.get("last-modified", "")).timestamp()
        except (ValueError, TypeError, OverflowError):
            when = 0
        os.utime(path, (when, when))
        etag = transfer.answer_headers.get("etag", "")
        if etag and len(etag) <= _MAX_ETAG_CHARS:
            try:
                os.setxattr(path, _ETAG, etag.encode("latin-1"))
            except OSError:
                pass  # a file system without extended attributes

    def drop(self, file: str) -> None:
        """Throws away what is kept."""
        self.path(file).unlink(missing_ok=True)


def fetch_summary(read: Read, cache: SummaryCache | None, trust: RemoteTrust, *, where: object) -> Fetched | None:
    """Returns the summary of a remote, checked as `trust` asks; None when there is none, and none is asked for.

    Args:
        read: reads a file of the remote.
        cache: what is here of it; None: nothing is to be kept.
        trust: what it must be signed by.
        where: the remote, for errors.

    Raises:
        TrustError: it is not signed as it should be.
        NetworkError: no answer.
    """
    signatures = _fetch(read, cache, "summary.sig", MAX_SIGNATURE_BYTES)
    signed = signatures.body if signatures is not None else None
    believed = cache
    if cache is not None and signed is not None and signed == cache.load("summary.sig"):
        known = cache.load("summary")
        if known is not None:
            try:
                trust.check_summary(known, signed, where=where)
                return Fetched(data=known, signatures=signed)
            except TrustError:
                reach("store.summary.invalid-cache")
                believed = None
    found = _fetch(read, believed, "summary", MAX_SUMMARY_BYTES)
    if found is None:
        if trust.signed_summary:
            raise TrustError("summary verification is enabled, but there is no summary", where=where)
        return None
    try:
        trust.check_summary(found.body, signed, where=where)
    except TrustError:
        if found.status != 304:
            raise
        found = read("summary", MAX_SUMMARY_BYTES, ())  # what is kept is old, though the server says it is not
        trust.check_summary(found.body, signed, where=where)
    if cache is not None:
        _keep(cache, "summary", found)
        _keep(cache, "summary.sig", signatures)
    return Fetched(data=found.body, signatures=signed)


def _keep(cache: SummaryCache, file: str, transfer: Transfer | None) -> None:
    if transfer is None:
        cache.drop(file)
    elif transfer.status != 304:
        cache.store(file, transfer)


def _fetch(read: Read, cache: SummaryCache | None, file: str, limit: int) -> Transfer | None:
    """Reads a file of the remote, or what is kept of it when it has not changed; None when there is none."""
    known = cache.load(file) if cache is not None else None
    conditions = cache.conditions(file) if cache is not None and known is not None else ()
    try:
        found = read(file, limit, conditions)
    except NotFound:
        return None
    if found.status == 304 and known is not None:
        found.pieces = [known]
    return found
