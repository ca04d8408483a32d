"""``top``: the processes of a container, as ps(1) shows them, read from /proc.

The kernel says whose a process is by its control group; numbers are those of the host. What a process calls itself is
printed only as far as it is printable: it may be an escape sequence for the terminal of whoever looks.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from wherry.core.errors import Conflict, Unsupported, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wherry.engine.info import ContainerInfo
    from wherry.engine.state import Paths

MAX_CMDLINE_BYTES = 4096
HEAD = ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")
_PTS_MAJOR, _TTY_MAJOR = range(136, 144), 4


class Process(NamedTuple):
    """One process."""

    uid: int
    pid: int
    ppid: int
    cpu_percent: int
    started_s: float
    tty: str
    cpu_s: float
    command: str


def pids_of(paths: Paths, info: ContainerInfo) -> list[int]:
    """Returns the host's numbers of a container's processes.

    Raises:
        Conflict: it does not run.
    """
    from wherry.engine.bundle import runtime_dir
    from wherry.runtime.state import load_state

    if not info.pid:
        raise Conflict(f"container {info.name} is not running", hint=f"start it: `wherry start {info.name}`")
    cgroup = load_state(runtime_dir(paths, info.id)).cgroup
    if cgroup.groups:
        return sorted(cgroup.pids()) or [info.pid]
    return of_namespace(info.pid)


def of_namespace(pid: int, proc: str = "/proc") -> list[int]:
    """Returns the processes of a process's pid namespace, and of no other; itself alone when that is this process's.

    For containers without control groups, which without root there may not be.
    """
    try:
        theirs = os.readlink(f"{proc}/{pid}/ns/pid")
        if theirs == os.readlink(f"{proc}/self/ns/pid"):
            return [pid]
    except OSError:
        return [pid]
    found = []
    for name in filter(str.isdigit, os.listdir(proc)):
        try:
            if os.readlink(f"{proc}/{name}/ns/pid") == theirs:
                found.append(int(name))
        except OSError:
            continue  # it ended just now, or is another user's
    return sorted(found) or [pid]


def list_processes(paths: Paths, info: ContainerInfo) -> list[Process]:
    """Returns a container's processes; those that end meanwhile are left out."""
    ticks = os.sysconf("SC_CLK_TCK")
    boot_s = _boot_time()
    found = (read_process(pid, ticks=ticks, boot_s=boot_s) for pid in pids_of(paths, info))
    return [process for process in found if process is not None]


def read_process(pid: int, *, ticks: int, boot_s: float, proc: str = "/proc") -> Process | None:
    """Returns one process; None when it has ended.

    Args:
        pid: its number.
        ticks: clock ticks in a second.
        boot_s: when the machine booted, in seconds since 1970.
        proc: where procfs is.
    """
    try:
        with open(f"{proc}/{pid}/stat", "rb") as file:
            head, _, tail = file.read().rpartition(b")")
        with open(f"{proc}/{pid}/cmdline", "rb") as file:
            words = file.read(MAX_CMDLINE_BYTES).rstrip(b"\0").split(b"\0")
        uid = os.stat(f"{proc}/{pid}").st_uid
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = tail.split()  # the first is (3), the state: proc_pid_stat(5)
    cpu_s = (int(fields[11]) + int(fields[12])) / ticks
    started_s = boot_s + int(fields[19]) / ticks
    lived_s = max(1.0, time.time() - started_s)
    name = head.partition(b"(")[2].decode(errors="replace")
    command = b" ".join(words).decode(errors="replace") if words != [b""] else f"[{name}]"
    return Process(
        uid=uid,
        pid=pid,
        ppid=int(fields[1]),
        cpu_percent=min(99, int(100 * cpu_s / lived_s)),
        started_s=started_s,
        tty=_terminal(int(fields[4])),
        cpu_s=cpu_s,
        command="".join(char if char.isprintable() else "?" for char in command),
    )


def row(process: Process) -> tuple[str, ...]:
    """Returns a process's cells for `HEAD`."""
    import pwd

    try:
        user = pwd.getpwuid(process.uid).pw_name
    except KeyError:
        user = str(process.uid)
    started = time.localtime(process.started_s)
    today = time.localtime()[:3] == started[:3]
    minutes, seconds = divmod(int(process.cpu_s), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        user,
        str(process.pid),
        str(process.ppid),
        str(process.cpu_percent),
        time.strftime("%H:%M" if today else "%b%d", started),
        process.tty,
        f"{hours:02}:{minutes:02}:{seconds:02}",
        process.command,
    )


def by_ps(paths: Paths, info: ContainerInfo, options: Sequence[str]) -> str:
    """Returns what the host's ps(1) prints with some options, the container's processes alone.

    Raises:
        Unsupported: the host has no ps.
        UsageError: ps refuses the options, or prints no column PID.
    """
    from wherry.core.errors import ToolError
    from wherry.core.proc import run

    wanted = pids_of(paths, info)
    command, hint = ["ps", *options], "install procps, or give no options of ps"
    try:
        try:
            # by itself, -o shows those of this terminal alone
            output = run([*command, "-q", ",".join(map(str, wanted))], hint=hint).stdout
        except ToolError:
            output = run(command, hint=hint).stdout  # options that choose processes themselves, as -e
        text = output.decode(errors="replace")
    except ToolError as error:
        raise UsageError(f"ps refuses {' '.join(options)!r}", hint=str(error)) from error
    except Unsupported:
        raise
    head, *lines = text.splitlines()
    names = head.split()
    if "PID" not in names:
        raise UsageError("these options of ps show no column PID", hint="add pid to them")
    column = names.index("PID")
    mine = {str(pid) for pid in wanted}
    return "\n".join([head, *(line for line in lines if _word(line, column) in mine)])


def _word(line: str, index: int) -> str:
    words = line.split(None, index + 1)
    return words[index] if len(words) > index else ""


def _terminal(number: int) -> str:
    major, minor = os.major(number), os.minor(number)
    if major in _PTS_MAJOR:
        return f"pts/{minor + 256 * (major - _PTS_MAJOR.start)}"
    return f"tty{minor}" if major == _TTY_MAJOR else "?"


def _boot_time() -> float:
    with open("/proc/stat", encoding="ascii") as file:
        for line in file:
            if line.startswith("btime "):
                return float(line.split()[1])
    return 0.0
