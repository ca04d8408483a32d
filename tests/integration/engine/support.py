"""What the engine's and the command line's integration tests share: an image, a command, a list of leftovers."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fixtures import busybox

from wherry.core.digest import Checksum
from wherry.core.jsonio import loads
from wherry.engine.state import Paths, all_ids
from wherry.image.importing import import_image
from wherry.linux import links as kernel_links
from wherry.linux.netlink import RouteSocket
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository

IMAGE = "test/busybox:1"
TIMEOUT_S = 60


def make_tree(tree: Path) -> None:
    """Makes a root tree of nothing but a static busybox."""
    names = subprocess.run([busybox.BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    busybox.make_tree(
        tree,
        " ".join(name for name in names if name != "busybox"),
        folders="proc sys dev tmp root data/inner home/app",
        users="app:x:1000:1000::/home/app:/bin/sh\n",
        groups="app:x:1000:\nvideo:x:44:app\n",
    )
    (tree / "etc/motd").write_text("from the image\n")
    (tree / "data/seed").write_text("seed\n")
    (tree / "data/inner/file").write_text("inner\n")
    os.chown(tree / "data/seed", 1000, 1000)
    (tree / "bin/notaprogram").write_text("\x00\x01 not a program")
    (tree / "bin/notaprogram").chmod(0o755)


def make_store(path: Path, tree: Path) -> Repository:
    """Makes a store that holds the image."""
    make_tree(tree)
    repo = Repository.init(path, Mode.BARE_USER)
    import_image(repo, str(tree), name=IMAGE)
    return repo


def objects_checksum(store: Path) -> dict[str, tuple[int, str]]:
    """Returns the size and digest of every object, to see that containers change none."""
    import hashlib

    found = {}
    for path in sorted((store / "objects").rglob("*")):
        if path.is_file() and not path.is_symlink():
            found[path.name] = (path.stat().st_mode, hashlib.sha256(path.read_bytes()).hexdigest())
    return found


@dataclass(frozen=True)
class Leftovers:
    """What containers could leave behind on this machine."""

    mounts: frozenset[str]
    cgroups: frozenset[str]
    links: frozenset[str]
    tables: frozenset[str]
    keepers: frozenset[str]
    supervisors: frozenset[str]
    contained: frozenset[str]
    ip_forward: str
    others: bool
    """Whether another engine has a bridge here, so that ``ip_forward`` is its as well."""

    @classmethod
    def now(cls, root: Path, run_root: Path) -> Leftovers:
        """Lists those of one engine, whatever other engines do on this machine meanwhile."""
        paths = Paths(root, run_root)
        mine = _ids(paths)
        cgroups = set()
        for folder, names, _ in os.walk("/sys/fs/cgroup"):
            if Path(folder).name == "wherry":
                cgroups |= {f"{folder}/{name}" for name in names if name in mine}
                names.clear()
        with RouteSocket() as route:
            links = {link.name for link in kernel_links.list_all(route)}
        bridges = {name for name in links if name.startswith("wh-")}
        own_bridges = {name for name in bridges if name.startswith(f"wh-{paths.tag}")}
        ends = {name for name in links if any(name.startswith(f"whv{id_[:8]}") for id_ in mine)}
        tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
        return cls(
            mounts=frozenset(
                line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(run_root.parent) in line
            ),
            cgroups=frozenset(cgroups),
            links=frozenset(own_bridges | ends),
            tables=frozenset(line for line in tables.splitlines() if f"wherry-{paths.tag}" in line),
            keepers=frozenset(_keepers(run_root)),
            supervisors=frozenset(supervisors(run_root)),
            contained=frozenset(_processes(lambda pid: bool(_containers_of(pid) & mine))),
            ip_forward=Path("/proc/sys/net/ipv4/ip_forward").read_text().strip(),
            others=bool(bridges - own_bridges),
        )

    def new_since(self, before: Leftovers) -> dict[str, set[str]]:
        """Returns what is there now and was not before."""
        found = {name: getattr(self, name) - getattr(before, name) for name in _SETS}
        if self.ip_forward != before.ip_forward and not (self.others or before.others):
            found["ip_forward"] = {self.ip_forward}
        return {name: items for name, items in found.items() if items}


_SETS = ("mounts", "cgroups", "links", "tables", "keepers", "supervisors", "contained")


def _ids(paths: Paths) -> set[str]:
    """Returns the ids of all containers that an engine has or had: its folders and its events name them."""
    found = set(all_ids(paths))
    for path in Path(paths.run).glob("events.jsonl*"):
        found |= {
            event["id"] for line in path.read_bytes().splitlines() if (event := loads(line))["Type"] == "container"
        }
    for folder in (paths.running, paths.containers):
        if os.path.isdir(folder):
            found |= {name.removeprefix(".rm-").removesuffix(".lock") for name in os.listdir(folder)}
    return {name for name in found if len(name) == 64}


def _containers_of(pid: str) -> set[str]:
    """Returns the ids of the containers whose control groups a process is in."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    names = {line.rpartition("/wherry/")[2].partition("/")[0] for line in lines if "/wherry/" in line}
    return {name for name in names if len(name) == 64}


def _keepers(run_root: Path) -> Iterator[str]:
    """Gives the processes that hold a container of an engine."""

    def holds(pid: str) -> bool:
        links = (os.readlink(link).removesuffix(" (deleted)") for link in Path(f"/proc/{pid}/fd").iterdir())
        return any(link.startswith(f"{run_root}/") and link.endswith("/life.lock") for link in links)

    return _processes(holds)


def supervisors(run_root: Path) -> list[str]:
    """Returns the supervisor and the keeper of an engine."""

    def is_one(pid: str) -> bool:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return any(b"from wherry.engine." in word for word in line) and str(run_root).encode() in line

    return list(_processes(is_one))


def _processes(test: Callable[[str], bool]) -> Iterator[str]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state not in "ZX" and test(pid):
                yield pid
        except OSError:
            continue


@contextmanager
def nothing_left(root: Path, run_root: Path) -> Iterator[None]:
    """Fails when the block leaves anything of an engine behind on the machine."""
    before = Leftovers.now(root, run_root)
    yield
    deadline = time.monotonic() + 5
    while True:
        new = Leftovers.now(root, run_root).new_since(before)
        if not new:
            return
        assert time.monotonic() < deadline, f"left behind: {new}"
        time.sleep(0.1)


class Cli:
    """The ``wherry`` command on an engine root of its own."""

    def __init__(self, root: Path, run_root: Path) -> None:
        self.root, self.run_root = root, run_root
        self.env = {**os.environ, "PYTHONPYCACHEPREFIX": str(Path("build/cache/pyc").absolute())}
        self.env.pop("PYTHONDONTWRITEBYTECODE", None)
        """Compiled once and not at each call, wherever the tests run."""
        self.prefix = [sys.executable, "-m", "wherry", "--root", str(root), "--run-root", str(run_root)]

    def start(self, *args: str, **options: Any) -> subprocess.Popen[bytes]:
        """Starts the command; its streams are pipes unless given."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([*self.prefix, *args], **{**streams, "env": self.env, **options})

    def run(self, *args: str, stdin: bytes = b"", status: int | None = 0, **options: Any) -> Result:
        """Runs the command to its end; None for `status` takes any."""
        done = subprocess.run(
            [*self.prefix, *args],
            input=stdin,
            capture_output=True,
            check=False,
            timeout=TIMEOUT_S,
            **{"env": self.env, **options},
        )
        result = Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
        assert status is None or result.status == status, result
        return result

    def inspect(self, name: str) -> dict[str, Any]:
        """Returns what ``wherry inspect`` says of one container."""
        found: dict[str, Any] = loads(self.run("inspect", name).stdout)[0]
        return found

    def remove_all(self) -> None:
        """Removes every container."""
        ids = self.run("ps", "-aq").stdout.split()
        if ids:
            self.run("rm", "-f", *ids)


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str


def until(test: Callable[[], object], *, timeout_s: float = 15.0) -> None:
    """Waits until `test` gives something true."""
    deadline = time.monotonic() + timeout_s
    while not test():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def named(name: str, run_root: Path) -> int:
    """Returns the process id of an engine's ``keeper`` or ``supervisor``, when both are there."""
    found: list[str] = []

    def both() -> bool:
        module = f"from wherry.engine.{name} ".encode()
        found[:] = [pid for pid in supervisors(run_root) if module in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return len(found) == 1 and len(supervisors(run_root)) == 2

    until(both)
    return int(found[0])


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Kills a process, as the out-of-memory killer would, and waits until it is gone."""
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, number)
        if number == signal.SIGKILL:
            select.select([pidfd], [], [], 10)
    finally:
        os.close(pidfd)


def kill_both(cli: Cli) -> None:
    """Kills an engine's keeper and supervisor, neither of which can then take the other's place."""
    keeper, supervisor = named("keeper", cli.run_root), named("supervisor", cli.run_root)
    os.kill(supervisor, signal.SIGSTOP)
    kill(keeper)
    kill(supervisor)


def commit_of(repo: Repository) -> Checksum:
    """Returns the commit of the test image."""
    from wherry.image.catalog import Images

    return Images(repo).get(IMAGE).commit
