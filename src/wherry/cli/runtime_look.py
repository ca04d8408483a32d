"""``wherry runtime``: state, list and ps."""

from __future__ import annotations

import os
import sys

from wherry.cli.runtime_folder import known
from wherry.core.errors import NotFound, UsageError
from wherry.runtime.state import Status, load_state, oci_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.arguments import Arguments
    from wherry.cli.runtime import Context
    from wherry.runtime.state import State

_COLUMNS = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")


def state_command(context: Context, found: Arguments) -> int:
    """Prints the state of a container."""
    from wherry.core import jsonio

    print(jsonio.pretty(_told(load_state(context.directory(found.rest[0])))))
    return 0


def list_command(context: Context, found: Arguments) -> int:
    """Lists the containers."""
    style = _style(found)
    states = []
    for name in known(context.root):
        try:
            states.append(_told(load_state(f"{context.root}/{name}")))
        except NotFound:
            pass  # deleted meanwhile
    if found.flag("quiet"):
        sys.stdout.writelines(f"{state['id']}\n" for state in states)
    elif style == "json":
        from wherry.core import jsonio

        print(jsonio.compact(states).decode())
    else:
        rows = [tuple(str(state[key.lower()]) for key in _COLUMNS) for state in states]
        widths = [max(len(row[column]) for row in (_COLUMNS, *rows)) for column in range(len(_COLUMNS))]
        for row in (_COLUMNS, *rows):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _told(state: State) -> dict[str, Any]:
    """Returns the state as the specification has it, with what runc adds to it."""
    status = Status.PAUSED if state.status != Status.STOPPED and is_paused(state) else state.status
    value = oci_state(state, status=status)
    annotations = value.pop("annotations")
    return {
        **value,
        "rootfs": state.rootfs,
        "created": _time(state.created_s),
        "annotations": annotations,
        "owner": _owner(state.owner_uid),
    }


def is_paused(state: State) -> bool:
    """Tells whether the processes of a container are stopped by its control groups."""
    return bool(state.cgroup.groups) and state.cgroup.is_frozen()


def _time(seconds: int) -> str:
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _owner(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def ps_command(context: Context, found: Arguments) -> int:
    """Lists the processes of a container."""
    container_id, *more = found.rest
    pids = processes(load_state(context.directory(container_id)))
    if _style(found) == "json":
        from wherry.core import jsonio

        print(jsonio.compact(sorted(pids)).decode())
        return 0
    import subprocess

    done = subprocess.run(["ps", *(more or ["-ef"])], stdout=subprocess.PIPE, check=False)
    header, *lines = done.stdout.decode(errors="replace").splitlines() or [""]
    if "PID" not in header.split():
        raise UsageError("ps prints no PID with these options", where=" ".join(more))
    column = header.split().index("PID")
    print(header)
    for line in lines:
        words = line.split()
        if len(words) > column and words[column].isdecimal() and int(words[column]) in pids:
            print(line)
    return 0


def processes(state: State) -> frozenset[int]:
    """Returns the processes of a container: those in its control groups, else those in its pid namespace."""
    if state.cgroup.groups:
        return state.cgroup.pids()
    if state.status == Status.STOPPED:
        return frozenset()
    own = _pid_namespace(state.pid)
    return frozenset(int(name) for name in os.listdir("/proc") if name.isdecimal() and _pid_namespace(int(name)) == own)


def _pid_namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return f"none of {pid}"


def _style(found: Arguments) -> str:
    style = found.text("format", "table")
    if style not in ("table", "json"):
        raise UsageError(f"--format is table or json, not {style!r}")
    return style
