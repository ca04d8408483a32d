"""``wherry run --machine``: a container's root under its own kernel, with streams as clean as a container's."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from tests.integration.machine.conftest import Command, fetched, needs_uml

from wherry.machine.kernels import Kernel

WORK = 'echo out; echo err >&2; id; pwd; hostname; echo "$X"; cat /data/f; touch /data/new /tmp/own; exit 7'
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a container's root")


def run_work(wherry: Command, tree: Path, tmp_path: Path, kind: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "f").write_text("hi\n")
    flags = ["-v", f"{data}:/data", "-e", "X=a  'b'", "-w", "/work", "-h", "box", "-u", "bob"]
    data.chmod(0o777)
    done = wherry("run", "--name=c", f"--machine={kind}", "--rootfs", *flags, tree, "sh", "-c", WORK)
    assert (done.returncode, done.stderr) == (7, "err\n")
    assert done.stdout == "out\nuid=1000(bob) gid=1001\n/work\nbox\na  'b'\nhi\n"
    assert (data / "new").exists()
    assert not (tree / "tmp/own").exists()
    changed = wherry("container", "diff", "c").stdout
    assert "A /tmp/own" in changed
    assert wherry("rm", "c").returncode == 0


@needs_uml
def test_user_mode_linux(wherry: Command, tree: Path, tmp_path: Path) -> None:
    run_work(wherry, tree, tmp_path, "uml")


@needs_uml
def test_input_reaches_its_end_and_output_is_a_pipe(wherry: Command, tree: Path) -> None:
    text = "".join(f"line {number}\n" for number in range(5000))
    flags = ("run", "--rm", "-i", "--machine=uml", "--rootfs")
    done = wherry(*flags, tree, "sh", "-c", "cat; test -t 1 || echo a pipe >&2", stdin=text)
    assert (done.returncode, done.stderr) == (0, "a pipe\n")
    assert done.stdout == text


@needs_uml
def test_a_port(wherry: Command, tree: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "wherry", f"--root={tmp_path}/root", f"--run-root={tmp_path}/run"]
    words += ["run", "--rm", "--machine=uml", "--rootfs", f"--publish={port}:80", str(tree)]
    process = subprocess.Popen([*words, "sh", "-c", "echo up; echo answer | nc -l -p 80"], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        answer = b""
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
                try:
                    answer = line.recv(100)
                except ConnectionError:
                    answer = b""
            if answer:
                break
            time.sleep(0.2)
        assert answer == b"answer\n"
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


@needs_uml
def test_a_terminal(wherry: Command, tree: Path, tmp_path: Path) -> None:
    """The window size comes along, and changes with it; the exit status is the command's."""
    words = [sys.executable, "-m", "wherry", f"--root={tmp_path}/root", f"--run-root={tmp_path}/run"]
    words += ["run", "--rm", "-it", "--machine=uml", "--rootfs", str(tree), "sh"]
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(words[0], words)
    try:
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        seen = read_until(fd, b"# ")
        os.write(fd, b"stty size; tty\n")
        seen = read_until(fd, b"/dev/tty")
        assert b"33 77" in seen
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 88, 0, 0))
        seen = b""
        for _ in range(40):
            os.write(fd, b"stty size\n")
            seen = read_until(fd, b"# ")
            if b"44 88" in seen:
                break
            time.sleep(0.1)
        assert b"44 88" in seen
        os.write(fd, b"exit 9\n")
        read_until(fd, b"", timeout_s=30)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
        pid = 0
    finally:
        os.close(fd)
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def read_until(fd: int, text: bytes, timeout_s: float = 60) -> bytes:
    """Reads until a text comes; with b"" until the other side has closed."""
    seen, end = b"", time.monotonic() + timeout_s
    while not text or text not in seen:
        left = end - time.monotonic()
        assert left > 0, seen
        if select.select([fd], [], [], left)[0]:
            try:
                data = os.read(fd, 4096)
            except OSError:
                data = b""
            if not data:
                assert not text, seen
                return seen
            seen += data
    return seen


@needs_uml
def test_a_signal_reaches_the_command(tree: Path, tmp_path: Path, wherry: Command) -> None:
    words = [sys.executable, "-m", "wherry", f"--root={tmp_path}/root", f"--run-root={tmp_path}/run"]
    words += ["run", "--rm", "--machine=uml", "--rootfs", str(tree), "sh", "-c"]
    script = "trap 'echo got it; exit 3' TERM; echo up; while :; do sleep 0.1; done"
    process = subprocess.Popen([*words, script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.terminate()
    assert process.stdout.read() == "got it\n"
    assert process.wait(20) == 3


def test_what_has_no_meaning_is_refused(wherry: Command, tree: Path) -> None:
    for flags, said in (
        (["-d"], "foreground"),
        (["--privileged"], "--privileged"),
        (["--network=host"], "--network"),
        (["--machine=xen"], "qemu or uml"),
    ):
        done = wherry("run", "--rm", "--machine=uml", *flags, "--rootfs", tree, "true")
        assert done.returncode == 125
        assert said in done.stderr
    assert "wherry kernel fetch --arch" in wherry("kernel", "test", "--arch=riscv64", tree / "bin/sh").stderr


@pytest.mark.deep
def test_qemu(wherry: Command, tree: Path, tmp_path: Path, kernel: Kernel) -> None:
    run_work(wherry, tree, tmp_path, "qemu")


@pytest.mark.deep
def test_another_architecture_in_qemu(wherry: Command, tmp_path: Path) -> None:
    kernel = fetched("arm64")
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    assert kernel.busybox is not None
    (tree / "bin/busybox").write_bytes(kernel.busybox.read_bytes())
    (tree / "bin/busybox").chmod(0o755)
    (tree / "bin/sh").symlink_to("busybox")
    flags = ("run", "--rm", "--machine=qemu", "--platform=linux/arm64", "--rootfs")
    done = wherry(*flags, tree, "sh", "-c", "busybox uname -m; exit 7")
    assert (done.returncode, done.stdout) == (7, "aarch64\n"), done.stderr
