"""podman with ``wherry-runc`` as its runtime: what it starts, attaches to, limits, pauses, stops and removes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.busybox import make_tree

RUNTIME = Path(sys.executable).with_name("wherry-runc")
APPLETS = "sh cat echo env grep hostname id kill ls pwd sleep stty touch tr true tty"
# Debian's podman asks for hard limits that root without CAP_SYS_RESOURCE cannot raise; these are lower ones.
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
IMAGE = "localhost/box"


class Podman:
    """podman with a place of its own."""

    def __init__(self, base: Path) -> None:
        self.base = base

    def words(self, *args: str) -> list[str]:
        base = self.base
        return [
            *("podman", "--root", f"{base}/root", "--runroot", f"{base}/run", "--tmpdir", f"{base}/tmp"),
            *("--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", str(RUNTIME), *args),
        ]

    def call(self, *args: str) -> subprocess.CompletedProcess[str]:
        words = self.words(*args)
        return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    def ok(self, *args: str) -> str:
        done = self.call(*args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        return self.call("run", "--network", "none", *LIMITS, *args)


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    # podman's own sockets have paths of at most 108 characters, below its places.
    base = tmp_path_factory.mktemp("p")
    tree = make_tree(base / "tree", APPLETS, folders="dev proc sys tmp run root", users="web:x:1000:1000::/:/bin/sh\n")
    found = Podman(base)
    subprocess.run(["tar", "-C", tree, "-cf", base / "box.tar", "."], check=True)
    found.ok("import", str(base / "box.tar"), IMAGE)
    yield found
    found.call("rm", "--all", "--force", "--time", "0")
    found.call("rmi", "--all", "--force")
    subprocess.run(["umount", f"{base}/root/vfs"], capture_output=True, check=False)


def test_run_in_the_foreground(podman: Podman) -> None:
    done = podman.run("--rm", "--hostname", "box", IMAGE, "sh", "-c", "id -u; hostname; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "0\nbox\n", "err\n")


@pytest.mark.parametrize(("command", "status"), [("nothing-of-this-name", 127), ("/root", 126)])
def test_what_cannot_be_run(podman: Podman, command: str, status: int) -> None:
    assert podman.run("--rm", IMAGE, command).returncode == status


def test_flags_reach_the_container(podman: Podman, tmp_path: Path) -> None:
    # Its folder is root's alone: the working directory is entered before the user changes, its files are not.
    tmp_path.chmod(0o711)
    (tmp_path / "file").write_text("from the host")
    flags = [
        "--rm",
        "-m",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "50",
        "--read-only",
        "--tmpfs",
        "/scratch",
        "-u",
        "web",
    ]
    flags += ["-v", f"{tmp_path}:/data:ro", "-w", "/data", "-e", "A=b", "--cap-drop", "ALL", "--security-opt"]
    script = "id -u; pwd; cat file; echo; echo $A; touch /x /data/x 2>&1; touch /scratch/x && echo ok; "
    script += "grep CapEff /proc/1/status"
    done = podman.run(*flags, "no-new-privileges", IMAGE, "sh", "-c", script)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        *("1000", "/data", "from the host", "b"),
        "touch: /x: Read-only file system",
        "touch: /data/x: Read-only file system",
        "ok",
        "CapEff:\t0000000000000000",
    ]


def test_a_detached_container(podman: Podman) -> None:
    script = "trap 'echo bye; exit 4' TERM; echo started; while :; do sleep 0.1; done"
    podman.ok("run", "-d", "--name", "web", "--network", "none", *LIMITS, IMAGE, "sh", "-c", script)
    deadline = time.monotonic() + 60
    while "started" not in podman.ok("logs", "web"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert podman.ok("exec", "-u", "web", "web", "id", "-u") == "1000\n"
    assert podman.call("exec", "web", "sh", "-c", "exit 6").returncode == 6
    podman.ok("pause", "web")
    assert podman.ok("ps", "-a", "--format", "{{.State}}").strip().lower() == "paused"
    podman.ok("unpause", "web")
    stats = json.loads(podman.ok("stats", "--no-stream", "--format", "json", "web"))
    assert int(stats[0]["pids"]) >= 1
    assert "sleep" in podman.ok("top", "web")
    podman.ok("stop", "-t", "30", "web")
    assert podman.ok("inspect", "web", "--format", "{{.State.ExitCode}}").strip() == "4"
    assert podman.ok("logs", "web").split() == ["started", "bye"]
    podman.ok("rm", "web")


def test_a_killed_container(podman: Podman) -> None:
    podman.ok("run", "-d", "--name", "victim", "--network", "none", *LIMITS, IMAGE, "sleep", "1000")
    podman.ok("kill", "victim")
    assert podman.ok("wait", "victim").strip() == "137"
    podman.ok("rm", "-f", "victim")


def test_a_terminal(podman: Podman) -> None:
    # The rest of a second: podman loses the output of what has ended before it is attached.
    script = "tty; test -t 0 && echo yes; sleep 1"
    words = podman.words("run", "--rm", "-it", "--network", "none", *LIMITS, IMAGE, "sh", "-c", script)
    done = subprocess.run(
        ["script", "-qec", " ".join(f"'{word}'" for word in words), "/dev/null"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "/dev/pts/0" in done.stdout
    assert "yes" in done.stdout


def test_nothing_of_the_host_is_left_open(podman: Podman) -> None:
    done = podman.run("--rm", IMAGE, "sh", "-c", "ls /proc/self/fd | tr '\\n' ' '; ls -l /proc/self/fd | grep -c work")
    assert done.stdout.split()[:4] == ["0", "1", "2", "3"]
    assert os.path.exists(RUNTIME)
