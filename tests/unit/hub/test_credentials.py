"""Passwords, tokens, challenges, rate limits, sessions."""

from __future__ import annotations

import base64
import secrets

import pytest
from tests.unit.hub.conftest import Clock

from wherry.core.errors import Conflict, InvalidInput, NotFound
from wherry.hub import credentials
from wherry.hub.accounts import DEVICE_SESSION_S, USER_SESSION_S, Accounts
from wherry.hub.credentials import Challenges
from wherry.hub.database import Database
from wherry.hub.limits import RateLimiter


def test_password_hashes() -> None:
    hashed = credentials.hash_password("correct horse")
    assert hashed.startswith("$argon2id$")
    assert credentials.hash_password("correct horse") != hashed
    assert credentials.verify_password("correct horse", hashed)
    assert not credentials.verify_password("correct mule", hashed)
    assert not credentials.verify_password("correct horse", None)
    assert not credentials.verify_password("correct horse", "nonsense")
    assert not credentials.verify_password("x" * 5000, hashed)
    for bad in ("short", "x" * 1025):
        with pytest.raises(InvalidInput):
            credentials.hash_password(bad)


def test_challenges_are_good_once(clock: Clock) -> None:
    challenges = Challenges(clock)
    first = challenges.make("a")
    assert challenges.take("b", first) is None
    assert challenges.take("a", first) == base64.b64decode(first)
    assert challenges.take("a", first) is None


@pytest.mark.parametrize(("after_s", "good"), [(0, True), (59, True), (61, False), (-2, False)])
def test_challenges_grow_old(clock: Clock, after_s: int, good: bool) -> None:
    challenges = Challenges(clock)
    made = challenges.make("a")
    clock.now += after_s
    assert (challenges.take("a", made) is not None) is good


def test_challenges_of_others_and_forged_ones(clock: Clock) -> None:
    challenges = Challenges(clock)
    data = bytearray(base64.b64decode(challenges.make("a")))
    data[35] ^= 1  # the time
    for text in (
        base64.b64encode(data).decode(),
        base64.b64encode(secrets.token_bytes(72)).decode(),
        Challenges(clock).make("a"),
        "",
        "=",
        "ä",
        "A" * 4000,
    ):
        assert challenges.take("a", text) is None


def test_spent_challenges_are_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "MAX_SPENT_CHALLENGES", 3)
    challenges = Challenges(clock)
    for _ in range(3):
        assert challenges.take("a", challenges.make("a")) is not None
    assert challenges.take("a", challenges.make("a")) is None  # full: refused, never forgotten while still good
    clock.now += 100
    assert challenges.take("a", challenges.make("a")) is not None


def test_rate_limit(clock: Clock) -> None:
    limiter = RateLimiter(2, 10, clock)
    assert [limiter.try_("a") for _ in range(3)] == [0, 0, 10]
    assert limiter.try_("b") == 0
    clock.now += 9.5
    assert limiter.try_("a") == 1
    clock.now += 1
    assert limiter.try_("a") == 0
    assert limiter.try_("a") == 0
    limiter.take_back("a")
    limiter.take_back("nobody")
    assert [limiter.try_("a") for _ in range(2)] == [0, 10]
    limiter.forget("a")
    assert [limiter.try_("a") for _ in range(3)] == [0, 0, 10]


def test_rate_limit_forgets_the_oldest_keys(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.hub.limits.MAX_KEYS", 100)
    limiter = RateLimiter(1, 10, clock)
    for number in range(1000):
        assert limiter.try_(str(number)) == 0
    assert len(limiter._tries) == 100


def test_csrf_tokens_are_of_one_session() -> None:
    one = credentials.csrf_token(b"k" * 32, "a")
    assert credentials.same(one, credentials.csrf_token(b"k" * 32, "a"))
    assert not credentials.same(one, credentials.csrf_token(b"k" * 32, "b"))
    assert not credentials.same(one, credentials.csrf_token(b"j" * 32, "a"))
    assert not credentials.same(one, "ä")


def test_sessions_end(accounts: Accounts, clock: Clock, database: Database) -> None:
    accounts.add_user("ann", "long enough")
    assert accounts.login("ann", "wrong password") is None
    assert accounts.login("bob", "long enough") is None
    token = accounts.login("ann", "long enough")
    assert token is not None
    session = accounts.find_session(token)
    assert session is not None
    assert (session.user, session.device_id) == ("ann", "")
    assert token.encode() not in database.path.read_bytes()
    clock.now += USER_SESSION_S - 1
    assert accounts.find_session(token) is not None
    clock.now += 1
    assert accounts.find_session(token) is None
    for nonsense in ("", "whu_" + "x" * 500, "ä"):
        assert accounts.find_session(nonsense) is None
    other = accounts.login("ann", "long enough") or ""
    accounts.close_session(credentials.hash_token(other))
    assert accounts.find_session(other) is None


def test_a_new_password_ends_all_sessions(accounts: Accounts) -> None:
    accounts.add_user("ann", "long enough")
    token = accounts.login("ann", "long enough") or ""
    accounts.set_password("ann", "another one")
    assert accounts.find_session(token) is None
    assert accounts.login("ann", "long enough") is None
    assert accounts.login("ann", "another one") is not None
    with pytest.raises(NotFound):
        accounts.set_password("bob", "another one")
    with pytest.raises(Conflict):
        accounts.add_user("ann", "another one")
    with pytest.raises(InvalidInput):
        accounts.add_user("a b", "another one")


def test_bounds_of_enrolment_tokens(accounts: Accounts) -> None:
    for uses, life_s, note in ((0, 10, ""), (10**9, 10, ""), (1, 0, ""), (1, 10**9, ""), (1, 10, "x" * 201)):
        with pytest.raises(InvalidInput):
            accounts.make_enrolment_token(uses=uses, expires_in_s=life_s, note=note)
    made = accounts.make_enrolment_token(uses=1, expires_in_s=10)
    assert made.token.startswith("whe_")
    assert [one.token for one in accounts.list_enrolment_tokens()] == [""]
    assert DEVICE_SESSION_S == 3600
