"""The flags of ``run`` and ``create``, as a table: docker's, and those that are Wherry's own.

``container_run`` makes click's options of it; a front without click can read it as well. Values stay text here, and
`container_spec` says what they mean. Flags of docker that are not there are in `REFUSED`, each with the reason, so
that nobody has to guess.
"""

from __future__ import annotations

from wherry.core.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Flag(Value):
    """One flag: a switch without a ``metavar``, else one that takes a word."""

    names: tuple[str, ...]
    """The long name is the last."""
    metavar: str = ""
    many: bool = False
    help: str = ""

    @property
    def default(self) -> str | tuple[str, ...] | bool | None:
        """What it is when it is not given; an entrypoint may be taken away by an empty word."""
        if not self.metavar:
            return False
        return () if self.many else None if self.key == "entrypoint" else ""

    @property
    def key(self) -> str:
        """What its value is called: ``env_file`` of ``--env-file``."""
        return self.names[-1].lstrip("-").replace("-", "_")


def _switch(names: str, text: str) -> Flag:
    return Flag(names=tuple(names.split()), help=text)


def _word(names: str, metavar: str, text: str) -> Flag:
    return Flag(names=tuple(names.split()), metavar=metavar, help=text)


def _words(names: str, metavar: str, text: str) -> Flag:
    return Flag(names=tuple(names.split()), metavar=metavar, many=True, help=text)


FLAGS = (
    _switch("-i --interactive", "Keep standard input open."),
    _switch("-t --tty", "Give it a terminal."),
    _words("-a --attach", "STREAM", "Stay with stdin, stdout or stderr alone."),
    _word("--detach-keys", "KEYS", "The keys that leave it running (ctrl-p,ctrl-q)."),
    _switch("--rm", "Remove the container when it has ended."),
    _word("--name", "NAME", "Its name; made up when missing."),
    # what runs, and as whom
    _words("-e --env", "NAME[=VALUE]", "Set a variable, or hand one down."),
    _words("--env-file", "FILE", "Read variables from a file."),
    _word("--entrypoint", "COMMAND", "Replace the image's entrypoint."),
    _word("-u --user", "USER[:GROUP]", "Names of the image, or numbers."),
    _words("--group-add", "GROUP", "Add a group of the image, by name or number."),
    _word("-w --workdir", "DIR", "Its working directory."),
    _word("--umask", "MODE", "The mask of file modes (0022)."),
    _switch("--init", "Run an init before the command, that hands on signals and reaps."),
    _word("--platform", "OS/ARCH", "What the image must be for, as linux/arm64."),
    _word("--pull", "POLICY", "always, missing or never."),
    _switch("-q --quiet", "Say less."),
    # files
    _words("-v --volume", "SRC:DST[:OPTS]", "Mount a path or a volume: ro, nocopy, rslave ..."),
    _words("--mount", "SPEC", "Mount: type=bind|volume|tmpfs,source=,target=,readonly."),
    _words("--tmpfs", "DST[:OPTS]", "Mount a tmpfs: size=64m,mode=1777."),
    _words("--volumes-from", "CONTAINER[:ro]", "Mount what another container mounts."),
    _switch("--read-only", "Make the root file system read-only."),
    _switch("--rootfs", "IMAGE is a directory, or an image of squashfs or EROFS; DIR:direct is written to."),
    _word("--shm-size", "SIZE", "The size of /dev/shm (64m)."),
    _words("--secret", "NAME[,OPTS]", "A secret: target=, uid=, gid=, mode=, type=env; /run/secrets/NAME by default."),
    _word("--tz", "ZONE", "Its time zone, as Europe/Berlin, or local."),
    # networks; see container_network_options
    _words("--net --network", "NETWORK", "bridge, none, host, container:NAME, ns:PATH, interface:IF, or a network."),
    _words("--network-alias", "NAME", "A further name for other containers."),
    _word("--ip", "IP", "Its IPv4 address on the first network."),
    _word("--ip6", "IP", "Its IPv6 address on the first network."),
    _word("--mac-address", "MAC", "Its MAC address on the first network."),
    _words("-p --publish", "[IP:]HOST:CTR", "Publish ports: 8080:80, [::1]:53:53/udp, 8000-8010:80-90."),
    _switch("-P --publish-all", "Publish every exposed port on any free one."),
    _words("--expose", "PORT", "A port for -P, beside the image's."),
    _words("--dns", "IP", "A name server, in the place of the host's."),
    _words("--dns-search", "DOMAIN", "A search domain; . for none."),
    _words("--dns-opt --dns-option", "OPTION", "An option of resolv.conf."),
    _words("--add-host", "NAME:IP", "A line of /etc/hosts; host-gateway is the host's address."),
    _word("-h --hostname", "NAME", "Its host name."),
    _word("--domainname", "NAME", "Its NIS domain name."),
    _switch("--no-hosts", "Leave /etc/hosts as the image has it."),
    # what it may do
    _words("--cap-add", "CAP", "Add a capability, or ALL."),
    _words("--cap-drop", "CAP", "Drop a capability, or ALL."),
    _switch("--privileged", "All capabilities and devices, no filters."),
    _words("--security-opt", "OPT", "no-new-privileges=false, seccomp=FILE|unconfined, apparmor=, mask=, unmask= ..."),
    _words("--device", "SRC[:DST][:rwm]", "Give it a device of the host, or a folder of them."),
    _words("--device-cgroup-rule", "RULE", "Allow more devices: 'c 189:* rwm'."),
    _switch("--usedev", "Mount the host's devtmpfs as /dev."),
    _switch("--debugfs", "Mount /sys/kernel/debug."),
    _switch("--x11", "Hand in the display: its sockets and key, read-only."),
    _words("--sysctl", "KEY=VALUE", "Set a kernel parameter of its namespaces."),
    _words("--ulimit", "NAME=SOFT[:HARD]", "Limit its processes: nofile=1024."),
    _word("--pid", "MODE", "private, host or container:NAME."),
    _word("--ipc", "MODE", "private, shareable, none, host or container:NAME."),
    _word("--uts", "MODE", "private or host."),
    _word("--cgroupns", "MODE", "private or host."),
    _word("--userns", "MODE", "host, auto[:size=N], or private with --uidmap."),
    _words("--uidmap", "CTR:HOST:N", "Who its users are on the host: 0:100000:65536."),
    _words("--gidmap", "CTR:HOST:N", "The same of its groups."),
    _word("--subuidname", "NAME", "Take the ids of a name in /etc/subuid."),
    _word("--subgidname", "NAME", "Take the ids of a name in /etc/subgid."),
    # limits
    _word("-m --memory", "SIZE", "Limit memory, as in 64m."),
    _word("--memory-reservation", "SIZE", "What it keeps when memory is short."),
    _word("--memory-swap", "SIZE", "Limit memory and swap together; -1 is no limit."),
    _word("--memory-swappiness", "N", "How readily it is swapped out: 0 to 100."),
    _switch("--oom-kill-disable", "Let it wait when its memory runs out."),
    _word("--oom-score-adj", "N", "How readily the kernel ends it: -1000 to 1000."),
    _word("--cpus", "N", "Limit CPU time, as in 1.5."),
    _word("-c --cpu-shares", "N", "Its share of busy CPUs (1024)."),
    _word("--cpu-period", "USEC", "The period of --cpu-quota (100000)."),
    _word("--cpu-quota", "USEC", "CPU time in each period."),
    _word("--cpu-rt-period", "USEC", "The period of --cpu-rt-runtime."),
    _word("--cpu-rt-runtime", "USEC", "Real-time CPU time in each period."),
    _word("--cpuset-cpus", "LIST", "The CPUs that it may use, as 0-2,4."),
    _word("--cpuset-mems", "LIST", "The memory nodes that it may use."),
    _word("--cpu-affinity", "LIST|MASK", "Bind its processes to CPUs by their affinity: 0,2-3 or 0x5."),
    _word("--pids-limit", "N", "Limit the number of processes; -1 is no limit."),
    _word("--blkio-weight", "N", "Its share of block devices: 10 to 1000."),
    _words("--blkio-weight-device", "PATH:N", "Its share of one block device."),
    _words("--device-read-bps", "PATH:RATE", "Limit reading, in bytes a second."),
    _words("--device-write-bps", "PATH:RATE", "Limit writing, in bytes a second."),
    _words("--device-read-iops", "PATH:RATE", "Limit reading, in operations a second."),
    _words("--device-write-iops", "PATH:RATE", "Limit writing, in operations a second."),
    _word("--cgroup-parent", "PATH", "The control group that it is put below."),
    # its life
    _word("--restart", "POLICY", "no, on-failure[:N], always, unless-stopped."),
    _word("--stop-signal", "SIGNAL", "Signal that ends it (SIGTERM)."),
    _word("--stop-timeout", "S", "Seconds until SIGKILL (10)."),
    _word("--health-cmd", "COMMAND", "A shell command that tells whether it is well."),
    _word("--health-interval", "TIME", "Time between two checks (30s)."),
    _word("--health-timeout", "TIME", "Time that a check may take (30s)."),
    _word("--health-retries", "N", "Failures until unhealthy (3)."),
    _word("--health-start-period", "TIME", "Time in which failures do not count."),
    _word("--health-start-interval", "TIME", "Time between two checks in that time (5s)."),
    _switch("--no-healthcheck", "Do not run the image's check."),
    _words("-l --label", "KEY=VALUE", "Label the container."),
    _words("--label-file", "FILE", "Read labels from a file."),
    _words("--annotation", "KEY=VALUE", "Hand something on to hooks of the runtime."),
    _word("--log-driver", "DRIVER", "json-file or none."),
    _words("--log-opt", "KEY=VALUE", "max-size=10m, max-file=3."),
    _word("--cidfile", "FILE", "Write the container's id to a file."),
    _word("--pidfile", "FILE", "Write the number of its first process to a file."),
    _word("--sdnotify", "MODE", "container hands in the service manager's socket; ignore does not."),
)
"""In the order of ``--help``."""

MACHINE_FLAGS = (
    _word("--machine", "KIND", "Under a kernel of its own: qemu, or uml (user-mode Linux); see wherry kernel."),
    _word("--kernel", "FILE", "That kernel, in the place of the distribution's."),
)

_PRESERVE = _word("--preserve-fds", "N", "Hand it N of the caller's descriptors, from 3 on.")

RUN_FLAGS = (_switch("-d --detach", "Print the container's id and come back."), *FLAGS, *MACHINE_FLAGS, _PRESERVE)

EXEC_FLAGS = (
    _switch("-d --detach", "Come back when it runs."),
    _word("--detach-keys", "KEYS", "The keys that leave it running (ctrl-p,ctrl-q)."),
    _switch("-i --interactive", "Hand standard input on."),
    _switch("-t --tty", "Give it a terminal."),
    _words("-e --env", "NAME[=VALUE]", "Set a variable, or hand one down."),
    _words("--env-file", "FILE", "Read variables from a file."),
    _word("-u --user", "USER[:GROUP]", "Names of the image, or numbers."),
    _word("-w --workdir", "DIR", "Its working directory."),
    _switch("--privileged", "With all capabilities."),
    _PRESERVE,
)


REFUSED = {
    "--cpu-count": "that is for Windows",
    "--cpu-percent": "that is for Windows",
    "--io-maxbandwidth": "that is for Windows; use --device-read-bps",
    "--io-maxiops": "that is for Windows; use --device-read-iops",
    "--isolation": "that is for Windows",
    "--disable-content-trust": "images are verified by their digests; there is no Notary to leave out",
    "--gpus": "there is no hook of a vendor; name the nodes with --device and mount the libraries with -v",
    "--kernel-memory": "Linux has none since 5.16; --memory counts it",
    "--link-local-ip": "the kernel gives link-local addresses itself; name others with --ip and --ip6",
    "--link": "docker's own advice is a network; containers of one network find each other by name",
    "--runtime": "the runtime is Wherry's own; see `wherry runtime`",
    "--storage-opt": "the root is an overlay, which has no limit of its own; put data on a volume",
    "--use-api-socket": "there is no daemon, and so no socket",
    "--volume-driver": "there are local volumes alone",
    "--sig-proxy": "a command in the foreground always hands on its signals; use -d to have them apart",
    "--ftrace": "tracing is of the whole host, not of one container; use trace-cmd with the container's process",
}
"""Flags that people know from elsewhere -> why they are not there, and what to do."""
REFUSED_SWITCHES = frozenset({"--disable-content-trust", "--use-api-socket"})


def defaults() -> dict[str, Any]:
    """Returns what every flag is when it is not given."""
    return {flag.key: flag.default for flag in FLAGS}
