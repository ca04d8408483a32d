"""The hub's SQLite database: opening, migrating, and the two kinds of transaction.

One writer at a time is SQLite's way, so writers of this process queue at a lock of their own instead of polling
SQLite's; the command line (``wherry hub user ...``) may write beside a running hub and waits at SQLite's. WAL lets
readers go on meanwhile. The engine is synchronous, and routes that use it run in the thread pool: a statement takes
well under a millisecond of local work, which an asynchronous driver would only hand to a thread of its own.

What is promised: a transaction that has ended is on the disk (``synchronous=FULL``); a full disk is ``NoSpace`` and
changes nothing.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from wherry.core.durable import fsync_dir
from wherry.core.errors import Locked, NoSpace, Unsupported, WherryError
from wherry.core.lock import file_lock

SCHEMA_VERSION = "0001"
"""The newest migration; a test holds it against ``migrations/versions``."""
BUSY_TIMEOUT_S = 10
_WRITES = "wherry_writes"


class Database:
    """An open database.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = threading.Lock()
        self.engine: Engine = create_engine(
            f"sqlite:///{path}", pool_size=8, max_overflow=40, connect_args={"timeout": BUSY_TIMEOUT_S}
        )
        event.listen(self.engine, "connect", _prepare)
        event.listen(self.engine, "begin", _begin)

    def close(self) -> None:
        """Closes every connection."""
        self.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Gives a connection that sees one state of the database.

        Raises:
            WherryError: the database cannot be read.
        """
        with self._mapping(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Gives a connection whose changes are durable together when the block ends, or not made at all.

        Raises:
            NoSpace: the disk is full; nothing has changed.
            Locked: another process has been writing for too long.
        """
        with self._writer, self._mapping():
            with self.engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
                yield connection

    @contextmanager
    def _mapping(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise self._map(error) from error

    def _map(self, error: DBAPIError) -> WherryError:
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and self._is_disk_full()):
            return NoSpace("the hub's disk is full", hint="free some space; nothing was changed")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return Locked("the database is busy", where=self.path, hint="try again")
        return WherryError(f"database: {error.orig}", where=self.path)

    def _is_disk_full(self) -> bool:
        # With WAL a full disk may first show where the shared-memory file grows, as SQLITE_IOERR_SHMSIZE.
        found = os.statvfs(self.path.parent)
        return found.f_bavail * found.f_frsize < 1 << 20


def open_database(path: Path) -> Database:
    """Opens the database, makes it when it is missing, and brings it to this version's schema.

    Raises:
        Unsupported: it was written by a newer Wherry.
        NoSpace: there is no room to migrate; it is as it was.
    """
    fresh = not path.exists()
    database = Database(path)
    try:
        with file_lock(path.with_name("migrate.lock"), timeout_s=60, what="the database"):
            _migrate(database)
        if fresh:
            path.chmod(0o600)
            fsync_dir(path.parent)
    except BaseException:
        database.close()
        raise
    return database


def _migrate(database: Database) -> None:
    version = _version(database)
    if version == SCHEMA_VERSION:
        return
    if version is not None and version > SCHEMA_VERSION:
        raise Unsupported(
            f"the database has schema {version}, this Wherry knows {SCHEMA_VERSION}",
            where=database.path,
            hint="update Wherry, or restore the database that you saved before",
        )
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _version(database: Database) -> str | None:
    with database.read() as connection:
        if connection.dialect.has_table(connection, "alembic_version"):
            found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            return None if found is None else str(found)
    return None


def _prepare(connection: Any, _record: Any) -> None:
    # SQLAlchemy, dialects/sqlite "pysqlite": the driver's own BEGIN is switched off, so that DDL is transactional too.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "trusted_schema=OFF"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    # A transaction that begins as a reader cannot always become a writer (SQLITE_BUSY_SNAPSHOT), so say it at once.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
