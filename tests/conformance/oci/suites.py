"""The suites: where they are, how they are built, how one file of each is run."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from tests.conformance.oci.cases import Outcome, Runtime, read

NAMES = ("crun", "runtime-tools")
TIMEOUT_S = 180
GO_TIMEOUT_S = 60
_FREEZER = Path("/sys/fs/cgroup/freezer")
_HELPER_FLAGS = ("-D_GNU_SOURCE", "-DHAVE_SECCOMP", "-DHAVE_ERROR_H", "-DHAVE_LINUX_IOPRIO_H", "-w", "-static")

Wrap = Callable[[list[str]], list[str]]


class Suite(ABC):
    """One checkout."""

    name: str

    def __init__(self, top: Path) -> None:
        self.top = top
        self.built = Path()

    @abstractmethod
    def files(self) -> list[str]:
        """Returns the names of its files of tests."""

    @abstractmethod
    def build(self, folder: Path) -> None:
        """Builds the programs that it needs, once."""

    @abstractmethod
    def run(self, file: str, runtime: Runtime, work: Path, wrap: Wrap) -> Outcome:
        """Runs one file.

        Args:
            file: its name.
            runtime: what is tested.
            work: a scratch folder.
            wrap: makes a command line run in namespaces of its own.
        """

    def place(self, folder: Path) -> Path:
        """Returns where the programs of this checkout are built."""
        mark = hashlib.sha256(os.fsencode(self.top.resolve())).hexdigest()[:12]
        return folder / f"{self.name}-{mark}"


class Crun(Suite):
    """crun's tests: Python programs, with a small static program as what runs in the containers."""

    name = "crun"

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.top / "tests").glob("test_*.py"))

    def build(self, folder: Path) -> None:
        self.built = self.place(folder)
        if not (self.built / "init").exists():
            self.built.mkdir(parents=True, exist_ok=True)
            (self.built / "config.h").write_text("")
            source = self.top / "tests/init.c"
            subprocess.run(["gcc", *_HELPER_FLAGS, f"-I{self.built}", "-o", self.built / "init", source], check=True)

    def run(self, file: str, runtime: Runtime, work: Path, wrap: Wrap) -> Outcome:
        place = work / file
        place.mkdir()
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "TMPDIR": str(work),
            "OCI_RUNTIME": str(runtime.program),
            "INIT": str(self.built / "init"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = wrap(["/usr/bin/python3", str(self.top / "tests" / file)])
        return _run(self.name, file, command, place, environment, TIMEOUT_S)


class RuntimeTools(Suite):
    """runtime-tools' validation: one Go program for each file, which has the runtime run another in a container."""

    name = "runtime-tools"

    def files(self) -> list[str]:
        return sorted(
            str(path.relative_to(self.top / "validation").with_suffix(""))
            for path in (self.top / "validation").rglob("*.go")
            if "util" not in path.parts
        )

    def build(self, folder: Path) -> None:
        self.built = self.place(folder)
        environment = {
            **os.environ,
            "GOFLAGS": "-mod=vendor",
            "GOPROXY": "off",
            "GOTOOLCHAIN": "local",
            "GOCACHE": str(folder / "go"),
        }
        programs = [(f"./validation/{file}.go", self.built / f"{file}.t") for file in self.files()]
        static = ["-tags", "netgo osusergo", "-ldflags", "-extldflags -static"]
        if not (self.built / "runtimetest").exists():
            command = ["go", "build", *static, "-o", str(self.built / "runtimetest"), "./cmd/runtimetest"]
            subprocess.run(command, cwd=self.top, env=environment, check=True)
        for source, program in programs:
            if not program.exists():
                command = ["go", "build", "-o", str(program), source]
                subprocess.run(command, cwd=self.top, env=environment, check=True)

    def run(self, file: str, runtime: Runtime, work: Path, wrap: Wrap) -> Outcome:
        place = work / file.replace("/", "-")
        place.mkdir()
        shutil.copy2(self.built / "runtimetest", place / "runtimetest")  # a link would be copied into the container
        for tree in self.top.glob("rootfs-*.tar.gz"):
            (place / tree.name).symlink_to(tree)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/root",
            "TMPDIR": str(place),
            "XDG_RUNTIME_DIR": "/run",
            "RUNTIME": str(runtime.program),
        }
        command = wrap([str(self.built / f"{file}.t")])
        return _run(self.name, file, command, place, environment, GO_TIMEOUT_S)


def find(folder: Path) -> list[Suite]:
    """Returns the suites of a folder."""
    found: list[Suite] = []
    for top in sorted(path for path in folder.iterdir() if path.is_dir()):
        if (top / "tests/tests_utils.py").exists():
            found.append(Crun(top.resolve()))
        if (top / "validation/util/test.go").exists():
            found.append(RuntimeTools(top.resolve()))
    return found


def _run(
    suite: str, file: str, command: list[str], place: Path, environment: dict[str, str], timeout_s: int
) -> Outcome:
    """Runs one program of tests with its output in files, as what it starts may keep a pipe open."""
    out, errors = place / ".stdout", place / ".stderr"
    status: int | None
    with out.open("wb") as stdout, errors.open("wb") as stderr:
        process = subprocess.Popen(
            command, cwd=place, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
            start_new_session=True,
        )  # fmt: skip
        status = _wait(process, timeout_s)
    texts = (out.read_text(errors="replace"), errors.read_text(errors="replace"))
    outcome = read(suite, file, *texts, status)
    shutil.rmtree(place, ignore_errors=True)
    return outcome


def _wait(process: subprocess.Popen[bytes], timeout_s: int) -> int | None:
    """Waits for the end, or ends it when its time is over."""
    for _ in range(timeout_s):
        try:
            return process.wait(1)
        except subprocess.TimeoutExpired:
            if not _first_lives(process.pid):
                _thaw(process.pid)
    _thaw(process.pid)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return None


def _first_lives(leader: int) -> bool:
    """Tells whether the first process of the namespace still has memory: else it waits for others to die."""
    try:
        children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
        return all(Path(f"/proc/{child}/cmdline").read_bytes() for child in children)
    except OSError:
        return True  # it has just ended


def _thaw(leader: int) -> None:
    """Thaws what a file of tests left frozen by version 1: the kernel would wait for it to die, for ever."""
    for group, _, _ in os.walk(_FREEZER):  # it passes over what is gone meanwhile
        try:
            pids = Path(group, "cgroup.procs").read_text().split()
            if group != str(_FREEZER) and any(_descends(int(pid), leader) for pid in pids):
                Path(group, "freezer.state").write_text("THAWED")
        except OSError:
            continue


def _descends(pid: int, leader: int) -> bool:
    """Tells whether a process descends from another; what is left alone belongs to the namespace's first process."""
    while pid > 1 and pid != leader:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False  # it is gone
    return pid == leader
