"""What is kept on disk of a container's runs: how the last one went, and what is so of one that goes on."""

from __future__ import annotations

from wherry.core.errors import InvalidInput
from wherry.core.value import EMPTY, Value, defaults_of, fields_of
from wherry.spec.container import PortMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_PORT_FIELDS = ("container_port", "host_port", "host_ip", "protocol")


class LastRun(Value):
    """How a container's last run went."""

    started_s: float = 0.0
    finished_s: float = 0.0
    exit_code: int | None = None
    oom_killed: bool = False
    restarts: int = 0
    error: str = ""
    stopped: bool = False
    """Somebody asked for the end, so that a boot does not start it again (``unless-stopped``)."""
    extra: Mapping[str, Any] = EMPTY


class ProbeResult(Value):
    """One run of a health check."""

    started_s: float
    finished_s: float
    exit_code: int
    output: str = ""


class RunState(Value):
    """What is so of a container while it is kept: the word of the process that has its life in hand."""

    status: str
    """``starting``, ``plugged`` (its network is there, it was not told to start), ``running``, ``restarting`` or
    ``ending``."""
    supervisor_pid: int
    """Of that process: the supervisor, or the command in the foreground."""
    foreground: bool = False
    """Whether it is a command, which listens at ``life.sock``."""
    store: str = ""
    """The store of its image."""
    pid: int = 0
    started_s: float = 0.0
    restarts: int = 0
    exit_code: int | None = None
    """Of the run before, while restarting; of the last one, while ending."""
    oom_killed: bool = False
    health: str = ""
    failing_streak: int = 0
    probes: tuple[ProbeResult, ...] = ()
    ip: str = ""
    ports: tuple[PortMapping, ...] = ()
    error: str = ""
    stopped: bool = False
    extra: Mapping[str, Any] = EMPTY


def run_from(given: Any, where: object) -> RunState:
    """Returns a state from its JSON value.

    Raises:
        InvalidInput: it is none.
    """
    known = _known(RunState, given, where)
    probes = tuple(ProbeResult(**item) for item in known.pop("probes", ()))
    ports = tuple(PortMapping(**item) for item in known.pop("ports", ()))
    return RunState(**known, probes=probes, ports=ports)


def run_value(state: RunState) -> dict[str, Any]:
    """Returns a state as a JSON value."""
    value = _plain(state)
    value["probes"] = [_plain(probe) for probe in state.probes]
    value["ports"] = [{name: getattr(port, name) for name in _PORT_FIELDS} for port in state.ports]
    return value


def last_from(given: Any, where: object) -> LastRun:
    """Returns a record of the last run from its JSON value.

    Raises:
        InvalidInput: it is none.
    """
    return LastRun(**_known(LastRun, given, where))


def last_value(last: LastRun) -> dict[str, Any]:
    """Returns a record of the last run as a JSON value."""
    return _plain(last)


def _plain(value: Value) -> dict[str, Any]:
    """Returns the fields of a value that are not as they are by default, as JSON has them."""
    defaults = defaults_of(type(value))
    found = {name: getattr(value, name) for name in fields_of(type(value)) if name != "extra"}
    plain = {name: item for name, item in found.items() if name not in defaults or item != defaults[name]}
    return {**getattr(value, "extra", EMPTY), **plain}


def _known(cls: type[Value], given: Any, where: object) -> dict[str, Any]:
    """Returns arguments for a value from a JSON object; what is not known goes into ``extra``.

    Raises:
        InvalidInput: it is no object, or a field that is needed is missing.
    """
    fields = fields_of(cls)
    if not isinstance(given, dict) or any(name not in given for name in fields if name not in defaults_of(cls)):
        raise InvalidInput("not a record of this version of Wherry", where=where)
    known = {name: item for name, item in given.items() if name in fields and name != "extra"}
    return {**known, "extra": {name: item for name, item in given.items() if name not in fields}}
