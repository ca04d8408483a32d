"""What every route works with: one hub, opened."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import HTTPConnection

from wherry.hub.accounts import Accounts, Readers
from wherry.hub.broker import Broker
from wherry.hub.credentials import Challenges, Clock
from wherry.hub.database import Database
from wherry.hub.deltas import LIMIT_BYTES, Deltas
from wherry.hub.instance import Instance
from wherry.hub.limits import RateLimiter
from wherry.hub.registry import Registry, device_event
from wherry.hub.repository import HubRepository

LOGIN_TRIES = 5
LOGIN_TRIES_PER_ADDRESS = 30
LOGIN_WINDOW_S = 300
ENROL_FAILURES_PER_ADDRESS = 60
CHALLENGES_PER_DEVICE = 60
DEVICE_WINDOW_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSettings:
    """How a hub serves."""

    poll_interval_s: int = 30
    poll_jitter_percent: int = 10
    delta_bytes: int = LIMIT_BYTES
    """What deltas for devices may take on the disk; 0: none are made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How often one may try."""

    login: RateLimiter
    login_address: RateLimiter
    enrol: RateLimiter
    challenge: RateLimiter


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """One hub, opened."""

    path: Path
    settings: HubSettings
    clock: Clock
    key: bytes = field(repr=False)
    database: Database
    broker: Broker
    accounts: Accounts
    readers: Readers
    registry: Registry
    repository: HubRepository
    deltas: Deltas
    challenges: Challenges
    limits: Limits

    def close(self) -> None:
        """Closes what is open, and ends what is being made."""
        self.deltas.close()
        self.repository.close()
        self.database.close()


def open_hub(path: Path, settings: HubSettings, *, clock: Clock = time.time) -> Hub:
    """Opens the hub in a folder: migrates its database and looks through its refs.

    Raises:
        NotFound: it is not a hub's folder.
    """
    instance = Instance(path=path)
    database = instance.open_database()
    try:
        key = instance.read_key()
        broker = Broker(on_presence=lambda device_id: broker.publish(device_event(device_id)))
        repository = HubRepository(instance.repo_path, database, broker)
        repository.index_all()
        accounts = Accounts(database, clock)
        return Hub(
            path=path,
            settings=settings,
            clock=clock,
            key=key,
            database=database,
            broker=broker,
            accounts=accounts,
            readers=Readers(accounts, clock),
            registry=Registry(database, broker, clock, poll_interval_s=settings.poll_interval_s),
            repository=repository,
            deltas=Deltas(repository.repo, limit_bytes=settings.delta_bytes),
            challenges=Challenges(clock),
            limits=Limits(
                login=RateLimiter(LOGIN_TRIES, LOGIN_WINDOW_S, clock),
                login_address=RateLimiter(LOGIN_TRIES_PER_ADDRESS, LOGIN_WINDOW_S, clock),
                enrol=RateLimiter(ENROL_FAILURES_PER_ADDRESS, DEVICE_WINDOW_S, clock),
                challenge=RateLimiter(CHALLENGES_PER_DEVICE, DEVICE_WINDOW_S, clock),
            ),
        )
    except BaseException:
        database.close()
        raise


def hub_of(connection: HTTPConnection) -> Hub:
    """Returns the hub that a request is for."""
    hub = connection.app.state.hub
    assert isinstance(hub, Hub)  # noqa: S101 for the type checker; set by make_app
    return hub
