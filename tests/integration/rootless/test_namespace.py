"""The home namespace: found again by everybody, made once, and what tells it from a container's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.integration.rootless.user import IMAGE, User

PROBE = "from wherry.linux import usernamespace as u; print(u.inside(), u.has_one_id(), u.owns_network())"


def test_many_at_once_are_in_one_namespace(user: User) -> None:
    script = "echo up; exec sleep 1000"
    words = [
        subprocess.Popen(
            user.command(
                *user.program(), "run", "-d", "--name", f"c{number}", "--network", "none", IMAGE, "sh", "-c", script
            ),
            stdout=subprocess.DEVNULL,
        )
        for number in range(4)
    ]
    assert [process.wait(60) for process in words] == [0] * 4
    pids = [user.ok("inspect", "-f", "{{.State.Pid}}", f"c{number}") for number in range(4)]
    assert len({os.readlink(f"/proc/{pid}/ns/user") for pid in pids}) == 1
    for number in range(4):
        user.ok("exec", f"c{number}", "true")


def test_a_container_alone_keeps_the_namespace(user: User) -> None:
    user.ok("run", "-d", "--name", "alone", "--network", "none", IMAGE, "sleep", "1000")
    pid = user.ok("inspect", "-f", "{{.State.Pid}}", "alone")
    for entry in (user.runtime / "wherry").glob("*/home/*"):
        entry.unlink()  # as if the processes had ended that were written down
    (next((user.runtime / "wherry").glob("*/home")) / "1").symlink_to(os.readlink(f"/proc/{pid}/ns/user"))
    user.ok("exec", "alone", "true")
    assert os.readlink(f"/proc/{pid}/ns/user") == user.ok("exec", "alone", "readlink", "/proc/self/ns/user")


def test_an_entry_that_lies_leads_nowhere(user: User) -> None:
    user.ok("ps")
    folder = next((user.runtime / "wherry").glob("*/home"))
    entry = folder / str(os.getpid())  # another user's, in the host's user namespace
    entry.symlink_to(os.readlink("/proc/self/ns/user"))
    assert user.ok("run", "--rm", "--network", "none", IMAGE, "id", "-u") == "0"
    assert not entry.is_symlink()


def test_root_of_a_namespace_with_a_network_of_its_own_has_bridges() -> None:
    def probe(*words: str) -> str:
        done = subprocess.run([*words, sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert probe().startswith("False False")
    assert probe("unshare", "-U", "--map-root-user") == "True True False"
    assert probe("unshare", "-U", "--map-root-user", "-n") == "True True True"


def test_killed_at_any_moment_nothing_stays(user: User) -> None:
    command = user.command(*user.program(), "run", "--rm", "-p", "127.0.0.1::80", IMAGE, "sleep", "1000")
    for wait_s in (0.05, 0.2, 0.4, 0.6, 0.9, 1.3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(wait_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.wait()
        user.ok("ps", "-a")
        user.remove_all()
        user.wait_for_nobody()
    mounts = Path(f"/proc/{user.pid}/mountinfo").read_text()
    assert "rootfs" not in mounts
