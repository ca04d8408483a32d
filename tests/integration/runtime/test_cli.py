"""``wherry-runc``: the life of a container over several processes, as an engine calls it."""

from __future__ import annotations

import array
import json
import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.runtime.bundles import Bundle

FOREVER = ("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done")


@pytest.fixture
def bundle(tmp_path: Path, rootfs: Path) -> Iterator[Bundle]:
    found = Bundle(tmp_path / "bundle", rootfs)
    yield found
    found.close()


def until_stopped(bundle: Bundle, name: str) -> None:
    deadline = time.monotonic() + 60
    while bundle.state(name)["status"] != "stopped":
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_life_over_several_processes(bundle: Bundle, rootfs: Path) -> None:
    bundle.change(lambda config: config.update(annotations={"org.example": "x"}))
    bundle.runs("sh", "-c", "echo ran > /ran; exec sleep 1000")
    pid_file = bundle.path / "pid"
    bundle.ok("create", "--bundle", str(bundle.path), "--pid-file", str(pid_file), "one")
    state = bundle.state("one")
    pid = int(pid_file.read_text())
    assert {key: state[key] for key in ("ociVersion", "id", "status", "pid", "bundle", "annotations")} == {
        "ociVersion": "1.2.0",
        "id": "one",
        "status": "created",
        "pid": pid,
        "bundle": str(bundle.path),
        "annotations": {"org.example": "x"},
    }
    assert not (rootfs / "ran").exists()
    assert "already" in bundle.call("create", "-b", str(bundle.path), "one").stderr
    bundle.ok("start", "one")
    assert bundle.state("one")["status"] == "running"
    again = bundle.call("start", "one")
    assert (again.returncode, again.stderr.count("\n")) == (4, 1)
    refused = bundle.call("delete", "one")
    assert refused.returncode == 4
    assert "running" in refused.stderr
    bundle.ok("kill", "one", "KILL")
    until_stopped(bundle, "one")
    assert bundle.state("one")["pid"] == 0
    assert bundle.call("kill", "one", "KILL").returncode == 4
    bundle.ok("delete", "one")
    assert bundle.call("state", "one").returncode == 3
    assert list(bundle.root.iterdir()) == []


def test_the_command_ran_when_start_returns(bundle: Bundle) -> None:
    bundle.runs("sleep", "1000")
    bundle.ok("create", "-b", str(bundle.path), "one")
    pid = bundle.state("one")["pid"]
    assert "sleep" not in Path(f"/proc/{pid}/cmdline").read_text()
    bundle.ok("start", "one")
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x001000\x00"
    assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]


def test_two_that_start_at_once(bundle: Bundle) -> None:
    bundle.runs("sleep", "1000")
    bundle.ok("create", "-b", str(bundle.path), "one")
    calls = [subprocess.Popen(bundle.words("start", "one"), stderr=subprocess.DEVNULL) for _ in range(4)]
    assert sorted(call.wait() == 0 for call in calls) == [False, False, False, True]
    assert bundle.state("one")["status"] == "running"


def test_two_that_create_at_once(bundle: Bundle) -> None:
    bundle.runs("sleep", "1000")
    words = bundle.words("create", "-b", str(bundle.path), "one")
    calls = [
        subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(4)
    ]
    assert sorted(call.wait() == 0 for call in calls) == [False, False, False, True]
    bundle.ok("start", "one")


@pytest.mark.parametrize(("command", "status"), [("nothing-of-this-name", 127), ("/etc", 126), ("/tmp/../none", 127)])
def test_create_refuses_a_command_that_is_not_there(bundle: Bundle, command: str, status: int) -> None:
    (Path(json.loads((bundle.path / "config.json").read_text())["root"]["path"]) / "etc").mkdir(exist_ok=True)
    bundle.runs(command)
    found = bundle.call("create", "-b", str(bundle.path), "one")
    assert found.returncode == status
    assert bundle.call("state", "one").returncode == 3


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 42", 42)])
def test_run_ends_as_the_process_does(bundle: Bundle, script: str, status: int) -> None:
    bundle.runs("sh", "-c", f"echo out; echo err >&2; {script}")
    found = bundle.call("run", "-b", str(bundle.path), "one")
    assert (found.returncode, found.stdout, found.stderr) == (status, "out\n", "err\n")
    assert list(bundle.root.iterdir()) == []


def test_run_keeps_it_when_asked(bundle: Bundle) -> None:
    bundle.runs("true")
    bundle.ok("run", "--keep", "-b", str(bundle.path), "one")
    assert bundle.state("one")["status"] == "stopped"


def test_run_hands_signals_on(bundle: Bundle) -> None:
    bundle.runs("sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done")
    with subprocess.Popen(bundle.words("run", "-b", str(bundle.path), "one"), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.wait(60) == 7


def test_run_tells_a_death_by_a_signal(bundle: Bundle) -> None:
    bundle.runs("sh", "-c", "echo ready; sleep 1000")
    with subprocess.Popen(bundle.words("run", "-b", str(bundle.path), "one"), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        bundle.ok("kill", "one", "KILL")
        assert process.wait(60) == 137


def test_exec_in_its_ways(bundle: Bundle) -> None:
    bundle.change(lambda config: config["process"]["env"].append("FROM=config"))
    bundle.runs(*FOREVER)
    bundle.ok("run", "-d", "-b", str(bundle.path), "one")
    script = "id -u; echo $FROM $MORE; pwd; grep -e CapEff -e CapBnd -e NoNewPrivs /proc/self/status; exit 5"
    words = ("exec", "-u", "web", "-e", "MORE=more", "--cwd", "/tmp", "--cap", "CAP_NET_RAW", "--no-new-privs", "one")
    found = bundle.call(*words, "sh", "-c", script)
    assert found.returncode == 5
    uid, variables, cwd, *status = found.stdout.splitlines()
    assert (uid, variables, cwd) == ("1000", "config more", "/tmp")
    effective, bounding, privileges = (line.split()[1] for line in status)
    # Neither inheritable nor ambient, so that a user other than root has it from a file's capabilities alone.
    assert int(effective, 16) == 0
    assert int(bounding, 16) >> 13 & 1
    assert privileges == "1"
    of_root = ("exec", "--cap", "CAP_NET_RAW", "one", "grep", "CapEff", "/proc/self/status")
    assert int(bundle.ok(*of_root).split()[1], 16) >> 13 & 1
    assert not int(bundle.ok("exec", "one", "grep", "CapEff", "/proc/self/status").split()[1], 16) >> 13 & 1
    assert bundle.call("exec", "one", "none").returncode == 127
    process = {"args": ["id", "-u"], "cwd": "/", "user": {"uid": 77, "gid": 0}, "env": ["PATH=/bin"]}
    file = bundle.path / "process.json"
    file.write_text(json.dumps(process))
    assert bundle.ok("exec", "--process", str(file), "one") == "77\n"
    pid_file = bundle.path / "pid"
    bundle.ok("exec", "-d", "--pid-file", str(pid_file), "one", "sleep", "1000")
    assert int(pid_file.read_text()) in json.loads(bundle.ok("ps", "--format", "json", "one"))
    assert "sleep 1000" in bundle.ok("ps", "one")


def test_exec_enters_from_a_read_only_mount_of_its_interpreter(bundle: Bundle) -> None:
    bundle.runs(*FOREVER)
    bundle.ok("run", "-d", "-b", str(bundle.path), "one")
    fifo = bundle.path / "process.json"
    os.mkfifo(fifo)
    words = bundle.words("exec", "--process", str(fifo), "one")
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        with fifo.open("w") as file:  # open when it reads, which is after it has looked at its own executable
            assert os.statvfs(f"/proc/{process.pid}/exe").f_flag & os.ST_RDONLY
            with pytest.raises(OSError, match="Read-only"):
                os.utime(f"/proc/{process.pid}/exe")
            file.write('{"args": ["env"], "cwd": "/", "env": ["PATH=/bin"]}')
        assert process.stdout is not None
        assert process.stdout.read().split() == [b"HOME=/root", b"PATH=/bin"]
        assert process.wait(60) == 0


def test_pause_and_resume(bundle: Bundle) -> None:
    bundle.runs(*FOREVER)
    bundle.ok("run", "-d", "-b", str(bundle.path), "one")
    bundle.ok("pause", "one")
    assert bundle.state("one")["status"] == "paused"
    assert bundle.call("pause", "one").returncode == 4
    assert "paused" in bundle.call("exec", "one", "true").stderr
    bundle.ok("resume", "one")
    assert bundle.state("one")["status"] == "running"
    assert bundle.call("resume", "one").returncode == 4
    bundle.ok("pause", "one")
    bundle.ok("delete", "--force", "one")


def test_update_and_events(bundle: Bundle) -> None:
    bundle.runs(*FOREVER)
    bundle.ok("run", "-d", "-b", str(bundle.path), "one")
    bundle.ok("update", "--memory", str(64 << 20), "--pids-limit", "33", "one")
    event = json.loads(bundle.ok("events", "--stats", "one"))
    assert (event["type"], event["id"]) == ("stats", "one")
    assert event["data"]["memory"]["usage"]["limit"] == 64 << 20
    assert event["data"]["pids"]["limit"] == 33
    limits = bundle.path / "limits.json"
    limits.write_text(json.dumps({"pids": {"limit": 44}}))
    bundle.ok("update", "--resources", str(limits), "one")
    assert json.loads(bundle.ok("events", "--stats", "one"))["data"]["pids"]["limit"] == 44
    bundle.ok("update", "--cpuset-cpus", str(min(os.sched_getaffinity(0))), "one")
    groups = json.loads((bundle.root / "one/runtime.json").read_text())["cgroups"]
    bundle.ok("delete", "--force", "one")
    assert [group["path"] for group in groups if os.path.exists(group["path"])] == []
    bundle.ok("run", "-d", "-b", str(bundle.path), "one")
    assert bundle.call("update", "--l3-cache-schema", "x", "one").returncode == 11


def test_events_go_on_until_its_end(bundle: Bundle) -> None:
    bundle.runs(*FOREVER)
    bundle.ok("run", "-d", "-b", str(bundle.path), "one")
    with subprocess.Popen(bundle.words("events", "--interval", "50ms", "one"), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert json.loads(process.stdout.readline())["type"] == "stats"
        bundle.ok("kill", "one", "KILL")
        assert process.wait(60) == 0


def test_list_and_the_names_of_signals(bundle: Bundle) -> None:
    bundle.runs(*FOREVER)
    for name in ("a1", "a2", "b1"):
        bundle.ok("run", "-d", "-b", str(bundle.path), name)
    assert bundle.ok("list", "-q").split() == ["a1", "a2", "b1"]
    assert [item["id"] for item in json.loads(bundle.ok("list", "--format", "json"))] == ["a1", "a2", "b1"]
    assert bundle.ok("list").splitlines()[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert bundle.call("kill", "a1", "SIGNOTHING").returncode == 5
    bundle.ok("kill", "a1", "sigusr1")
    bundle.ok("kill", "--all", "a2", "9")
    until_stopped(bundle, "a2")
    bundle.ok("delete", "--force", "--regex", "^a.$")
    assert bundle.ok("list", "-q").split() == ["b1"]
    bundle.ok("delete", "--force", "never-was")


def take_console(listening: socket.socket) -> int:
    end, _ = listening.accept()
    with end:
        fds = array.array("i")
        _, extra, _, _ = end.recvmsg(64, socket.CMSG_SPACE(fds.itemsize))
        fds.frombytes(extra[0][2])
        return fds[0]


def read_until(master: int, what: bytes) -> bytes:
    found = b""
    while what not in found:
        assert select.select([master], [], [], 60)[0]
        found += os.read(master, 4096)
    return found


def test_a_terminal_goes_to_the_console_socket(bundle: Bundle, tmp_path: Path) -> None:
    bundle.change(lambda config: config["process"].update(terminal=True, consoleSize={"width": 99, "height": 33}))
    bundle.runs("sh", "-c", "stty size; tty; read line; echo got $line; exec sleep 1000")
    refused = bundle.call("create", "-b", str(bundle.path), "one")
    assert "--console-socket" in refused.stderr
    directory = tmp_path / ("long" * 30)
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        link = f"/proc/self/fd/{os.open(directory, os.O_PATH)}/console.sock"
        listening.bind(link)
        listening.listen(1)
        bundle.ok("create", "-b", str(bundle.path), "--console-socket", str(directory / "console.sock"), "one")
        master = take_console(listening)
    try:
        bundle.ok("start", "one")
        assert b"33 99" in read_until(master, b"/dev/pts/0")
        os.write(master, b"hello\n")
        read_until(master, b"got hello")
    finally:
        os.close(master)


def test_descriptors_are_handed_down_and_no_others(bundle: Bundle) -> None:
    bundle.runs("sh", "-c", "cat <&3; cat <&4; echo $LISTEN_FDS $LISTEN_PID; ls /proc/self/fd | wc -l")
    one, two = os.memfd_create("one", 0), os.memfd_create("two", 0)
    secret = os.open("/", os.O_RDONLY)
    for fd, text in ((one, b"one\n"), (two, b"two\n")):
        os.write(fd, text)
        os.lseek(fd, 0, os.SEEK_SET)
    try:

        def lay() -> None:
            spare = [os.dup2(fd, 100 + index) for index, fd in enumerate((one, two, secret))]
            for index, fd in enumerate(spare):
                os.dup2(fd, 3 + index)

        found = bundle.call(
            *("run", "--preserve-fds", "1", "-b", str(bundle.path), "one"),
            pass_fds=(3, 4, 5),
            preexec_fn=lay,
            env={**os.environ, "LISTEN_FDS": "1"},
        )
    finally:
        for fd in (one, two, secret):
            os.close(fd)
    # 0, 1 and 2, the two that were handed down, and ls' own of the directory.
    assert found.stdout.splitlines() == ["one", "two", "1 1", "6"]


def test_descriptors_that_are_not_open_are_left_out(bundle: Bundle) -> None:
    listed = "for fd in 3 4 5 6 7 8 9; do [ -e /proc/self/fd/$fd ] && echo $fd; done; cat <&6; echo $LISTEN_FDS"
    bundle.runs("sh", "-c", listed)
    given = os.memfd_create("six", 0)
    try:
        os.write(given, b"six\n")
        os.lseek(given, 0, os.SEEK_SET)

        def lay() -> None:
            os.dup2(given, 6)
            for fd in (*range(3, 6), *range(7, 300)):
                os.closerange(fd, fd + 1)

        found = bundle.call(
            *("run", "--preserve-fds", "200", "-b", str(bundle.path), "one"),
            close_fds=False,
            preexec_fn=lay,
            env={**os.environ, "LISTEN_FDS": "1"},
        )
    finally:
        os.close(given)
    assert found.stdout.splitlines() == ["6", "six", "1"]
    assert (
        found.stderr == "wherry-runc: warning: --preserve-fds, LISTEN_FDS: 3-5, 7-203 are not open and are left out\n"
    )
    assert bundle.call("run", "--preserve-fds", "257", "-b", str(bundle.path), "two").returncode == 2


@pytest.mark.parametrize("style", ["json", "text"])
def test_errors_go_to_the_log_too(bundle: Bundle, style: str) -> None:
    log = bundle.path / "log"
    found = bundle.call("--log", str(log), "--log-format", style, "start", "none")
    assert found.returncode == 3
    assert found.stderr.count("\n") == 1
    if style == "json":
        entry = json.loads(log.read_text())
        assert (entry["level"], sorted(entry)) == ("error", ["level", "msg", "time"])
        assert entry["msg"] in found.stderr
    else:
        assert " level=error msg=" in log.read_text()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--systemd-cgroup", "list"), "not by systemd"),
        (("--cgroup-manager", "systemd", "list"), "not by systemd"),
        (("checkpoint", "x"), "CRIU is not done"),
        (("frobnicate",), "no such command"),
        (("state",), "too few arguments"),
        (("state", "a", "b"), "too many arguments"),
        (("state", "--nothing", "a"), "no such option: --nothing"),
        (("create", "--bundle"), "needs a value"),
        (("list", "--format", "xml"), "table or json"),
        (("--log-format", "xml", "list"), "text or json"),
    ],
)
def test_wrong_command_lines(bundle: Bundle, words: tuple[str, ...], what: str) -> None:
    found = bundle.call(*words)
    assert found.returncode == 2
    assert what in found.stderr
    assert found.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("..", "begins with a letter, a digit or '_'"),
        ("../x", "invalid character `/` in the ID: '../x'"),
        ("a/b", "invalid character `/` in the ID: 'a/b'"),
        (".hidden", "begins with a letter, a digit or '_'"),
        ("", "begins with a letter, a digit or '_'"),
        ("a\nb", r"invalid character `\n` in the ID: 'a\nb'"),
        ("a" * 1025, "at most 1024 characters"),
    ],
)
def test_names_that_would_leave_the_root(bundle: Bundle, name: str, what: str) -> None:
    found = bundle.call("create", "-b", str(bundle.path), name)
    assert (found.returncode, found.stderr.count("\n")) == (5, 1)
    assert what in found.stderr
    assert bundle.call("delete", "--force", name).returncode == 5


def test_every_command_has_help(bundle: Bundle) -> None:
    from wherry.cli.runtime_commands import COMMANDS

    for name in COMMANDS:
        text = bundle.ok(name, "--help")
        assert text.startswith("Usage: wherry-runc ")
        assert "Examples:" in text
    assert "spec: 1.2.0" in bundle.ok("--version")
    features = json.loads(bundle.ok("features"))
    assert features["ociVersionMax"] == "1.2.0"
    assert "user" in features["linux"]["namespaces"]
    assert "idmap" in features["mountOptions"]


def test_disabled_control_groups_refuse_limits(bundle: Bundle) -> None:
    bundle.change(lambda config: config["linux"].update(resources={}))
    bundle.runs("cat", "/proc/self/cgroup")
    bundle.change(lambda config: config.update(mounts=[m for m in config["mounts"] if m["type"] != "cgroup"]))
    found = bundle.ok("--cgroup-manager", "disabled", "run", "-b", str(bundle.path), "one")
    assert "one" not in found
    bundle.change(lambda config: config["linux"].update(resources={"pids": {"limit": 5}}))
    assert bundle.call("--cgroup-manager", "disabled", "run", "-b", str(bundle.path), "one").returncode == 11


def test_a_creator_that_is_killed_leaves_nothing_that_cannot_be_deleted(bundle: Bundle) -> None:
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo > {bundle.path}/hook; exec sleep 1000"]}
    bundle.change(lambda config: config.update(hooks={"createRuntime": [hook]}))
    bundle.runs("true")
    words = bundle.words("create", "-b", str(bundle.path), "one")
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (bundle.path / "hook").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert bundle.state("one")["status"] == "creating"
        sleeping = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
    for pid in sleeping:
        if "sleep" in Path(f"/proc/{pid}/comm").read_text():
            os.kill(int(pid), 9)
    until_stopped(bundle, "one")
    bundle.ok("delete", "one")


def test_threads_do_not_matter_to_the_command(bundle: Bundle) -> None:
    bundle.runs("true")
    results: list[int] = []
    threads = [
        threading.Thread(
            target=lambda name=f"t{index}": results.append(
                subprocess.run(
                    bundle.words("run", "-b", str(bundle.path), name),
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    check=False,
                ).returncode
            )
        )
        for index in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [0, 0, 0, 0]
