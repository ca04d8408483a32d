"""How others deal with whoever keeps a container: asking for its end, waiting for it, and cleaning up after a dead one.

A container is kept as long as its ``life.lock`` is held. By whom says ``run.json``: the supervisor, or a command that
has it in the foreground; both listen to the same requests (``serving.py``).
"""

from __future__ import annotations

import os
import time

from wherry.core import trace
from wherry.core.errors import Conflict, NoSpace, NotFound, Timeout
from wherry.engine import pausing, records, state
from wherry.engine.info import EXIT_KILLED, EXITED
from wherry.engine.signals import SIGKILL
from wherry.engine.state import Paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from wherry.engine.info import ContainerInfo

KILL_GRACE_S = 30.0
"""How long the end of a container is waited for after SIGKILL: processes in uninterruptible sleep take their time."""


def ask_for_end(
    paths: Paths, container_id: str, signal_number: int, patience_s: float | None, *, event: str = ""
) -> None:
    """Leaves the wish for the container's end with its keeper; nothing happens when there is none.

    Args:
        paths: of the engine root.
        container_id: whose.
        signal_number: sent to the container.
        patience_s: after which it gets SIGKILL; None: never.
        event: ``stop``: to be told as well when it has ended so.
    """
    from wherry.engine.lifewatch import LifeWatch

    with LifeWatch(paths, container_id) as watch:
        while state.is_kept(paths, container_id):
            try:
                state.write_stop(paths, container_id, signal_number=signal_number, timeout_s=patience_s, event=event)
            except (FileNotFoundError, NotFound):
                return  # it removed itself just now
            watch.renew()  # what is told from now on comes after the wish
            if tell(paths, container_id, "look"):
                pausing.thaw(paths, container_id)  # a frozen process takes no signal
                return
            # a command prepares it, and nobody listens yet; or it is handed over, or ends
            if state.is_kept(paths, container_id):
                watch.wait()
    recover(paths, container_id)


def send_signal(paths: Paths, container_id: str, number: int, *, wait: bool) -> None:
    """Sends a signal to a container's first process; see ``Engine.kill``.

    Raises:
        Conflict: it does not run.
    """
    from wherry.engine import bundle

    config = state.read_config(paths, container_id)
    if not state.is_kept(paths, container_id):
        recover(paths, container_id)
        raise Conflict(f"container {config.name} does not run")
    if number in (SIGKILL, bundle.signal_number(config.stop_signal)):
        ask_for_end(paths, container_id, number, None)
        if wait and number == SIGKILL:
            await_end(paths, container_id, KILL_GRACE_S)
        return
    from wherry.engine.telling import tell as tell_event
    from wherry.runtime.container import kill

    tell_event(paths, config, "kill", signal=number)
    kill(bundle.runtime_dir(paths, container_id), number)


def tell(paths: Paths, container_id: str, what: str) -> bool:
    """Makes a request to a container's keeper that is answered at once; returns whether it was.

    Args:
        paths: of the engine root.
        container_id: whose.
        what: ``look`` or ``changed``.
    """
    end = connect_keeper(paths, container_id)
    if end is None:
        return False
    try:
        from wherry.engine import calling

        return calling.ask(end, {"do": what, "id": container_id}) is not None
    except NotFound:
        return False
    finally:
        end.close()


def tell_changed(paths: Paths, container_id: str) -> None:
    """Tells a container's keeper, if it has one, that its config was changed."""
    tell(paths, container_id, "changed")


def connect_keeper(paths: Paths, container_id: str) -> socket | None:
    """Returns a connection with a container's keeper; None when it has none, or one that does not listen yet."""
    run = state.read_run(paths, container_id)
    if run is None:
        return None
    from wherry.engine import calling

    return calling.connect(paths, container_id, foreground=run.foreground)


def await_end(paths: Paths, container_id: str, timeout_s: float | None) -> int | None:
    """Waits until a container is not kept any more.

    Returns:
        The exit status that was left; None when it was not kept.

    Raises:
        Timeout: it still runs.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    try:
        lock_fd = os.open(f"{paths.run_dir(container_id)}/{state.LIFE_LOCK}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    waited = False
    try:
        if state.lock_is_held(lock_fd):
            waited = True
            _await_release(paths, container_id, lock_fd, deadline, timeout_s)
        if not waited:
            return None
        text = os.pread(lock_fd, 32, 0).decode(errors="replace").strip()
        if text.lstrip("-").isdigit():
            return int(text)
        recover(paths, container_id)
        return EXIT_KILLED
    finally:
        os.close(lock_fd)


def _await_release(
    paths: Paths, container_id: str, lock_fd: int, deadline: float | None, timeout_s: float | None
) -> None:
    """Waits until nobody holds the lock of a life."""
    from wherry.engine.lifewatch import LifeWatch

    with LifeWatch(paths, container_id) as watch:
        while state.lock_is_held(lock_fd):
            left_s = None if deadline is None else deadline - time.monotonic()
            if left_s is not None and left_s <= 0:
                raise Timeout(f"container {container_id[:12]} still runs after {timeout_s:g} s")
            watch.wait(left_s)


def recover(paths: Paths, container_id: str) -> None:
    """Cleans up after a container whose keeper was killed; does nothing to one that is well or being started."""
    if not state.is_lost(paths, container_id):
        return
    with state.container_lock(paths, container_id, wait=False) as held:
        if held:
            recover_locked(paths, container_id)


def recover_locked(paths: Paths, container_id: str) -> None:
    """As `recover`; the caller holds the container's lock."""
    if not state.is_lost(paths, container_id):
        return
    from wherry.engine import bundle
    from wherry.engine.prepare import clean_up
    from wherry.engine.state import remove_container
    from wherry.engine.telling import tell as tell_event
    from wherry.runtime.container import delete

    trace.reach("engine.recovering")
    config = state.read_config(paths, container_id)
    delete(bundle.runtime_dir(paths, container_id))
    for problem in clean_up(paths, config):
        raise problem
    last = state.read_last(paths, container_id) or records.LastRun()
    if not last.finished_s:
        last = records.LastRun(
            started_s=last.started_s,
            finished_s=time.time(),
            exit_code=EXIT_KILLED,
            restarts=last.restarts,
            error="its supervisor was killed",
        )
        try:
            state.write_last(paths, container_id, last, durably=not config.spec.rm)
        except NoSpace:
            pass  # a full disk must not keep anybody from removing the container
    tell_event(paths, config, "die", exitCode=last.exit_code)
    state.finish_run(paths, container_id)
    if config.spec.rm:
        remove_container(paths, config)


def removed_after_boot(paths: Paths, info: ContainerInfo) -> bool:
    """Removes a container that removes itself, when the machine went down while it ran; tells whether it did."""
    if not info.config.spec.rm or info.status != EXITED or os.path.lexists(paths.run_dir(info.id)):
        return False
    with state.container_lock(paths, info.id, wait=False) as held:
        if not held or state.is_kept(paths, info.id):
            return False
        state.remove_container(paths, info.config)
    return True
