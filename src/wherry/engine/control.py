"""How others deal with a monitor: asking it for the container's end, waiting for it, and cleaning up after a dead one.

A monitor is named by the holder of ``monitor.lock``; its number in ``run.json`` is used only through a pidfd that was
opened while that lock was seen to be held, so no signal can reach a stranger that has the number by now.
"""

from __future__ import annotations

import os
import select
import signal
import time

from wherry.core import trace
from wherry.core.errors import NoSpace, Timeout
from wherry.engine import pausing, state
from wherry.engine.info import EXIT_KILLED
from wherry.engine.state import Paths

KILL_GRACE_S = 30.0
"""How long the end of a container is waited for after SIGKILL: processes in uninterruptible sleep take their time."""
_POLL_S = 0.02


def ask_for_end(paths: Paths, container_id: str, signal_number: int, patience_s: float | None) -> None:
    """Leaves the wish for the container's end with its monitor; nothing happens when none lives.

    Args:
        paths: of the engine root.
        container_id: whose.
        signal_number: sent to the container.
        patience_s: after which it gets SIGKILL; None: never.
    """
    while state.monitor_lives(paths, container_id):
        try:
            state.write_stop(paths, container_id, signal_number=signal_number, timeout_s=patience_s)
        except FileNotFoundError:
            return  # it removed itself just now
        if _wake(paths, container_id):
            pausing.thaw(paths, container_id)  # a frozen process takes no signal
            return
        time.sleep(_POLL_S)  # it is being started: it has not said yet who it is
    recover(paths, container_id)


def _wake(paths: Paths, container_id: str) -> bool:
    pidfd = _open_monitor(paths, container_id)
    if pidfd is None:
        return False
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGUSR1)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)
    return True


def _open_monitor(paths: Paths, container_id: str) -> int | None:
    run = state.read_run(paths, container_id)
    if run is None:
        return None
    try:
        pidfd = os.pidfd_open(run.monitor_pid)
    except ProcessLookupError:
        return None
    if state.monitor_lives(paths, container_id):
        return pidfd
    os.close(pidfd)
    return None


def await_end(paths: Paths, container_id: str, timeout_s: float | None) -> int | None:
    """Waits until no monitor lives.

    Returns:
        The exit status that it left; None when there was no monitor.

    Raises:
        Timeout: it still lives.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    try:
        lock_fd = os.open(paths.run_dir(container_id) / "monitor.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    waited = False
    try:
        while state.lock_is_held(lock_fd):
            waited = True
            left_s = None if deadline is None else deadline - time.monotonic()
            if left_s is not None and left_s <= 0:
                raise Timeout(f"container {container_id[:12]} still runs after {timeout_s:g} s")
            _sleep(paths, container_id, left_s)
        if not waited:
            return None
        text = os.pread(lock_fd, 32, 0).decode(errors="replace").strip()
        if text.lstrip("-").isdigit():
            return int(text)
        recover(paths, container_id)
        return EXIT_KILLED
    finally:
        os.close(lock_fd)


def _sleep(paths: Paths, container_id: str, left_s: float | None) -> None:
    pidfd = _open_monitor(paths, container_id)
    if pidfd is None:
        time.sleep(_POLL_S)
        return
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.poll(None if left_s is None else left_s * 1000)
    os.close(pidfd)


def recover(paths: Paths, container_id: str) -> None:
    """Cleans up after a container whose monitor was killed; does nothing to one that is well or being started."""
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
    from wherry.engine.volumes import remove_container
    from wherry.runtime.container import delete

    trace.reach("engine.recovering")
    config = state.read_config(paths, container_id)
    delete(bundle.runtime_dir(paths, container_id))
    for problem in clean_up(paths, config, None):
        raise problem
    last = state.read_last(paths, container_id) or state.LastRun()
    if not last.finished_s:
        last = state.LastRun(
            started_s=last.started_s,
            finished_s=time.time(),
            exit_code=EXIT_KILLED,
            restarts=last.restarts,
            error="its monitor was killed",
        )
        try:
            state.write_last(paths, container_id, last, durably=not config.spec.rm)
        except NoSpace:
            pass  # a full disk must not keep anybody from removing the container
    state.finish_run(paths, container_id)
    if config.spec.rm:
        remove_container(paths, config)
