"""What comes before a container's life: the lock that says that somebody keeps it, and all that it needs."""

from __future__ import annotations

import os

from wherry.core import trace
from wherry.core.errors import NotFound, WherryError
from wherry.core.value import Value
from wherry.engine import control, records, state
from wherry.engine.ending import Outcome, not_started, settle
from wherry.engine.prepare import Prepared, prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.engine.engine import Engine
    from wherry.engine.imagestore import ImageStore
    from wherry.engine.info import ContainerInfo
    from wherry.engine.spec import ContainerConfig
    from wherry.engine.state import Paths


class Ready(Value):
    """A container that can be started: what is there for it, and the lock that says that somebody keeps it."""

    config: ContainerConfig
    prepared: Prepared
    store: str
    lock_fd: int

    @property
    def port_fds(self) -> tuple[int, ...]:
        """The sockets that hold its published ports."""
        reservation = self.prepared.reservation
        return () if reservation is None else reservation.fds

    def fds(self) -> dict[str, int]:
        """Returns all descriptors, by the names that whoever keeps it knows them by."""
        return {"lock": self.lock_fd, **{f"port{index}": fd for index, fd in enumerate(self.port_fds)}}

    def close(self) -> None:
        """Closes them: somebody else has duplicates."""
        os.close(self.lock_fd)
        if self.prepared.reservation is not None:
            # by the sockets, which would close their numbers a second time, when these are another file's by then
            self.prepared.reservation.close()


def make_ready(paths: Paths, store: ImageStore | None, container_id: str) -> Ready | None:
    """Takes the lock of a container's life and prepares it; the caller holds the container's lock.

    Args:
        paths: of the engine root.
        store: where images come from.
        container_id: the container.

    Returns:
        None when it is kept already.
    """
    control.recover_locked(paths, container_id)
    config = state.read_config(paths, container_id)
    if not config.commit:
        store = None
    elif store is None:
        raise NotFound(f"the store with image {config.image} is not there")
    run_dir = paths.run_dir(container_id)
    try:
        os.mkdir(run_dir, 0o711)
    except FileExistsError:
        pass
    lock_fd = state.take_life_lock(paths, container_id)
    if lock_fd is None:
        return None
    state.forget_stop(paths, container_id)
    try:
        prepared = prepare(paths, store, config)
        place = "" if store is None else store.path
        ports = prepared.joined.ports
        run = records.RunState(status="starting", supervisor_pid=os.getpid(), foreground=True, store=place, ports=ports)
        state.write_run(paths, container_id, run)
    except WherryError as error:
        _not_started(paths, config, error, lock_fd)
        raise
    except BaseException:
        os.close(lock_fd)
        raise
    trace.reach("engine.prepared")
    return Ready(config=config, prepared=prepared, store=place, lock_fd=lock_fd)


def _not_started(paths: Paths, config: ContainerConfig, error: WherryError, lock_fd: int) -> None:
    """Records why a container could not be prepared, and takes away what there is of it."""
    try:
        settle(paths, config, Outcome(last=not_started(paths, config, error), never_started=True), lock_fd)
    except WherryError:
        pass  # the first error is the one to be told
    finally:
        os.close(lock_fd)


def wants_start(info: ContainerInfo, last: records.LastRun | None) -> bool:
    """Tells whether a container that does not run is to be started after a boot, by its restart policy."""
    if last is None or not last.started_s:
        return False  # it was never started by anybody
    name = str(info.config.spec.restart.name)
    if name == "always":
        return True
    if name == "unless-stopped":
        return not last.stopped
    return name == "on-failure" and not last.stopped and info.exit_code != 0


def start_all_wanted(engine: Engine) -> tuple[str, ...]:
    """Starts the containers of an engine that `wants_start` names; returns those that could not be, and why."""
    failed: list[str] = []
    for info in reversed(engine.list()):
        last = state.read_last(engine.paths, info.id)
        if info.status not in ("running", "restarting") and wants_start(info, last):
            try:
                engine.start(info.id)
            except WherryError as error:
                failed.append(f"{info.name}: {error}")
    return tuple(failed)
