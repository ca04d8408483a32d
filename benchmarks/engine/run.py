"""``make bench-engine``: cold starts, the runtime alone, the supervisor, exec, a hundred containers, idle memory.

Everything runs in one and the same busybox tree, with control groups and a system call filter on, in one run, so that
the rows of a table can be compared. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.engine import memory
from benchmarks.engine.peers import PODMAN_LIMITS, Peers
from benchmarks.engine.timing import Command, Row, print_rows, race

from wherry.core.proc import run

WHERRY = Path(sys.executable).with_name("wherry")
PYTHON = "/usr/bin/python3"
_HUNDRED = 100


def cold(peers: Peers, rounds: int) -> None:
    """The whole command: an image or a tree to a process and back to nothing."""
    overlay = str(peers.scratch / "overlay")
    bundle = str(peers.bundle("cold", "/bin/true"))
    wherry, podman, docker = peers.wherry, peers.podman, peers.docker
    tree = str(peers.tree)
    commands = {
        "python3 -I -S -c pass": Command([PYTHON, "-I", "-S", "-c", "pass"]),
        "C floor": Command([str(peers.floor), tree, overlay]),
        "C floor, network namespace": Command([str(peers.floor), tree, overlay, "net"]),
        "wherry run, no network": Command([*wherry, "run", "--rm", "--network", "none", "bench:1", "true"]),
        "wherry run, bridge": Command([*wherry, "run", "--rm", "bench:1", "true"]),
        "runc run": Command([*peers.runc, "run", "--bundle", bundle, "bench-runc"]),
        "crun run": Command([*peers.crun, "run", "--bundle", bundle, "bench-crun"]),
        "lxc-execute": Command(["lxc-execute", "-n", "bench", "-f", str(peers.lxc), "--", "/bin/true"]),
        "systemd-nspawn": Command(
            ["systemd-nspawn", "-q", "--register=no", "--keep-unit", "-D", tree, "--read-only", "/bin/true"]
        ),
        "bwrap --unshare-all": Command(
            ["bwrap", "--unshare-all", "--ro-bind", tree, "/", "--proc", "/proc", "--dev", "/dev", "/bin/true"]
        ),
        "a shell, as MINCS": Command([str(peers.minc), tree, overlay, "/bin/true"]),
        "podman run, no network": Command(
            [*podman, "run", "--rm", *PODMAN_LIMITS, "--network", "none", "localhost/bench:1", "true"]
        ),
        "podman run, bridge": Command([*podman, "run", "--rm", *PODMAN_LIMITS, "localhost/bench:1", "true"]),
    }
    if peers.wrapper:
        commands["(the wrapper before crun)"] = Command([*peers.wrapper, "true"])
    if docker:
        commands["docker run, no network"] = Command([*docker, "run", "--rm", "--network", "none", "bench:1", "true"])
        commands["docker run, bridge"] = Command([*docker, "run", "--rm", "bench:1", "true"])
    print_rows("A cold `run --rm` of true", race(commands, rounds=rounds), base="runc run")


def runtimes(peers: Peers, rounds: int) -> None:
    """The OCI runtimes alone, on one bundle."""
    bundle = str(peers.bundle("runtime", "/bin/true"))
    engines = {"wherry runtime": peers.wherry_runtime, "crun": peers.crun, "runc": peers.runc}
    commands = {
        f"{name} run": Command([*engine, "run", "--bundle", bundle, f"bench-{name.split()[0]}"])
        for name, engine in engines.items()
    }
    print_rows("`run` of one bundle", race(commands, rounds=rounds), base="crun run")


def supervised(peers: Peers, rounds: int) -> None:
    """A start inside the running supervisor, asked for by a client that is there already, beside a whole crun."""
    from benchmarks.engine.supervised import starts

    bundle = str(peers.bundle("supervised", "/bin/true"))
    crun = race({"crun run": Command([*peers.crun, "run", "--bundle", bundle, "bench-crun"])}, rounds=rounds)
    print_rows("A start inside the running supervisor", [*starts(peers, rounds), *crun], base="crun run")


def further(peers: Peers, rounds: int) -> None:
    """A further process in a container that runs."""
    bundle = str(peers.bundle("exec", "/bin/sleep", "100000"))
    name = "bench-exec"
    runners: dict[str, tuple[Sequence[str], Sequence[str], Sequence[str]]] = {
        "wherry": (
            [*peers.wherry, "run", "-d", "--name", name, "--network", "none", "bench:1", "sleep", "100000"],
            [*peers.wherry, "exec", name, "true"],
            [*peers.wherry, "rm", "-f", name],
        ),
        "podman": (
            [
                *(*peers.podman, "run", "-d", "--name", name, *PODMAN_LIMITS, "--network", "none"),
                *("localhost/bench:1", "sleep", "100000"),
            ],
            [*peers.podman, "exec", name, "true"],
            [*peers.podman, "rm", "-f", "-t", "0", name],
        ),
    }
    for runtime, engine in {"wherry runtime": peers.wherry_runtime, "crun": peers.crun, "runc": peers.runc}.items():
        key = f"{name}-{runtime.split()[-1]}"
        runners[runtime] = (
            [*engine, "run", "--detach", "--bundle", bundle, key],
            [*engine, "exec", key, "/bin/true"],
            [*engine, "delete", "--force", key],
        )
    if peers.docker:
        runners["docker"] = (
            [*peers.docker, "run", "-d", "--name", name, "--network", "none", "bench:1", "sleep", "100000"],
            [*peers.docker, "exec", name, "true"],
            [*peers.docker, "rm", "-f", name],
        )
    for begin, _, _ in runners.values():
        _quietly(begin)
    try:
        commands = {f"{key} exec": Command(line) for key, (_, line, _) in runners.items()}
        print_rows("`exec` of true in a running container", race(commands, rounds=rounds), base="runc exec")
    finally:
        for _, _, end in runners.values():
            _quietly(end)


def hundred(peers: Peers, rounds: int) -> None:
    """A hundred detached containers started one after another, and all removed."""
    rows = []
    for key, (begin, end) in _detached(peers).items():
        started = time.perf_counter()
        try:
            for number in range(_HUNDRED):
                _quietly(begin(f"bench-{number}"))
            between = time.perf_counter()
        finally:
            _quietly(end([f"bench-{number}" for number in range(_HUNDRED)]))
        done = time.perf_counter()
        rows += [
            Row(f"{key}: start, each", (between - started) * 1000 / _HUNDRED, 0, 0, 1),
            Row(f"{key}: remove, each", (done - between) * 1000 / _HUNDRED, 0, 0, 1),
        ]
    print_rows(f"{_HUNDRED} containers started, and removed", rows, base="podman: start, each")


def idle(peers: Peers, rounds: int) -> None:
    """Memory of the engine's own processes while 1, 10 and 50 containers do nothing."""
    root = str(peers.scratch)
    of_engine: dict[str, Callable[[str, str], bool]] = {
        "wherry": lambda name, line: "wherry" in name and "sleep" not in line,
        "podman": lambda name, line: name == "conmon",
        "docker": lambda name, line: name.startswith(("dockerd", "containerd")) and root in line,
    }
    print("\nIdle memory of the engine's own processes, KiB")
    print(f"  {'':<10}{'containers':>11}{'processes':>11}{'resident':>11}{'proportional':>14}{'private':>11}")
    for key, (begin, end) in _detached(peers).items():
        names: list[str] = []
        try:
            for count in (1, 10, 50):
                while len(names) < count:
                    names.append(f"bench-{len(names)}")
                    _quietly(begin(names[-1]))
                found = memory.of_processes(of_engine[key])
                print(
                    f"  {key:<10}{count:>11}{found.processes:>11}{found.resident_kib:>11}"
                    f"{found.proportional_kib:>14}{found.private_kib:>11}"
                )
        finally:
            _quietly(end(names))


def _detached(peers: Peers) -> dict[str, tuple[Callable[[str], list[str]], Callable[[list[str]], list[str]]]]:
    """Returns engine -> (a container's name to the command that starts it; names to the command that removes them)."""
    sleep = ("sleep", "100000")
    found: dict[str, tuple[Callable[[str], list[str]], Callable[[list[str]], list[str]]]] = {
        "wherry": (
            lambda name: [*peers.wherry, "run", "-d", "--name", name, "--network", "none", "bench:1", *sleep],
            lambda names: [*peers.wherry, "rm", "-f", *names],
        ),
        "podman": (
            lambda name: [
                *(*peers.podman, "run", "-d", "--name", name, *PODMAN_LIMITS, "--network", "none"),
                *("localhost/bench:1", *sleep),
            ],
            lambda names: [*peers.podman, "rm", "-f", "-t", "0", *names],
        ),
    }
    if peers.docker:
        found["docker"] = (
            lambda name: [*peers.docker, "run", "-d", "--name", name, "--network", "none", "bench:1", *sleep],
            lambda names: [*peers.docker, "rm", "-f", *names],
        )
    return found


def _quietly(command: Sequence[str]) -> None:
    """Runs a command whose background children may keep its output open."""
    import subprocess

    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        run(command)  # once more, for its words


ROWS: dict[str, Callable[[Peers, int], None]] = {
    "cold": cold,
    "runtime": runtimes,
    "supervisor": supervised,
    "exec": further,
    "hundred": hundred,
    "memory": idle,
}


def main() -> None:
    """Measures the tables that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--no-docker", action="store_true", help="leave dockerd out")
    options = parser.parse_args()
    unknown = set(options.tables) - ROWS.keys()
    if unknown:
        parser.error(f"no table {unknown.pop()!r}")
    scratch = Path(tempfile.mkdtemp(prefix="wherry-bench-"))
    peers = Peers(scratch, WHERRY)
    try:
        if options.no_docker:
            _measure(peers, options.tables, options.rounds)
        else:
            with peers.dockerd():
                _measure(peers, options.tables, options.rounds)
    finally:
        peers.close()
        shutil.rmtree(scratch)


def _measure(peers: Peers, tables: Sequence[str], rounds: int) -> None:
    for name in tables or ROWS:
        ROWS[name](peers, rounds)


if __name__ == "__main__":
    main()
