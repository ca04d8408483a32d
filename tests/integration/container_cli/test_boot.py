"""An init system and containers: what a boot starts, and a supervisor that stays."""

from __future__ import annotations

import functools
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from tests.integration.engine.support import IMAGE, Cli, kill, kill_both, named, supervisors, until

SLEEP = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")


def status(cli: Cli) -> dict[str, str]:
    """Returns what is so of each container."""
    names = cli.run("ps", "-a", "--format", "{{.Names}}").stdout.split()
    return {name: cli.inspect(name)["status"] for name in names}


def _is_empty(group: Path) -> bool:
    return not (group / "cgroup.procs").read_text()


def remove_groups(container_id: str) -> None:
    """Removes a dead container's control groups, of which a boot finds none."""
    root = Path("/sys/fs/cgroup")
    for path in [*root.glob(f"wherry/{container_id}"), *root.glob(f"*/wherry/{container_id}")]:
        until(functools.partial(_is_empty, path))
        path.rmdir()


@pytest.mark.parametrize("how", ["power", "shutdown"])
def test_boot_starts_what_the_policies_want(cli: Cli, how: str) -> None:
    for name, policy in (
        ("always", "always"),
        ("unless", "unless-stopped"),
        ("failure", "on-failure"),
        ("no", "no"),
        ("always-stopped", "always"),
        ("unless-stopped", "unless-stopped"),
        ("failure-stopped", "on-failure"),
    ):
        cli.run("run", "-d", "--network", "none", "--name", name, "--restart", policy, IMAGE, *SLEEP)
    cli.run("create", "--network", "none", "--name", "never", "--restart", "always", IMAGE, *SLEEP)
    cli.run("run", "-d", "--network", "none", "--restart", "on-failure", "--name", "well", IMAGE, "true")
    cli.run("stop", "-t", "0", "always-stopped", "unless-stopped", "failure-stopped")
    assert cli.run("container", "wait", "well").stdout == "0\n"
    if how == "power":
        infos = [cli.inspect(name) for name in ("always", "unless", "failure", "no")]
        kill_both(cli)
        for info in infos:
            kill(info["pid"])
        for info in infos:
            remove_groups(info["id"])
    else:
        kill(named("supervisor", cli.run_root), signal.SIGTERM)
        until(lambda: not supervisors(cli.run_root))
    shutil.rmtree(cli.run_root)
    expected = "the machine went down while it ran" if how == "power" else ""
    assert cli.inspect("no")["error"] == expected
    assert set(status(cli).values()) == {"exited", "created"}
    assert cli.run("system", "boot").stderr == ""
    running = {name for name, word in status(cli).items() if word == "running"}
    # a container that ended well when the machine went down did not fail
    assert running == {"always", "unless", "always-stopped"} | ({"failure"} if how == "power" else set())
    pid = cli.inspect("always")["pid"]
    assert cli.run("system", "boot").stderr == ""
    assert cli.inspect("always")["pid"] == pid, "what runs already is left alone"


def test_boot_names_what_it_cannot_start(cli: Cli, tmp_path: Path) -> None:
    bound = tmp_path / "bound"
    bound.mkdir()
    options = ("-d", "--network", "none", "--restart", "always")
    cli.run("run", *options, "--name", "broken", "-v", f"{bound}:/bound", IMAGE, *SLEEP)
    cli.run("run", *options, "--name", "whole", IMAGE, *SLEEP)
    kill(named("supervisor", cli.run_root), signal.SIGTERM)
    until(lambda: not supervisors(cli.run_root))
    bound.rmdir()
    done = cli.run("system", "boot", status=1)
    assert "broken" in done.stderr
    assert "whole" not in done.stderr
    assert status(cli) == {"broken": "exited", "whole": "running"}
    bound.mkdir()
    assert cli.run("system", "boot").stderr == ""
    assert status(cli) == {"broken": "running", "whole": "running"}


def test_supervisor_that_stays(cli: Cli, tmp_path: Path) -> None:
    """It says when it is ready, serves containers that come and go, and ends them all when it is told to end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(tmp_path / "notify"))
        ready.settimeout(30)
        process = cli.start("system", "supervisor", env={**cli.env, "NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert ready.recv(64) == b"READY=1"
    cli.run("run", "-d", "--name", "c", IMAGE, *SLEEP)
    assert process.pid == named("keeper", cli.run_root)
    first = named("supervisor", cli.run_root)
    assert cli.inspect("c")["supervisor_pid"] == first
    assert "already" in cli.run("system", "supervisor", status=None).stderr
    cli.run("rm", "-f", "c")
    cli.run("run", "-d", "--name", "d", IMAGE, *SLEEP)
    assert named("supervisor", cli.run_root) == first
    process.send_signal(signal.SIGTERM)  # as systemd does with KillMode=mixed: to the first process alone
    assert process.wait(timeout=60) == 0
    process.communicate()
    info = cli.inspect("d")
    assert (info["status"], info["exit_code"], info["error"]) == ("exited", 0, "")
    until(lambda: not supervisors(cli.run_root))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_the_documented_unit_is_one(tmp_path: Path) -> None:
    text = Path("docs/explanation/no-daemon.md").read_text(encoding="utf-8")
    found = re.search(r"```ini\n# /etc/systemd/system/(\S+)\n(.*?)```", text, re.DOTALL)
    assert found is not None
    unit = tmp_path / found[1]
    unit.write_text(found[2].replace("/usr/bin/wherry", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert found[1] not in done.stderr, done.stderr
