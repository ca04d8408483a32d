"""``wherry runtime``: pause, resume, update and events."""

from __future__ import annotations

import os
import select
import sys

from wherry.cli.runtime_look import is_paused
from wherry.core.errors import Conflict, Unsupported, UsageError, WherryError
from wherry.core.value import replace
from wherry.linux.process import pidfd_open
from wherry.runtime.config_resources import MAX_RESOURCES_BYTES, parse_resources
from wherry.runtime.resources import Resources
from wherry.runtime.state import Status, load_state, save

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.arguments import Arguments
    from wherry.cli.runtime import Context
    from wherry.runtime.state import State

_NUMBERS = {
    "memory": "memory_limit_bytes",
    "memory-reservation": "memory_reservation_bytes",
    "memory-swap": "memory_swap_bytes",
    "kernel-memory": "memory_kernel_bytes",
    "kernel-memory-tcp": "memory_kernel_tcp_bytes",
    "cpu-share": "cpu_shares",
    "cpu-quota": "cpu_quota_us",
    "cpu-period": "cpu_period_us",
    "cpu-burst": "cpu_burst_us",
    "cpu-rt-runtime": "cpu_realtime_runtime_us",
    "cpu-rt-period": "cpu_realtime_period_us",
    "cpu-idle": "cpu_idle",
    "pids-limit": "pids_limit",
    "blkio-weight": "block_weight",
}
_TEXTS = {"cpuset-cpus": "cpuset_cpus", "cpuset-mems": "cpuset_mems"}
_UNITS = {"": 1.0, "s": 1.0, "ms": 0.001, "m": 60.0, "h": 3600.0}
_DEFAULT_INTERVAL_S = 5.0


def pause_command(context: Context, found: Arguments) -> int:
    """Stops every process of a container."""
    state = _alive(context, found)
    if is_paused(state):
        raise Conflict("the container is paused already", where=state.container_id)
    state.cgroup.freeze()
    return 0


def resume_command(context: Context, found: Arguments) -> int:
    """Lets a paused container run on."""
    state = _alive(context, found)
    if not is_paused(state):
        raise Conflict("the container is not paused", where=state.container_id)
    state.cgroup.thaw()
    return 0


def _alive(context: Context, found: Arguments) -> State:
    state = load_state(context.directory(found.rest[0]))
    if state.status == Status.STOPPED:
        raise Conflict("the container does not run", where=state.container_id)
    if not state.cgroup.groups:
        raise Unsupported("the container has no control groups", where=state.container_id)
    return state


def update_command(context: Context, found: Arguments) -> int:
    """Changes the limits of a container."""
    for key in ("l3-cache-schema", "mem-bw-schema"):
        if found.given(key):
            raise Unsupported(f"--{key}: resctrl is not done")
    limits = Resources()
    if found.given("resources"):
        path = found.text("resources")
        if path == "-":
            data = sys.stdin.buffer.read(MAX_RESOURCES_BYTES + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(MAX_RESOURCES_BYTES + 1)
        limits = parse_resources(data, where=path)
    changes: dict[str, Any] = {name: found.number(key) for key, name in _NUMBERS.items() if found.given(key)}
    changes |= {name: found.text(key) for key, name in _TEXTS.items() if found.given(key)}
    limits = replace(limits, **changes)
    state = _alive(context, found)
    try:
        state.cgroup.apply(limits)
    except OSError as error:
        raise WherryError(f"cannot change a limit: {error.strerror}", where=error.filename) from None
    finally:
        save(context.directory(found.rest[0]), state)  # it may be in a group more now, which is to be removed
    return 0


def events_command(context: Context, found: Arguments) -> int:
    """Prints what a container uses."""
    state = _alive(context, found)
    if found.flag("stats"):
        _print_usage(state)
        return 0
    interval_ms = int(_seconds(found.text("interval")) * 1000)
    pidfd = pidfd_open(state.pid)
    waiting = select.poll()
    waiting.register(pidfd, select.POLLIN)
    try:
        with state.cgroup.watch_oom() as watch:
            waiting.register(watch.fileno(), select.POLLIN)
            seen = watch.read().times
            while True:
                ready = [fd for fd, _ in waiting.poll(interval_ms)]
                if watch.fileno() in ready:
                    times = watch.read().times
                    if times > seen:
                        seen = times
                        _print({"type": "oom", "id": state.container_id})
                if pidfd in ready:
                    return 0
                if not ready:
                    _print_usage(state)
    finally:
        os.close(pidfd)


def _seconds(word: str) -> float:
    if not word:
        return _DEFAULT_INTERVAL_S
    digits = word.rstrip("msh")
    unit = word[len(digits) :]
    try:
        seconds = float(digits) * _UNITS[unit]
    except (KeyError, ValueError):
        raise UsageError(f"--interval takes a time such as 5s, not {word!r}") from None
    if not 0 < seconds < 1e6:
        raise UsageError(f"--interval takes a time above zero, not {word!r}")
    return seconds


def _print_usage(state: State) -> None:
    from wherry.runtime.cgroup_stats import runc_stats

    _print(runc_stats(state.container_id, state.cgroup.usage()))


def _print(event: dict[str, Any]) -> None:
    from wherry.core import jsonio

    print(jsonio.compact(event).decode(), flush=True)
