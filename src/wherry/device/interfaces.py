"""What the updater needs of the world, and no more: containers, revisions, a hub, and a way to wait.

The real ones are ``engine.Engine`` (through ``device.containers``), ``device.supply`` and ``device.hub``; the tests
bring simulators behind the same interfaces.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wherry.core.digest import Checksum
from wherry.engine.spec import ContainerSpec
from wherry.spec.revision import Revision
from wherry.spec.wire import Desired, Progress, ProgressAnswer

ProgressCall = Callable[[int, int], None]
"""Called with the bytes that are done and the bytes in all."""


class Container(Protocol):
    """A container, as the engine tells of it."""

    @property
    def id(self) -> str:
        """64 hex digits."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def status(self) -> str:
        """``created``, ``running``, ``restarting`` or ``exited``."""

    @property
    def health(self) -> str:
        """Empty, ``starting``, ``healthy`` or ``unhealthy``."""

    @property
    def exit_code(self) -> int | None:
        """Of the last run."""

    @property
    def restarts(self) -> int:
        """How often it was started again by itself."""

    @property
    def started_s(self) -> float | None:
        """When it was started last, by the device's clock."""

    @property
    def error(self) -> str:
        """Why it could not be started, or ended without a status of its own."""

    @property
    def pid(self) -> int | None:
        """Of its first process; None or 0 when it does not run."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""


class Containers(Protocol):
    """The containers of one device."""

    def create(self, spec: ContainerSpec) -> Container:
        """Makes a container that does not run yet."""

    def start(self, container_id: str) -> None:
        """Starts it; one that runs is an error."""

    def stop(self, container_id: str) -> None:
        """Stops it, by its own stop signal and timeout; one that does not run is no error."""

    def remove(self, container_id: str) -> None:
        """Removes it, running or not."""

    def list(self) -> Sequence[Container]:
        """Returns all of them."""

    def log_tail(self, container_id: str, lines: int) -> str:
        """Returns the last lines that it printed."""

    def keep_images(self, commits: Collection[Checksum]) -> None:
        """Forgets every image that is laid out for running but not among `commits`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is missing of a revision here."""

    revision: Revision
    objects: tuple[str, ...] = ()
    """Names of the file objects that have to be fetched."""
    count: int = 0
    """How many objects are new, when their names are not known yet: a delta brings them."""
    transfer_bytes: int = 0
    """What they cost on the wire."""
    disk_bytes: int = 0
    """What they hold, unpacked."""
    received_bytes: int = 0
    """What planning has cost already."""


class Supply(Protocol):
    """Where revisions come from, and the store that they are kept in."""

    def plan(self, revision: Checksum, tick: Callable[[], None]) -> Plan:
        """Fetches the small parts of a revision, checks whose signature it has, and says what is missing.

        `tick` is called now and then, and may raise.
        """

    def fetch(self, revision: Checksum, progress: ProgressCall) -> int:
        """Fetches what is missing, and returns the bytes that this took."""

    def verify(self, revision: Checksum) -> Revision:
        """Checks the signature and that nothing is missing, without the network, and returns the revision."""

    def lay_out_config(self, revision: Checksum, app: str, target: Path) -> None:
        """Writes the files of ``config/<app>`` below the new directory `target`."""

    def keep(self, revisions: Collection[Revision], commits: Collection[Checksum]) -> None:
        """Removes from the store what neither `commits` nor the components of `revisions` need."""


class Hub(Protocol):
    """The hub, for one thread."""

    def desired(self) -> Desired:
        """Returns what the device should run."""

    def report(self, progress: Progress) -> ProgressAnswer:
        """Tells how it goes."""

    def prove(self, timeout_s: float) -> None:
        """Returns when a new login and a call have succeeded; raises NetworkError or NotPermitted."""


class Interrupted(Exception):
    """Work was left at a durable step, because the agent is to stop or to look at something else first."""


class Waiter(Protocol):
    """Waiting, and the wish to be interrupted."""

    def pause(self, seconds: float) -> None:
        """Waits; raises ``Interrupted`` when the agent is to stop."""

    def check(self, *, also_news: bool) -> None:
        """Raises ``Interrupted`` when the agent is to stop, or (with `also_news`) when there is something new."""

    def now(self) -> float:
        """Returns seconds on a clock that only goes on."""
