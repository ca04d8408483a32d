"""Opening, migrating, transactions."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert, select

import wherry.hub.database as module
from wherry.core.errors import Locked, NoSpace, Unsupported, WherryError
from wherry.hub.database import SCHEMA_VERSION, Database, open_database
from wherry.hub.schema import metadata, users

ROW = {"password_hash": "x", "role": "admin", "created_s": 1}


def test_migrations_make_the_schema(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == SCHEMA_VERSION
    config = Config()
    config.set_main_option("script_location", str(Path(module.__file__).with_name("migrations")))
    assert ScriptDirectory.from_config(config).get_current_head() == SCHEMA_VERSION


def test_opened_again_it_is_as_it_was(tmp_path: Path) -> None:
    for expected in ([], ["ann"]):
        database = open_database(tmp_path / "hub.db")
        with database.read() as connection:
            assert list(connection.execute(select(users.c.name)).scalars()) == expected
        if not expected:
            with database.write() as connection:
                connection.execute(insert(users).values(name="ann", **ROW))
        database.close()


def test_journal_and_durability(database: Database) -> None:
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_an_error_takes_all_back(database: Database) -> None:
    with pytest.raises(RuntimeError), database.write() as connection:
        connection.execute(insert(users).values(name="ann", **ROW))
        raise RuntimeError
    with database.read() as connection:
        assert connection.execute(select(users)).first() is None


def test_writers_queue(database: Database) -> None:
    def work(number: int) -> None:
        for index in range(20):
            with database.write() as connection:
                count = len(connection.execute(select(users.c.id)).all())
                connection.execute(insert(users).values(name=f"{number}-{index}-{count}", **ROW))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        names = list(connection.execute(select(users.c.name)).scalars())
    assert sorted(int(name.split("-")[2]) for name in names) == list(range(80))


def test_another_process_that_writes(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Locked), database.write():
        pass
    with database.read() as connection:
        connection.execute(select(users)).all()
    other.close()


def test_a_full_database_is_no_space(database: Database) -> None:
    with database.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(NoSpace), database.write() as connection:
        for number in range(2000):
            connection.execute(insert(users).values(name=str(number), **{**ROW, "password_hash": "x" * 4000}))
    with database.read() as connection:
        assert connection.execute(select(users)).first() is None


def test_a_newer_one_and_no_database(tmp_path: Path, database: Database) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Unsupported, match="9999"):
        open_database(database.path)
    (tmp_path / "nonsense.db").write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(WherryError, match="not a database"):
        open_database(tmp_path / "nonsense.db")
