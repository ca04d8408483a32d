"""The way of a person: three commands from nothing to a booted host in which a login works."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CACHE = ROOT / "build/cache/hosts"
"""Kept from one run of the suite to the next: packages, and results of steps."""
PASSWORD = "correct-horse"
PROGRESS_S = 120
"""How long a guest may say nothing: machines are slow and shared."""


def wherry(*words: str, cwd: Path, given: str = "") -> str:
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "src"),
        "HOME": str(cwd),
        "WHERRY_BUILD_CACHE": str(CACHE),
    }
    command = [sys.executable, "-m", "wherry", "--root", str(cwd / "root"), *words]
    done = subprocess.run(command, input=given, capture_output=True, text=True, cwd=cwd, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, command: list[str], cwd: Path) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execve(command[0], command, {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TERM": "linux"})
        self.said = ""

    def wait(self, text: str) -> None:
        """Reads until a text has come; what comes counts as progress."""
        start = len(self.said)
        deadline = time.monotonic() + PROGRESS_S
        while text not in self.said[start:]:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"nothing for {PROGRESS_S} s; last: {self.said[-2000:]}"
            data = os.read(self.fd, 65536)
            assert data, f"it ended; last: {self.said[-2000:]}"
            self.said += data.decode(errors="replace")
            deadline = time.monotonic() + PROGRESS_S

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def end(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


@pytest.mark.timeout(600)
def test_three_commands_to_a_login(tmp_path: Path) -> None:
    words = ["--target", "virt/qemu,host/minimal", "--password-stdin"]
    wherry("host", "new", "my-device", *words, cwd=tmp_path, given=f"{PASSWORD}\n")
    wherry("host", "build", "my-device", cwd=tmp_path)
    terminal = Terminal([sys.executable, "-m", "wherry", "boot", "my-device", "--snapshot"], tmp_path)
    terminal.wait("my-device login:")
    terminal.type("core\n")
    terminal.wait("assword:")
    terminal.type("wrong\n")
    terminal.wait("login:")
    terminal.type("core\n")
    terminal.wait("assword:")
    terminal.type(f"{PASSWORD}\n")
    terminal.wait("$ ")
    terminal.type("id -un; uname -m; echo status $((40 + 2))\n")
    terminal.wait("status 42")
    assert "core" in terminal.said.split("echo status")[-1]
    assert "x86_64" in terminal.said
    terminal.type("\x01x")  # Ctrl-A X
    terminal.end()
