"""The commands of ``wherry runtime`` as data: their options, words of help, and the module that does each.

The names are those of runc and crun, so that whatever calls one of these can call this one.
"""

from __future__ import annotations

from wherry.cli.arguments import Command, Option

_BUNDLE = Option(names=("--bundle", "-b"), metavar="DIR", help="The bundle; the working directory unless given.")
_CONFIG = Option(names=("--config", "-f"), metavar="FILE", help="Its configuration; config.json unless given.")
_PID_FILE = Option(names=("--pid-file",), metavar="FILE", help="Write the process id there.")
_CONSOLE = Option(names=("--console-socket",), metavar="PATH", help="Send the terminal's master side to this socket.")
_PRESERVE = Option(
    names=("--preserve-fds",), metavar="N", help="Hand N descriptors down, from 3 on: those that are open."
)
_NO_PIVOT = Option(names=("--no-pivot",), help="Move the root and chroot: for hosts that run from their initial ramfs.")
_NO_KEYRING = Option(names=("--no-new-keyring",), help="Keep the caller's session keyring.")
_NO_SUBREAPER = Option(names=("--no-subreaper",), help="Do not become the parent of orphans; nothing else changes.")
_FORMAT = Option(names=("--format", "-f"), metavar="table|json", help="How to print.")
_HELP = Option(names=("--help", "-h"), help="Show this help.")

GLOBAL = (
    Option(names=("--root",), metavar="DIR", help="Where the states of containers are kept."),
    Option(names=("--log",), metavar="FILE", help="Write errors and warnings there too."),
    Option(names=("--log-format",), metavar="text|json", help="How they are written; text unless given."),
    Option(names=("--log-level",), metavar="LEVEL", help="From which on: debug, info, warning (the default), error."),
    Option(names=("--debug",), help="A traceback for errors."),
    Option(names=("--cgroup-manager",), metavar="cgroupfs|disabled", help="Who keeps limits; systemd is refused."),
    Option(names=("--systemd-cgroup", "-s"), help="Refused: control groups are made directly, without systemd."),
    Option(names=("--rootless",), metavar="true|false|auto", help="Taken for others' sake; it is seen by itself."),
    Option(names=("--version", "-v"), help="Show the version."),
    _HELP,
)

_CREATE = (_BUNDLE, _CONFIG, _PID_FILE, _CONSOLE, _PRESERVE, _NO_PIVOT, _NO_KEYRING, _HELP)


def _limit(name: str, metavar: str, text: str, *more: str) -> Option:
    return Option(names=(f"--{name}", *more), metavar=metavar, help=text)


COMMANDS = {
    command.name: command
    for command in (
        Command(
            name="create",
            usage="create [OPTIONS] ID",
            help="Makes a container, whose command waits for `start`.",
            options=_CREATE,
            least=1,
            most=1,
            examples=("create --bundle /srv/web --pid-file /run/web.pid web",),
        ),
        Command(
            name="start",
            usage="start ID",
            help="Has a created container execute its command.",
            options=(_HELP,),
            least=1,
            most=1,
            examples=("start web",),
        ),
        Command(
            name="run",
            usage="run [OPTIONS] ID",
            help="Makes a container, starts it, waits for its end, deletes it, and ends with its status.",
            options=(
                *_CREATE[:-1],
                Option(names=("--detach", "-d"), help="Come back as soon as it runs."),
                Option(names=("--keep",), help="Do not delete it at its end."),
                _NO_SUBREAPER,
                _HELP,
            ),
            least=1,
            most=1,
            examples=("run --bundle /srv/web web", "run -d --console-socket /run/tty.sock -b /srv/web web"),
        ),
        Command(
            name="exec",
            usage="exec [OPTIONS] ID COMMAND [ARGUMENT...]",
            help="Runs a further process in a container.",
            options=(
                Option(names=("--process", "-p"), metavar="FILE", help="The process, as JSON of the specification."),
                Option(names=("--cwd",), metavar="DIR", help="Its working directory."),
                Option(names=("--env", "-e"), metavar="NAME=VALUE", help="A variable of its environment.", many=True),
                Option(names=("--tty", "-t"), help="Give it a terminal."),
                Option(names=("--user", "-u"), metavar="USER[:GROUP]", help="Who it is: names or numbers."),
                Option(names=("--additional-gids", "-g"), metavar="GID", help="A further group.", many=True),
                Option(names=("--detach", "-d"), help="Come back as soon as it runs."),
                _PID_FILE,
                _CONSOLE,
                Option(names=("--cap", "-c"), metavar="NAME", help="A further capability.", many=True),
                Option(names=("--no-new-privs",), help="It gains no privileges by what it executes."),
                _PRESERVE,
                Option(names=("--cgroup",), metavar="PATH", help="A control group below the container's."),
                Option(names=("--process-label",), metavar="LABEL", help="Its label of SELinux."),
                Option(names=("--apparmor",), metavar="PROFILE", help="Its profile of AppArmor."),
                Option(names=("--ignore-paused",), help="Also in a paused container, where it waits."),
                _NO_SUBREAPER,
                _HELP,
            ),
            least=1,
            program=True,
            examples=("exec -t web sh", "exec --user 1000:1000 --cwd /tmp web id"),
        ),
        Command(
            name="kill",
            usage="kill [OPTIONS] ID [SIGNAL]",
            help="Sends a signal, TERM unless given, to the container's first process.",
            options=(
                Option(names=("--all", "-a"), help="To all its processes."),
                Option(names=("--regex", "-r"), help="ID is a regular expression."),
                _HELP,
            ),
            least=1,
            most=2,
            examples=("kill web", "kill --all web KILL"),
        ),
        Command(
            name="delete",
            usage="delete [OPTIONS] ID",
            help="Removes a container that has ended.",
            options=(
                Option(names=("--force", "-f"), help="Kill it first; a container that is not there is no error."),
                Option(names=("--regex", "-r"), help="ID is a regular expression."),
                _HELP,
            ),
            least=1,
            most=1,
            examples=("delete web", "delete --force --regex 'test-.*'"),
        ),
        Command(
            name="state",
            usage="state ID",
            help="Prints the state of a container as JSON.",
            options=(_HELP,),
            least=1,
            most=1,
            examples=("state web",),
        ),
        Command(
            name="list",
            usage="list [OPTIONS]",
            help="Lists the containers.",
            options=(_FORMAT, Option(names=("--quiet", "-q"), help="Only their names."), _HELP),
            examples=("list --format json",),
        ),
        Command(
            name="ps",
            usage="ps [OPTIONS] ID [OPTION OF PS...]",
            help="Lists the processes of a container.",
            options=(_FORMAT, _HELP),
            least=1,
            program=True,
            examples=("ps web", "ps --format json web"),
        ),
        Command(
            name="pause",
            usage="pause ID",
            help="Stops every process of a container where it is.",
            options=(_HELP,),
            least=1,
            most=1,
            examples=("pause web",),
        ),
        Command(
            name="resume",
            usage="resume ID",
            help="Lets the processes of a paused container run on.",
            options=(_HELP,),
            least=1,
            most=1,
            examples=("resume web",),
        ),
        Command(
            name="update",
            usage="update [OPTIONS] ID",
            help="Changes the limits of a container.",
            options=(
                _limit("resources", "FILE", "Limits as JSON of the specification; - is the standard input.", "-r"),
                _limit("memory", "BYTES", "Memory; -1 is without limit."),
                _limit("memory-reservation", "BYTES", "What is taken back last."),
                _limit("memory-swap", "BYTES", "Memory and swap together."),
                _limit("kernel-memory", "BYTES", "Memory of the kernel (version 1, old kernels)."),
                _limit("kernel-memory-tcp", "BYTES", "Buffers of TCP (version 1)."),
                _limit("cpu-share", "N", "The share of the processors.", "--cpu-shares"),
                _limit("cpu-quota", "MICROSECONDS", "Time in a period."),
                _limit("cpu-period", "MICROSECONDS", "The period."),
                _limit("cpu-burst", "MICROSECONDS", "What may be saved up."),
                _limit("cpu-rt-runtime", "MICROSECONDS", "Real time in a period (version 1)."),
                _limit("cpu-rt-period", "MICROSECONDS", "The period of real time (version 1)."),
                _limit("cpu-idle", "0|1", "Run only when nothing else does."),
                _limit("cpuset-cpus", "LIST", "The processors, like 0-3."),
                _limit("cpuset-mems", "LIST", "The memory nodes."),
                _limit("pids-limit", "N", "Processes; -1 is without limit."),
                _limit("blkio-weight", "N", "The share of block devices, 10 to 1000."),
                _limit("l3-cache-schema", "SCHEMA", "Refused: resctrl is not done."),
                _limit("mem-bw-schema", "SCHEMA", "Refused: resctrl is not done."),
                _HELP,
            ),
            least=1,
            most=1,
            examples=("update --memory 67108864 --pids-limit 100 web",),
        ),
        Command(
            name="events",
            usage="events [OPTIONS] ID",
            help="Prints what a container uses, again and again, and when it lacks memory, as lines of JSON.",
            options=(
                Option(names=("--stats",), help="What it uses now, once."),
                Option(names=("--interval",), metavar="SECONDS", help="How often; 5s unless given."),
                _HELP,
            ),
            least=1,
            most=1,
            examples=("events --stats web",),
        ),
        Command(
            name="spec",
            usage="spec [OPTIONS]",
            help="Writes a configuration to begin with.",
            options=(_BUNDLE, Option(names=("--rootless",), help="For somebody without root."), _HELP),
            examples=("spec --bundle /srv/web",),
        ),
        Command(
            name="features",
            usage="features",
            help="Prints what this runtime can do, as JSON of the specification.",
            options=(_HELP,),
            examples=("features",),
        ),
    )
}
MODULES = {
    "create": "life",
    "start": "life",
    "run": "life",
    "exec": "exec",
    "kill": "life",
    "delete": "life",
    "state": "look",
    "list": "look",
    "ps": "look",
    "pause": "limits",
    "resume": "limits",
    "update": "limits",
    "events": "limits",
    "spec": "describe",
    "features": "describe",
}
"""The command's module is ``cli/runtime_<word>.py``, in which it is a function of its name with ``_command``."""
NOT_DONE = {"checkpoint": "CRIU is not done", "restore": "CRIU is not done"}
