"""The supervisor and the keeper, killed at every point of a container's life: nothing is lost, nothing is twice."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.integration.engine.support import IMAGE, Cli, kill, named, supervisors, until


def count(lines: int) -> str:
    """Returns a script that prints numbered lines for some time."""
    return f"i=0; while [ $i -lt {lines} ]; do echo line $i; i=$((i+1)); usleep 10000; done; printf end; exit 7"


def expected(lines: int) -> str:
    """Returns what that prints."""
    return "".join(f"line {number}\n" for number in range(lines)) + "end"


LINES, MANY_LINES = 120, 1500
COUNT, EXPECTED = count(LINES), expected(LINES)

STARTING = ("engine.supervisor.asked", "engine.life.created", "engine.life.plugged", "engine.life.started")
RUNNING = ("engine.life.running", "engine.limbo.taken", "engine.limbo.written", "engine.limbo.settled")
ENDING = (
    "engine.life.exited",
    "engine.life.ended",
    "engine.life.cleaned",
    "engine.life.recorded",
    "engine.life.settled",
)


def counted(cli: Cli, text: str = EXPECTED) -> None:
    """Waits for the counting container's end, and looks at all that it leaves."""
    assert cli.run("container", "wait", "c").stdout == "7\n"
    assert cli.run("logs", "c").stdout == text
    info = cli.inspect("c")
    assert (info["status"], info["exit_code"], info["error"]) == ("exited", 7, "")
    cli.run("rm", "c")
    until(lambda: not supervisors(cli.run_root))


@pytest.mark.parametrize("point", [*STARTING, *RUNNING, *ENDING])
def test_supervisor_killed_at(cli: Cli, tmp_path: Path, point: str) -> None:
    once = tmp_path / "once"
    once.touch()
    env = {**cli.env, "WHERRY_TRACE": f"{point}=kill:{once}"}
    cli.run("run", "-d", "--name", "c", "-p", "18085:80", IMAGE, "sh", "-c", COUNT, env=env)
    counted(cli)
    assert not once.exists(), "the point was reached"


def lives(pid: int) -> bool:
    """Tells whether a process runs still; one that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("point", ["began", "started", "held", "dropped", "done"])
def test_keeper_killed_at(cli: Cli, tmp_path: Path, point: str) -> None:
    once = tmp_path / "once"
    once.touch()
    env = {**cli.env, "WHERRY_TRACE": f"engine.keeper.{point}=kill:{once}"}
    cli.run("run", "-d", "--name", "c", IMAGE, "sh", "-c", COUNT, env=env)
    assert cli.run("container", "wait", "c").stdout == "7\n"
    if point == "done":
        until(lambda: not supervisors(cli.run_root))
    counted(cli)
    assert not once.exists(), "the point was reached"


def test_supervisor_killed_while_it_takes_on(cli: Cli, tmp_path: Path) -> None:
    once = tmp_path / "once"
    once.touch()
    env = {**cli.env, "WHERRY_TRACE": f"engine.supervisor.taking=kill:{once}"}
    cli.run("run", "-d", "--name", "c", IMAGE, "sh", "-c", COUNT, env=env)
    kill(named("supervisor", cli.run_root))
    counted(cli)
    assert not once.exists(), "the point was reached"


@pytest.mark.parametrize(
    ("point", "first"), [("engine.supervisor.becoming", "keeper"), ("engine.keeper.reaped", "supervisor")]
)
def test_one_killed_while_it_takes_the_others_place(cli: Cli, tmp_path: Path, point: str, first: str) -> None:
    """Then nobody has the container any more, and the next command that looks cleans up."""
    once = tmp_path / "once"
    once.touch()
    env = {**cli.env, "WHERRY_TRACE": f"{point}=kill:{once}"}
    cli.run("run", "-d", "--name", "c", IMAGE, "sleep", "100", env=env)
    pid = cli.inspect("c")["pid"]
    kill(named(first, cli.run_root))
    until(lambda: not supervisors(cli.run_root))
    info = cli.inspect("c")
    assert (info["status"], info["exit_code"], info["error"]) == ("exited", 137, "its supervisor was killed")
    until(lambda: not lives(pid))
    assert not once.exists(), "the point was reached"


def test_supervisor_killed_with_half_a_line(cli: Cli, tmp_path: Path) -> None:
    once = tmp_path / "once"
    script = "printf 'one '; sleep 0.5; printf 'two '; sleep 1; echo three; exit 7"
    env = {**cli.env, "WHERRY_TRACE": f"engine.limbo.kept=kill:{once}"}
    once.touch()
    cli.run("run", "-d", "--name", "c", IMAGE, "sh", "-c", script, env=env)
    until(lambda: not once.exists())
    once.touch()  # the trace goes on to the next supervisor
    assert cli.run("container", "wait", "c").stdout == "7\n"
    assert cli.run("logs", "c").stdout == "one two three\n"
    assert not once.exists()


def test_logs_that_rotate_while_supervisors_die(cli: Cli) -> None:
    script = "i=0; while [ $i -lt 20000 ]; do echo line $i of some length; i=$((i+1)); done"
    options = ("--log-opt", "max-size=64k", "--log-opt", "max-file=100")
    cli.run("run", "-d", "--name", "c", *options, IMAGE, "sh", "-c", f"sleep 1; {script}; sleep 1; exit 7")
    until(lambda: cli.run("logs", "-n", "1", "c").stdout)
    for _ in range(3):
        kill(named("supervisor", cli.run_root))
    assert cli.run("container", "wait", "c").stdout == "7\n"
    assert cli.run("logs", "c").stdout == "".join(f"line {number} of some length\n" for number in range(20000))


def test_terminal_outlives_the_supervisor(cli: Cli) -> None:
    cli.run("run", "-d", "-t", "--name", "c", IMAGE, "sh", "-c", COUNT)
    kill(named("supervisor", cli.run_root))
    assert cli.run("container", "wait", "c").stdout == "7\n"
    assert cli.run("logs", "c").stdout.replace("\r", "") == EXPECTED


@pytest.mark.parametrize("first", ["keeper", "supervisor"])
def test_keeper_and_supervisor_killed_in_turn(cli: Cli, first: str) -> None:
    """Each takes the other's place; the exit status comes from whoever is the parent by then."""
    cli.run("run", "-d", "--name", "c", IMAGE, "sh", "-c", count(MANY_LINES))
    pid = cli.inspect("c")["pid"]
    for index in range(4):
        victim = first if index % 2 == 0 else {"keeper": "supervisor", "supervisor": "keeper"}[first]
        kill(named(victim, cli.run_root))
        until(lambda: cli.inspect("c")["supervisor_pid"] == named("supervisor", cli.run_root))
        assert cli.inspect("c")["pid"] == pid
    counted(cli, expected(MANY_LINES))


def test_killed_supervisor_restarts_stops_and_watches_on(cli: Cli) -> None:
    script = "echo run; sleep 0.3; exit 3"
    cli.run("run", "-d", "--name", "c", "--restart", "on-failure:3", IMAGE, "sh", "-c", script)
    cli.run("run", "-d", "--name", "h", "--health-cmd", "true", "--health-interval", "100ms", IMAGE, "sleep", "100")
    kill(named("supervisor", cli.run_root))
    assert cli.run("container", "wait", "c").stdout == "3\n"
    assert cli.run("logs", "c").stdout == "run\n" * 4
    until(lambda: cli.inspect("h")["health"] == "healthy")
    kill(named("supervisor", cli.run_root))
    cli.run("stop", "-t", "0", "h")
    assert cli.inspect("h")["exit_code"] == 137


def test_client_waits_while_supervisors_die(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "c", IMAGE, "sh", "-c", COUNT)
    waiter = cli.start("container", "wait", "c")
    follower = cli.start("logs", "-f", "c")
    time.sleep(0.3)
    kill(named("supervisor", cli.run_root))
    assert waiter.communicate(timeout=60)[0] == b"7\n"
    assert follower.communicate(timeout=60)[0].decode() == EXPECTED


def test_one_supervisor_for_all(cli: Cli) -> None:
    starters = [cli.start("run", "-d", "--name", f"c{number}", IMAGE, "sleep", "100") for number in range(4)]
    for process in starters:
        assert process.wait(timeout=60) == 0
        process.communicate()
    assert len(supervisors(cli.run_root)) == 2
    assert {cli.inspect(f"c{number}")["supervisor_pid"] for number in range(4)} == {named("supervisor", cli.run_root)}
    for pid in supervisors(cli.run_root):
        fds = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        known = (str(cli.root / "containers"), str(cli.run_root))
        assert not [target for target in fds if target.startswith("/tmp") and not target.startswith(known)]
    cli.run("rm", "-f", *(f"c{number}" for number in range(4)))
    until(lambda: not supervisors(cli.run_root))


def test_foreground_needs_no_supervisor(cli: Cli) -> None:
    process = cli.start("run", "--rm", "--name", "c", IMAGE, "sh", "-c", "echo up; sleep 100")
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    assert supervisors(cli.run_root) == []
    assert cli.inspect("c")["supervisor_pid"] == process.pid
    process.send_signal(signal.SIGTERM)
    cli.run("stop", "-t", "0", "c")
    assert process.wait(timeout=30) == 137
    process.communicate()


@pytest.mark.parametrize(
    "point", ["engine.prepared", "engine.life.created", "engine.life.plugged", "engine.life.started"]
)
def test_foreground_killed_at(cli: Cli, point: str) -> None:
    env = {**cli.env, "WHERRY_TRACE": f"{point}=kill"}
    cli.run("run", "--name", "c", "-p", "18085:80", IMAGE, "sleep", "100", env=env, status=-9)
    until(lambda: cli.inspect("c")["status"] in ("exited", "created"))
    cli.run("container", "start", "c")
    assert cli.inspect("c")["status"] == "running"
    cli.run("rm", "-f", "c")


def test_attach(cli: Cli) -> None:
    """Several clients see what is printed from then on; input and the exit status go through."""
    cli.run("run", "-d", "-i", "--name", "c", IMAGE, "sh", "-c", "read x; echo got $x; read y; exit $y")
    watcher = cli.start("attach", "--no-stdin", "c")
    typist = cli.start("attach", "c", stdin=subprocess.PIPE)
    assert typist.stdin is not None
    assert typist.stdout is not None
    time.sleep(1.5)
    typist.stdin.write(b"hello\n")
    typist.stdin.flush()
    assert typist.stdout.readline() == b"got hello\n"
    kill(named("supervisor", cli.run_root))
    time.sleep(1)
    typist.stdin.write(b"5\n")
    typist.stdin.flush()
    assert typist.wait(timeout=30) == 5
    assert watcher.wait(timeout=30) == 5
    assert watcher.communicate()[0] == b"got hello\n"
    typist.communicate()
    assert (
        "does not run" in cli.run("attach", "c", status=125).stderr
        or "not running" in cli.run("attach", "c", status=125).stderr
    )


def test_left_by_its_keys_and_attached_again(cli: Cli) -> None:
    """A foreground container with a terminal goes to the supervisor, and its exit status is known even so."""
    with Terminal(cli, "run", "-it", "--name", "c", IMAGE, "sh") as person:
        person.until(b"# ")
        person.type(b"echo one\n")
        person.until(b"one\r\n")
        person.type(b"\x10\x11")
        person.until(b"left ")
    info = cli.inspect("c")
    assert (info["status"], info["supervisor_pid"]) == ("running", named("supervisor", cli.run_root))
    with Terminal(cli, "attach", "--detach-keys", "ctrl-a,d", "c") as person:
        person.type(b"echo t''wo\n")
        person.until(b"two\r\n")
        person.type(b"\x01d")
        person.until(b"left ")
    kill(named("supervisor", cli.run_root))
    with Terminal(cli, "attach", "c") as person:
        person.type(b"exit 9\n")
        assert person.wait() == 9
    assert cli.inspect("c")["exit_code"] == 9
    assert cli.run("logs", "c").stdout.count("one") == 2


def test_killed_before_it_is_handed_over(cli: Cli) -> None:
    """The command is killed when it has let go, and the supervisor does not have the container yet."""
    env = {**cli.env, "WHERRY_TRACE": "engine.foreground.leaving=kill"}
    with Terminal(cli, "run", "-it", "--name", "c", IMAGE, "sh", env=env) as person:
        person.until(b"# ")
        person.type(b"\x10\x11")
        assert person.wait() == -9
    info = cli.inspect("c")
    assert (info["status"], info["exit_code"]) == ("exited", 137)


def test_killed_after_it_is_handed_over(cli: Cli) -> None:
    env = {**cli.env, "WHERRY_TRACE": "engine.foreground.left=kill"}
    with Terminal(cli, "run", "-it", "--name", "c", IMAGE, "sh", env=env) as person:
        person.until(b"# ")
        person.type(b"\x10\x11")
        assert person.wait() == -9
    assert cli.inspect("c")["supervisor_pid"] == named("supervisor", cli.run_root)
    with Terminal(cli, "attach", "c") as person:
        person.type(b"echo t''here\n")
        person.until(b"there\r\n")
        person.type(b"exit 3\n")
        person.wait()
    until(lambda: cli.inspect("c")["status"] == "exited")


def test_nobody_can_write_to_the_interpreter_of_supervisor_and_keeper(cli: Cli) -> None:
    """CVE-2019-5736: what runs commands in containers is seen there for a moment."""

    def is_protected(name: str) -> bool:
        pid = named(name, cli.run_root)
        assert os.path.samefile(f"/proc/{pid}/exe", sys.executable)
        return bool(os.statvfs(f"/proc/{pid}/exe").f_flag & os.ST_RDONLY)

    cli.run("run", "-d", "--name", "c", IMAGE, "sleep", "100")
    assert is_protected("keeper")
    assert is_protected("supervisor")
    kill(named("supervisor", cli.run_root))
    assert is_protected("supervisor")
    kill(named("keeper", cli.run_root))
    assert is_protected("keeper")
    assert is_protected("supervisor")


class Terminal:
    """A command on a terminal of its own, and who sits at it."""

    def __init__(self, cli: Cli, *args: str, env: Mapping[str, str] | None = None) -> None:
        self._seen = b""
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.execve(sys.executable, [*cli.prefix, *args], cli.env if env is None else env)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pid:
            self.wait()
        os.close(self._fd)

    def type(self, data: bytes) -> None:
        os.write(self._fd, data)

    def until(self, text: bytes) -> None:
        deadline = time.monotonic() + 30
        while text not in self._seen:
            assert time.monotonic() < deadline, self._seen
            if select.select([self._fd], [], [], 1)[0]:
                self._seen += os.read(self._fd, 4096)
        self._seen = self._seen.partition(text)[2]

    def wait(self) -> int:
        while True:
            try:
                if not os.read(self._fd, 4096):
                    break
            except OSError:
                break
        status = os.waitpid(self._pid, 0)[1]
        self._pid = 0
        return os.waitstatus_to_exitcode(status)
