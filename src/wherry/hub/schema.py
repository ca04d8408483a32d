"""The hub's tables, as SQLAlchemy Core knows them.

Core and not the ORM: there are seven small tables, every statement is short, and values cross threads as plain
rows. The tables are made and changed by ``migrations/`` alone; a test compares both.

::

    users ──< sessions >── devices ──< history
                enrolment_tokens ──< devices.token_id (no foreign key: tokens may be forgotten)
    revisions   what the repository's refs lead to, so that a list needs no walk

What is *not* here: objects, commits and refs. They live in ``repo/``, and ``revisions`` can be made again from it.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

users = Table(
    "users",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("created_s", BigInteger, nullable=False),
)

devices = Table(
    "devices",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("public_key", String(64), nullable=False),
    Column("name", String(64), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("target", String(128), nullable=False),
    Column("facts", Text, nullable=False),
    Column("token_id", String(16), nullable=False),
    Column("enrolled_s", BigInteger, nullable=False),
    Column("last_seen_s", BigInteger),
    # what it should run
    Column("assignment", Integer, nullable=False),
    Column("desired", String(64)),
    # what it says
    Column("sequence", BigInteger, nullable=False),
    Column("report_assignment", Integer, nullable=False),
    Column("update_state", String(16), nullable=False),
    Column("current", String(64)),
    Column("detail", Text, nullable=False),
    Column("bytes_done", BigInteger, nullable=False),
    Column("bytes_total", BigInteger, nullable=False),
    Column("apps", Text, nullable=False),
    Column("recorded", Text, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("user_id", Integer, ForeignKey("users.id", ondelete="CASCADE")),
    Column("device_id", String(32), ForeignKey("devices.id", ondelete="CASCADE")),
    Column("created_s", BigInteger, nullable=False),
    Column("expires_s", BigInteger, nullable=False),
    Index("ix_sessions_user_id", "user_id"),
    Index("ix_sessions_device_id", "device_id"),
    Index("ix_sessions_expires_s", "expires_s"),
)

enrolment_tokens = Table(
    "enrolment_tokens",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("note", String(200), nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("created_s", BigInteger, nullable=False),
    Column("expires_s", BigInteger, nullable=False),
    Column("uses_left", Integer, nullable=False),
    Column("revoked", Boolean, nullable=False),
)

history = Table(
    "history",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("device_id", String(32), ForeignKey("devices.id", ondelete="CASCADE"), nullable=False),
    Column("time_s", BigInteger, nullable=False),
    Column("event", String(16), nullable=False),
    Column("revision", String(64)),
    Column("assignment", Integer, nullable=False),
    Column("detail", Text, nullable=False),
    Column("by_user", String(64), nullable=False),
    Index("ix_history_device_id", "device_id", "id"),
)

revisions = Table(
    "revisions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("commit", String(64), nullable=False, unique=True),
    Column("ref", String(255), nullable=False),
    Column("subject", Text, nullable=False),
    Column("time_s", BigInteger, nullable=False),
    Column("parent", String(64)),
    Column("apps", Text, nullable=False),
    Index("ix_revisions_time_s", "time_s"),
)
