"""``wherry run`` and ``exec``: what a container sees, how it ends, and that nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.integration.engine.support import IMAGE, Cli, objects_checksum, until


def test_output_and_exit_status(cli: Cli) -> None:
    result = cli.run("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7", status=7)
    assert result.stdout == "out\n"
    assert result.stderr == "err\n"
    assert cli.run("ps", "-aq").stdout == ""
    assert list((cli.root / "containers").iterdir()) == []
    assert list((cli.root / "names").iterdir()) == []


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        (["nope"], 127, "command not found in the container"),
        (["/bin/notaprogram"], 126, "cannot be executed"),
        (["/etc"], 126, "cannot be executed"),
    ],
)
def test_command_that_cannot_be_run(cli: Cli, command: list[str], status: int, says: str) -> None:
    result = cli.run("run", "--rm", IMAGE, *command, status=status)
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


def test_engine_errors_are_125(cli: Cli) -> None:
    assert "no such image" in cli.run("run", "--rm", "nothing", "true", status=125).stderr
    assert "no command" in cli.run("run", "--rm", IMAGE, status=125).stderr
    assert "too small" in cli.run("run", "-m", "1k", IMAGE, "true", status=125).stderr
    assert "not a port" in cli.run("run", "-p", "x", IMAGE, "true", status=125).stderr


def test_death_by_signal(cli: Cli) -> None:
    process = cli.start("run", "--rm", "--name", "c", IMAGE, "sh", "-c", "echo ready; sleep 100")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    cli.run("kill", "c")
    process.communicate(timeout=20)
    assert process.returncode == 137
    cli.run("run", "--rm", IMAGE, "sh", "-c", "sh -c 'kill -TERM $$'; exit $?", status=143)


def test_what_the_container_sees(cli: Cli) -> None:
    script = (
        "hostname; cat /proc/1/comm; ls /proc | grep -c '^[0-9]'; grep NoNewPrivs /proc/self/status; "
        "pwd; echo $HOME $PATH"
    )
    lines = cli.run("run", "--rm", "-h", "boat", IMAGE, "sh", "-c", script).stdout.splitlines()
    assert lines[0] == "boat"
    assert lines[1] == "sh"
    assert int(lines[2]) <= 4
    assert lines[3].split()[1] == "1"
    assert lines[4] == "/"
    assert lines[5] == "/root /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def test_env_user_workdir_entrypoint(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# a comment\nFROM_FILE=1 2\nPASSED\n")
    script = "echo $A/$FROM_FILE/$PASSED; id; pwd"
    result = cli.run(
        *("run", "--rm", "-e", "A=b c", "--env-file", str(file), "-u", "app", "-w", "/home/app"),
        *("--entrypoint", "sh", IMAGE, "-c", script),
        env={**cli.env, "PASSED": "down"},
    )
    assert result.stdout.splitlines() == [
        "b c/1 2/down",
        "uid=1000(app) gid=1000(app) groups=44(video)",
        "/home/app",
    ]
    assert "no user 'nobody'" in cli.run("run", "--rm", "-u", "nobody", IMAGE, "true", status=125).stderr
    assert cli.run("run", "--rm", "-u", "7:8", IMAGE, "id", "-g").stdout == "8\n"


def test_options_after_the_image_belong_to_the_command(cli: Cli) -> None:
    assert cli.run("run", "--rm", IMAGE, "echo", "--rm", "-d", "-p", "1:2").stdout == "--rm -d -p 1:2\n"


def test_store_is_never_written(cli: Cli, store: Path) -> None:
    before = objects_checksum(store)
    script = (
        "echo x >> /etc/motd; rm /bin/ls; chmod 777 /etc/passwd; mkdir /new; mv /data /moved; "
        "chown 5 /etc/group; cat /etc/motd"
    )
    assert cli.run("run", "--name", "writer", IMAGE, "sh", "-c", script).stdout == "from the image\nx\n"
    assert objects_checksum(store) == before
    assert cli.run("run", "--rm", IMAGE, "cat", "/etc/motd").stdout == "from the image\n"
    # what it wrote is still there in the next run of the same container
    assert "x" in (cli.root / "containers" / cli.inspect("writer")["id"] / "upper/etc/motd").read_text()


def test_read_only_and_tmpfs(cli: Cli) -> None:
    script = "touch /x 2>/dev/null || echo ro; touch /run/x && df -k /run | tail -1 | awk '{print $2}'; stat -c %a /run"
    result = cli.run("run", "--rm", "--read-only", "--tmpfs", "/run:size=1m,mode=700", IMAGE, "sh", "-c", script)
    assert result.stdout.split() == ["ro", "1024", "700"]


def test_binds(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/file").write_text("host\n")
    script = "cat /mnt/file; echo c > /mnt/out; touch /ro/x 2>/dev/null || echo refused"
    result = cli.run(
        *("run", "--rm", "-v", f"{tmp_path}/src:/mnt", "--mount", f"type=bind,src={tmp_path}/src,dst=/ro,readonly"),
        *(IMAGE, "sh", "-c", script),
    )
    assert result.stdout == "host\nrefused\n"
    assert (tmp_path / "src/out").read_text() == "c\n"
    cli.run("run", "--rm", "-v", "./made:/mnt", IMAGE, "touch", "/mnt/a", cwd=tmp_path)
    assert (tmp_path / "made/a").exists()
    missing = cli.run("run", "--rm", "--mount", "type=bind,src=/nothing/there,dst=/m", IMAGE, "true", status=125)
    assert "/nothing/there" in missing.stderr


def test_volumes_are_filled_once_and_stay(cli: Cli) -> None:
    result = cli.run(
        "run", "--rm", "-v", "vol:/data", IMAGE, "sh", "-c", "stat -c '%u %n' /data/*; echo 1 > /data/seed"
    )
    assert result.stdout.split() == ["0", "/data/inner", "1000", "/data/seed"]
    assert (
        cli.run("run", "--rm", "-v", "vol:/data", IMAGE, "cat", "/data/seed", "/data/inner/file").stdout == "1\ninner\n"
    )
    assert [path.name for path in (cli.root / "volumes").iterdir()] == ["vol"]
    cli.run("run", "--rm", "-v", "/data", IMAGE, "touch", "/data/x")
    assert [path.name for path in (cli.root / "volumes").iterdir()] == ["vol"], (
        "an anonymous volume goes with its container"
    )


def test_stdin(cli: Cli) -> None:
    data = os.urandom(3_000_000)
    done = subprocess.run(
        [*cli.prefix, "run", "--rm", "-i", "--network", "none", IMAGE, "cat"],
        input=data,
        capture_output=True,
        check=True,
        timeout=60,
        env=cli.env,
    )
    assert done.stdout == data
    assert cli.run("run", "--rm", IMAGE, "cat", stdin=b"not handed on").stdout == ""


def test_slow_reader_loses_nothing(cli: Cli) -> None:
    process = cli.start("run", "--rm", "--network", "none", IMAGE, "sh", "-c", "seq 1 200000")
    assert process.stdout is not None
    time.sleep(3.0)
    data, _ = process.communicate(timeout=60)
    assert data == b"".join(b"%d\n" % number for number in range(1, 200001))


def test_signals_are_passed_through(cli: Cli) -> None:
    script = "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.1; done"
    process = cli.start("run", "--rm", "--network", "none", IMAGE, "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (9, b"got\n", b"")


def test_terminal(cli: Cli) -> None:
    master, slave = os.openpty()
    os.set_blocking(master, True)
    import fcntl
    import struct
    import termios

    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    before = termios.tcgetattr(slave)
    process = cli.start("run", "--rm", "-it", "--network", "none", IMAGE, "sh", stdin=slave, stdout=slave, stderr=slave)
    seen = b""

    def expect(text: bytes) -> None:
        nonlocal seen
        timer = threading.Timer(20, process.kill)
        timer.start()
        while text not in seen:
            seen += os.read(master, 4096)
        timer.cancel()
        seen = seen.partition(text)[2]

    expect(b"# ")
    os.write(master, b"tty; stty size\r")
    expect(b"/dev/pts/0\r\n33 99\r\n")
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process.send_signal(signal.SIGWINCH)
    time.sleep(0.3)
    os.write(master, b"stty size\r")
    expect(b"40 120")
    os.write(master, b"sleep 100\r")
    time.sleep(0.3)
    os.write(master, b"\x03")
    expect(b"# ")
    os.write(master, b"exit 12\r")
    assert process.wait(timeout=20) == 12
    assert termios.tcgetattr(slave) == before, "the terminal is as it was"
    os.close(master)
    os.close(slave)


def test_detach_keys(cli: Cli) -> None:
    master, slave = os.openpty()
    process = cli.start("run", "--name", "t", "-it", IMAGE, "sh", stdin=slave, stdout=slave, stderr=slave)
    seen = b""
    while b"# " not in seen:
        seen += os.read(master, 4096)
    os.write(master, b"\x10\x11")
    assert process.wait(timeout=20) == 0
    assert cli.inspect("t")["status"] == "running"
    os.close(master)
    os.close(slave)


def test_tty_without_a_terminal(cli: Cli) -> None:
    result = cli.run("run", "--rm", "-it", IMAGE, "sh", "-c", "tty; cat", stdin=b"typed\n")
    lines = result.stdout.replace("\r", "").split("\n")
    assert "/dev/pts/0" in lines
    assert lines.count("typed") == 2, "what is typed, and what cat makes of it"


def test_limits(cli: Cli) -> None:
    script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null"
    assert cli.run("run", "--rm", "-m", "64m", IMAGE, "sh", "-c", script, status=None).stdout == "67108864\n"
    cli.run(
        "run", "--name", "oom", "-m", "16m", IMAGE, "sh", "-c", "x=$(head -c 100m /dev/zero | tr '\\0' x)", status=137
    )
    assert cli.inspect("oom")["oom_killed"] is True
    forks = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done 2>&1; wait"
    result = cli.run("run", "--rm", "--pids-limit", "5", IMAGE, "sh", "-c", forks, status=None)
    assert "Resource temporarily unavailable" in result.stdout + result.stderr
    quota = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null"
    assert cli.run("run", "--rm", "--cpus", "0.5", IMAGE, "sh", "-c", quota, status=None).stdout.split()[0] == "50000"


def test_capabilities(cli: Cli) -> None:
    script = "grep CapEff /proc/self/status | cut -f2"
    default = int(cli.run("run", "--rm", IMAGE, "sh", "-c", script).stdout, 16)
    dropped = int(
        cli.run("run", "--rm", "--cap-drop", "ALL", "--cap-add", "CHOWN", IMAGE, "sh", "-c", script).stdout, 16
    )
    added = int(cli.run("run", "--rm", "--cap-add", "NET_ADMIN", IMAGE, "sh", "-c", script).stdout, 16)
    assert dropped == 1
    assert added == default | 1 << 12
    assert not default & (1 << 21), "CAP_SYS_ADMIN is not among the default"
    refused = cli.run("run", "--rm", IMAGE, "sh", "-c", "mount -t tmpfs x /tmp || echo refused")
    assert "refused" in refused.stdout
    assert "FLY" in cli.run("run", "--rm", "--cap-add", "FLY", IMAGE, "true", status=125).stderr
    cli.run("run", "--rm", "--privileged", IMAGE, "mount", "-t", "tmpfs", "x", "/tmp")


def test_rootfs_directory(cli: Cli, tmp_path: Path) -> None:
    from tests.integration.engine.support import make_tree

    make_tree(tmp_path / "tree")
    assert cli.run("run", "--rm", "--rootfs", str(tmp_path / "tree"), "sh", "-c", "echo x > /x; cat /x").stdout == "x\n"
    assert not (tmp_path / "tree/x").exists()


def test_exec(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "c", "-e", "A=1", "-w", "/data", IMAGE, "sleep", "100")
    script = "echo $A $B; pwd; cat /proc/1/comm"
    assert cli.run("exec", "-e", "B=2", "c", "sh", "-c", script).stdout == "1 2\n/data\nsleep\n"
    assert cli.run("exec", "-i", "c", "cat", stdin=b"in\n").stdout == "in\n"
    assert cli.run("exec", "-u", "app", "-w", "/", "c", "sh", "-c", "id -u; pwd").stdout == "1000\n/\n"
    assert "/dev/pts/" in cli.run("exec", "-t", "c", "tty").stdout
    cli.run("exec", "c", "sh", "-c", "exit 5", status=5)
    cli.run("exec", "c", "nope", status=127)
    cli.run("exec", "c", "/bin/notaprogram", status=126)
    cli.run("exec", "-d", "c", "sh", "-c", "sleep 0.2; touch /data/done; sleep 50")
    until(lambda: cli.run("exec", "c", "test", "-e", "/data/done", status=None).status == 0)
    assert (
        "is not running"
        in cli.run("container", "create", "--name", "d", IMAGE, "true").stdout
        + cli.run("exec", "d", "true", status=125).stderr
    )


def test_exec_passes_signals(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "c", IMAGE, "sleep", "100")
    process = cli.start("exec", "c", "sh", "-c", "trap 'exit 3' INT; echo ready; while :; do sleep 0.1; done")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 3


def test_help_has_examples() -> None:
    for word in ("run", "exec", "ps", "logs", "stop", "kill", "rm", "inspect"):
        done = subprocess.run([sys.executable, "-m", "wherry", word, "--help"], capture_output=True, check=True)
        assert f"wherry {word}" in done.stdout.decode()
