"""The ``process`` of an OCI configuration, read: for a container's first process, and for one that is added.

Source: Runtime Specification 1.2.0, config.md, "Process".
"""

from __future__ import annotations

from wherry.core import jsonio
from wherry.linux.attributes import IO_CLASSES, RLIMITS, SCHED_FLAGS, SCHED_POLICIES
from wherry.linux.capabilities import NAMES
from wherry.runtime.reader import Reader
from wherry.runtime.spec import Capabilities, IoPriority, Process, Rlimit, Scheduler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PROCESS_BYTES = MAX_CONFIG_BYTES = 4 * 1024 * 1024
_MAX_ID = (1 << 32) - 2
"""The highest id of 32 bits means "no change" to the kernel."""
_MAX_RLIMIT = (1 << 64) - 1
_MAX_SIGNED_RLIMIT = (1 << 63) - 1
_MAX_ADJUSTMENT = 1000


def parse_process(data: bytes, *, where: object = None, warn: Callable[[str], None] | None = None) -> Process:
    """Reads a process, as ``exec --process`` has it; for `warn` see `parse_config`.

    Raises:
        InvalidInput: it is malformed; names the key.
        Unsupported: it asks for something that is not done here; names the key.
    """
    value = jsonio.loads(data, where=where, max_bytes=MAX_PROCESS_BYTES)
    return parse_process_object(Reader(value, "", where, warn))


def parse_process_of_config(data: bytes, *, where: object = None) -> Process:
    """Reads the process alone of a ``config.json`` that a container was made from, which was told of then.

    Raises:
        InvalidInput: it is malformed; names the key.
    """
    value = jsonio.loads(data, where=where, max_bytes=MAX_CONFIG_BYTES)
    process = value.get("process") if isinstance(value, dict) else None
    return parse_process_object(Reader(process, "process", where, lambda _: None))


def _capabilities(sets: Reader, key: str) -> tuple[str, ...]:
    """Reads a set of capabilities; those that no kernel knows are told of, as config.md asks for."""
    names = sets.strings(key)
    for name in names:
        if name not in NAMES:
            sets.ignored(key, f"no capability is called {name!r}, see capabilities(7)")
    return tuple(name for name in names if name in NAMES)


def parse_process_object(found: Reader) -> Process:
    """Reads a process."""
    with found, found.below("user") as user, found.below("capabilities") as sets, found.below("consoleSize") as size:
        for key in ("commandLine",):
            if found.has(key):
                raise found.unsupported(key, "it is for Windows")
        with found.below("execCPUAffinity") as affinity:
            initial, final = affinity.text("initial"), affinity.text("final")
        return Process(
            args=found.strings("args"),
            env=found.strings("env"),
            cwd=found.text("cwd"),
            uid=user.natural("uid", high=_MAX_ID),
            gid=user.natural("gid", high=_MAX_ID),
            additional_gids=user.numbers("additionalGids"),
            umask=user.number("umask", low=0, high=0o7777),
            capabilities=Capabilities(
                bounding=_capabilities(sets, "bounding"),
                effective=_capabilities(sets, "effective"),
                permitted=_capabilities(sets, "permitted"),
                inheritable=_capabilities(sets, "inheritable"),
                ambient=_capabilities(sets, "ambient"),
            ),
            no_new_privileges=found.flag("noNewPrivileges"),
            rlimits=_rlimits(found),
            oom_score_adj=found.number("oomScoreAdj", low=-_MAX_ADJUSTMENT, high=_MAX_ADJUSTMENT),
            terminal=found.flag("terminal"),
            console_columns=size.natural("width", 80, high=0xFFFF),
            console_rows=size.natural("height", 24, high=0xFFFF),
            scheduler=_scheduler(found),
            io_priority=_io_priority(found),
            cpu_affinity_initial=initial,
            cpu_affinity_final=final,
            apparmor_profile=found.text("apparmorProfile"),
            selinux_label=found.text("selinuxLabel"),
        )


def _rlimits(found: Reader) -> tuple[Rlimit, ...]:
    limits: list[Rlimit] = []
    for item in found.each("rlimits"):
        with item:
            name = item.text("type")
            if name not in RLIMITS:
                raise item.wrong("type", f"no resource limit is called {name!r}")
            if any(limit.type == name for limit in limits):
                raise item.wrong("type", f"{name} stands twice")
            limits.append(Rlimit(type=name, soft=_limit(item, "soft"), hard=_limit(item, "hard")))
    return tuple(limits)


def _limit(item: Reader, key: str) -> int:
    value = item.number(key, low=-1, high=_MAX_RLIMIT) or 0
    return -1 if value > _MAX_SIGNED_RLIMIT else value


def _scheduler(found: Reader) -> Scheduler | None:
    if not found.has("scheduler"):
        return None
    with found.below("scheduler") as item:
        policy, flags = item.text("policy"), item.strings("flags")
        if policy not in SCHED_POLICIES:
            raise item.wrong("policy", f"no scheduling policy is called {policy!r}")
        for flag in flags:
            if flag not in SCHED_FLAGS:
                raise item.wrong("flags", f"no scheduling flag is called {flag!r}")
        return Scheduler(
            policy=policy,
            nice=item.number("nice", low=-20, high=19) or 0,
            priority=item.number("priority", low=0, high=99) or 0,
            flags=flags,
            runtime_ns=item.natural("runtime", high=(1 << 63) - 1),
            deadline_ns=item.natural("deadline", high=(1 << 63) - 1),
            period_ns=item.natural("period", high=(1 << 63) - 1),
        )


def _io_priority(found: Reader) -> IoPriority | None:
    if not found.has("ioPriority"):
        return None
    with found.below("ioPriority") as item:
        name = item.text("class")
        if name not in IO_CLASSES:
            raise item.wrong("class", f"no class of input and output is called {name!r}")
        return IoPriority(io_class=name, priority=item.number("priority", low=0, high=7) or 0)
