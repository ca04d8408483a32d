"""``wherry runtime``: pause, resume, update and events."""

from __future__ import annotations

import sys
import time

from wherry.cli.runtime_look import is_paused
from wherry.core.errors import Conflict, Unsupported, UsageError, WherryError
from wherry.core.value import replace
from wherry.runtime.config_resources import MAX_RESOURCES_BYTES, parse_resources
from wherry.runtime.resources import Resources
from wherry.runtime.state import Status, load_state

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
    return 0


def events_command(context: Context, found: Arguments) -> int:
    """Prints what a container uses."""
    state = _alive(context, found)
    if found.flag("stats"):
        _print_event("stats", state, _usage(state))
        return 0
    interval = _seconds(found.text("interval"))
    seen = state.cgroup.stats().oom_kills or 0
    while True:
        time.sleep(interval)
        if load_state(context.directory(found.rest[0])).status == Status.STOPPED:
            return 0
        killed = state.cgroup.stats().oom_kills or 0
        if killed > seen:
            _print_event("oom", state, None)
            seen = killed
        _print_event("stats", state, _usage(state))


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


def _usage(state: State) -> dict[str, Any]:
    """Returns what a container uses in runc's words (its events/types.go)."""
    found = state.cgroup.stats()
    memory = {"usage": found.memory_bytes or 0, "max": found.memory_peak_bytes or 0, "failcnt": 0}
    return {
        "cpu": {"usage": {"total": found.cpu_ns or 0}},
        "memory": {"usage": memory},
        "pids": {"current": found.pids or 0},
    }


def _print_event(kind: str, state: State, data: dict[str, Any] | None) -> None:
    from wherry.core import jsonio

    event: dict[str, Any] = {"type": kind, "id": state.container_id}
    if data is not None:
        event["data"] = data
    print(jsonio.compact(event).decode(), flush=True)
