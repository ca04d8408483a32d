"""A device put together from its folder: store, engine, hub, journal, and the agent over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from wherry.core import durable
from wherry.core.digest import Checksum
from wherry.device.agent import Agent, HubSide, Timing, device_lock
from wherry.device.attention import Attention
from wherry.device.containers import EngineContainers
from wherry.device.hub import Doorbell, HubSession, LinkFile, Reporter
from wherry.device.identity import Identity, load_identity, load_key
from wherry.device.journal import Journal, Line
from wherry.device.paths import DevicePaths
from wherry.device.state import load_state
from wherry.device.supply import StoreSupply
from wherry.device.updater import Updater, World
from wherry.engine.engine import Engine
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository

REPORT_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A device that this process holds alone."""

    agent: Agent
    attention: Attention
    store: Repository


def open_store(paths: DevicePaths) -> Repository:
    """Returns the device's store, made when it is not there."""
    durable.make_dirs(paths.root, mode=0o700)
    return Repository.init(paths.store, Mode.BARE_USER)


def open_engine(paths: DevicePaths, run_root: Path, store: Repository | None) -> Engine:
    """Returns the device's engine; with no store it can look and stop, not start."""
    return Engine(paths.engine, run_root, store)


@contextmanager
def open_device(
    root: Path, run_root: Path, *, timing: Timing | None = None, echo: Callable[[Line], None] | None = None
) -> Iterator[Opened]:
    """Takes hold of the device in a folder.

    Args:
        root: the device's folder.
        run_root: for state that a reboot may clear.
        timing: waits after failures.
        echo: called with each line of the journal.

    Raises:
        NotFound: no device is enrolled there.
        Locked: an agent, or another command, works on it.
    """
    paths = DevicePaths(root)
    identity = load_identity(paths)
    with device_lock(paths):
        attention = Attention(paths.wake)
        try:
            yield _assemble(paths, run_root, identity, attention, Journal(paths.log, echo), timing)
        finally:
            attention.close()


def _assemble(
    paths: DevicePaths,
    run_root: Path,
    identity: Identity,
    attention: Attention,
    journal: Journal,
    timing: Timing | None,
) -> Opened:
    key = load_key(paths, identity)
    link = LinkFile(paths.link)
    session = HubSession(identity, key)
    store = open_store(paths)

    def have() -> tuple[Checksum, ...]:
        state = load_state(paths.state)
        return tuple(commit for commit in (state.current, state.last_good) if commit is not None)

    world = World(
        paths=paths,
        supply=StoreSupply(store, identity.keys(), session, have=have, note=partial(journal.write, "supply")),
        containers=EngineContainers(open_engine(paths, run_root, store)),
        hub=session,
        waiter=attention,
        journal=journal,
        target=identity.target,
    )
    reporter = Reporter(lambda: HubSession(identity, key, timeout_s=REPORT_TIMEOUT_S), link.lost)
    bell = Doorbell(lambda: HubSession(identity, key))

    def stop() -> None:
        bell.stop()
        reporter.stop(0.0)
        session.close()

    side = HubSide(hub=session, send=reporter.send, flush=reporter.flush, start=bell.start, nudge=bell.nudge, stop=stop)
    agent = Agent(paths, attention, journal, link, side, lambda report: Updater(world, report), timing)
    return Opened(agent=agent, attention=attention, store=store)
