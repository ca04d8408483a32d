"""Users, sessions and enrolment tokens: who may speak to the hub, and for how long."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update
from starlette.concurrency import run_in_threadpool

from wherry.core.errors import Conflict, InvalidInput, NotFound
from wherry.hub.credentials import Clock, hash_password, hash_token, make_token, verify_password
from wherry.hub.database import Database
from wherry.hub.schema import enrolment_tokens, sessions, users
from wherry.spec.wire import EnrolmentToken

DEVICE_SESSION_S = 3600
USER_SESSION_S = 30 * 24 * 3600
READER_MEMORY_S = 2.0
MAX_READERS = 10_000
MAX_TOKEN_USES = 100_000
MAX_TOKEN_LIFE_S = 366 * 24 * 3600
MAX_NOTE_CHARS = 200
MAX_SECRET_CHARS = 256
ADMIN = "admin"
_USER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session that is good now: of a user or of a device."""

    token_hash: str
    expires_s: int
    user: str = ""
    device_id: str = ""


def check_user_name(name: str) -> None:
    """Refuses what cannot be a user's name.

    Raises:
        InvalidInput: it is empty, too long, or has other characters than letters, digits and ``._@-``.
    """
    if _USER_NAME.match(name) is None:
        raise InvalidInput(f"not a user name: {name[:80]!r}", hint="use letters, digits, '.', '_', '@', '-'")


class Accounts:
    """Users, sessions and enrolment tokens in the database.

    Args:
        database: where they are.
        clock: the time.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    # --- users

    def add_user(self, name: str, password: str) -> None:
        """Adds a user who may do everything.

        Raises:
            InvalidInput: a bad name or password.
            Conflict: there is such a user.
        """
        check_user_name(name)
        hashed = hash_password(password)
        with self._database.write() as connection:
            if connection.execute(select(users.c.id).where(users.c.name == name)).first():
                raise Conflict("there is such a user already", where=name)
            row = {"name": name, "password_hash": hashed, "role": ADMIN, "created_s": self._now()}
            connection.execute(insert(users).values(row))

    def set_password(self, name: str, password: str) -> None:
        """Changes a password and ends all sessions of the user.

        Raises:
            NotFound: there is no such user.
        """
        hashed = hash_password(password)
        with self._database.write() as connection:
            user_id = connection.execute(select(users.c.id).where(users.c.name == name)).scalar()
            if user_id is None:
                raise NotFound("no such user", where=name)
            connection.execute(update(users).where(users.c.id == user_id).values(password_hash=hashed))
            connection.execute(delete(sessions).where(sessions.c.user_id == user_id))

    def list_users(self) -> list[tuple[str, str, int]]:
        """Returns name, role and time of making of every user."""
        with self._database.read() as connection:
            rows = connection.execute(select(users.c.name, users.c.role, users.c.created_s).order_by(users.c.name))
            return [(row.name, row.role, row.created_s) for row in rows]

    def has_users(self) -> bool:
        """Tells whether there is a user at all."""
        with self._database.read() as connection:
            return bool(connection.execute(select(func.count()).select_from(users)).scalar())

    # --- sessions

    def login(self, name: str, password: str) -> str | None:
        """Returns a new session token, or None when name or password is wrong."""
        with self._database.read() as connection:
            row = connection.execute(select(users.c.id, users.c.password_hash).where(users.c.name == name)).first()
        if not verify_password(password, row.password_hash if row else None) or row is None:
            return None
        return self._open_session("whu", USER_SESSION_S, user_id=row.id)

    def open_device_session(self, device_id: str) -> str:
        """Returns a new session token of a device that has proved its key."""
        return self._open_session("whd", DEVICE_SESSION_S, device_id=device_id)

    def _open_session(
        self, prefix: str, life_s: int, *, user_id: int | None = None, device_id: str | None = None
    ) -> str:
        token, now = make_token(prefix), self._now()
        with self._database.write() as connection:
            connection.execute(delete(sessions).where(sessions.c.expires_s <= now))
            connection.execute(
                insert(sessions).values(
                    token_hash=hash_token(token),
                    user_id=user_id,
                    device_id=device_id,
                    created_s=now,
                    expires_s=now + life_s,
                )
            )
        return token

    def find_session(self, token: str) -> Session | None:
        """Returns the session of a token, when it is good now."""
        if not token or len(token) > MAX_SECRET_CHARS:
            return None
        columns = (sessions.c.token_hash, sessions.c.expires_s, sessions.c.device_id, users.c.name)
        query = (
            select(*columns)
            .select_from(sessions.outerjoin(users, users.c.id == sessions.c.user_id))
            .where(sessions.c.token_hash == hash_token(token), sessions.c.expires_s > self._now())
        )
        with self._database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        return Session(
            token_hash=row.token_hash, expires_s=row.expires_s, user=row.name or "", device_id=row.device_id or ""
        )

    def close_session(self, token_hash: str) -> None:
        """Ends a session."""
        with self._database.write() as connection:
            connection.execute(delete(sessions).where(sessions.c.token_hash == token_hash))

    # --- enrolment tokens

    def make_enrolment_token(self, *, uses: int, expires_in_s: int, note: str = "", by: str = "") -> EnrolmentToken:
        """Makes a token that lets devices ask to be let in; the answer alone holds it.

        Raises:
            InvalidInput: out of bounds.
        """
        if not 1 <= uses <= MAX_TOKEN_USES:
            raise InvalidInput(f"uses: must be 1 to {MAX_TOKEN_USES}, not {uses}")
        if not 1 <= expires_in_s <= MAX_TOKEN_LIFE_S:
            raise InvalidInput(f"expires_in_s: must be 1 to {MAX_TOKEN_LIFE_S} seconds, not {expires_in_s}")
        if len(note) > MAX_NOTE_CHARS:
            raise InvalidInput(f"note: longer than {MAX_NOTE_CHARS} characters")
        token, now = make_token("whe"), self._now()
        row = {
            "id": secrets.token_hex(4),
            "token_hash": hash_token(token),
            "note": note,
            "created_by": by,
            "created_s": now,
            "expires_s": now + expires_in_s,
            "uses_left": uses,
            "revoked": False,
        }
        with self._database.write() as connection:
            connection.execute(insert(enrolment_tokens).values(row))
        return EnrolmentToken(
            id=row["id"],  # type: ignore[arg-type]  # the row's values are of several types
            uses_left=uses,
            created_s=now,
            expires_s=now + expires_in_s,
            note=note,
            by=by,
            token=token,
        )

    def list_enrolment_tokens(self) -> tuple[EnrolmentToken, ...]:
        """Returns every token that is remembered, the newest first, without the secrets."""
        query = select(enrolment_tokens).order_by(enrolment_tokens.c.created_s.desc(), enrolment_tokens.c.id)
        with self._database.read() as connection:
            return tuple(
                EnrolmentToken(
                    id=row.id,
                    uses_left=row.uses_left,
                    created_s=row.created_s,
                    expires_s=row.expires_s,
                    note=row.note,
                    by=row.created_by,
                    revoked=row.revoked,
                )
                for row in connection.execute(query)
            )

    def revoke_enrolment_token(self, token_id: str) -> None:
        """Has a token open nothing any more.

        Raises:
            NotFound: there is no such token.
        """
        with self._database.write() as connection:
            where = enrolment_tokens.c.id == token_id
            if connection.execute(select(enrolment_tokens.c.id).where(where)).first() is None:
                raise NotFound("no such enrolment token", where=token_id[:40])
            connection.execute(update(enrolment_tokens).where(where).values(revoked=True))

    def _now(self) -> int:
        return int(self._clock())


class Readers:
    """Sessions, remembered for a moment, for those who read thousands of objects in a row. Belongs to the event loop.

    Args:
        accounts: where sessions are found.
        clock: the time.
    """

    def __init__(self, accounts: Accounts, clock: Clock) -> None:
        self._accounts, self._clock = accounts, clock
        self._known: dict[str, tuple[float, Session]] = {}

    async def find(self, token: str) -> Session | None:
        """Returns the session of a token, as it was at most ``READER_MEMORY_S`` ago."""
        now = self._clock()
        found = self._known.get(token)
        if found is not None and 0 <= now - found[0] < READER_MEMORY_S:
            return found[1]
        session = await run_in_threadpool(self._accounts.find_session, token)
        if session is not None:
            if len(self._known) >= MAX_READERS:
                self._known.clear()
            self._known[token] = (now, session)
        else:
            self._known.pop(token, None)
        return session


def use_enrolment_token(connection: Connection, token: str, now: int, *, known_id: str) -> str | None:
    """Takes one use of a token in a transaction and returns its id; None when it opens nothing.

    Args:
        connection: of the transaction.
        token: as the device sent it.
        now: the time.
        known_id: the token that this device came with before: for it the token is good again and costs no use, so
            that a device whose answer was lost may ask once more.
    """
    if not token or len(token) > MAX_SECRET_CHARS:
        return None
    table = enrolment_tokens
    row = connection.execute(select(table).where(table.c.token_hash == hash_token(token))).first()
    if row is None or row.revoked:
        return None
    if row.id == known_id:
        return str(row.id)
    if row.expires_s <= now or (row.uses_left < 1 and not known_id):
        return None
    if not known_id:
        connection.execute(update(table).where(table.c.id == row.id).values(uses_left=row.uses_left - 1))
    return str(row.id)
