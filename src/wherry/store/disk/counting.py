"""Counts what a commit writes, for ``--table-output``."""

from __future__ import annotations

import threading
from typing import BinaryIO

from wherry.core.digest import Checksum
from wherry.store.disk.transaction import Transaction
from wherry.store.format.objects import FileHeader, ObjectType


class CountingWriter:
    """Stands before a transaction; one object is written at a time, so that each is told from the others."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._lock = threading.Lock()
        self._total = {"Metadata": 0, "Content": 0}
        self._written = {"Metadata": 0, "Content": 0}
        self._content_bytes = 0

    def write_file(self, header: FileHeader, source: bytes | BinaryIO | None = None, /) -> Checksum:
        """Takes a file; returns its checksum."""
        with self._lock:
            objects, size = self._before()
            checksum = self._transaction.write_file(header, source)
            self._count("Content", objects)
            self._content_bytes += self._transaction.bytes_written - size
            return checksum

    def write_metadata(self, kind: ObjectType, data: bytes, /) -> Checksum:
        """Takes a dirtree or dirmeta; returns its checksum."""
        with self._lock:
            objects, _ = self._before()
            checksum = self._transaction.write_metadata(kind, data)
            self._count("Metadata", objects)
            return checksum

    def counts(self) -> dict[str, int]:
        """Returns the counts, by the names that ``ostree`` prints."""
        found = {f"{kind} Total": count for kind, count in self._total.items()}
        found |= {f"{kind} Written": count for kind, count in self._written.items()}
        return {**found, "Content Bytes Written": self._content_bytes}

    def _before(self) -> tuple[int, int]:
        return self._transaction.objects_written, self._transaction.bytes_written

    def _count(self, kind: str, before: int) -> None:
        self._total[kind] += 1
        self._written[kind] += self._transaction.objects_written - before
