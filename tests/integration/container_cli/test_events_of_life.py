"""Docker's events of a container's life, in docker's order, whoever tells them; and what waits for them."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.integration.container_cli.test_supervision import Terminal
from tests.integration.engine.support import IMAGE, Cli, kill_both, until

from wherry.core.jsonio import loads
from wherry.engine.state import Paths, is_kept, read_run

STUBBORN = "trap '' TERM; echo up; while :; do sleep 0.1; done"


def told(cli: Cli, name: str = "c") -> list[dict[str, Any]]:
    """Returns the events of one container, the oldest first."""
    lines = cli.run("events", "--since", "1h", "--until", "0s", "--filter", f"container={name}", "--json").stdout
    return [loads(line) for line in lines.splitlines()]


def actions(cli: Cli, name: str = "c") -> list[str]:
    """Returns their actions, with the signal or exit status."""
    found = []
    for event in told(cli, name):
        attributes = event["Actor"]["Attributes"]
        number = attributes.get("signal", attributes.get("exitCode"))
        found.append(event["Action"] if number is None else f"{event['Action']} {number}")
    return found


def test_a_life(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "c", "--label", "tier=front", IMAGE, "sleep", "100")
    cli.run("stop", "-t", "0", "c")
    cli.run("rm", "c")
    assert actions(cli) == ["create", "start", "kill 15", "kill 9", "die 137", "stop", "destroy"]
    for event in told(cli):
        attributes = event["Actor"]["Attributes"]
        assert (attributes["image"], attributes["name"], attributes["tier"]) == (f"docker.io/{IMAGE}", "c", "front")


def test_restart_and_forced_removal(cli: Cli) -> None:
    script = "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done"
    cli.run("run", "-d", "--name", "c", IMAGE, "sh", "-c", script)
    until(lambda: cli.run("logs", "c").stdout)
    cli.run("container", "restart", "c")
    cli.run("kill", "-s", "USR2", "c")
    cli.run("rm", "-f", "c")
    found = actions(cli)
    assert found[:6] == ["create", "start", "kill 15", "die 3", "stop", "start"]
    assert found[6:8] == ["restart", "kill 12"]
    assert found[-1] == "destroy"
    assert found[-2].startswith("die ")


def test_restart_policy_and_removal_of_itself(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "c", "--restart", "on-failure:1", IMAGE, "sh", "-c", "exit 4")
    assert cli.run("container", "wait", "c").stdout == "4\n"
    assert actions(cli) == ["create", "start", "die 4", "start", "die 4"]
    cli.run("run", "--rm", "--name", "d", IMAGE, "sh", "-c", "exit 5", status=5)
    assert actions(cli, "d") == ["create", "attach", "start", "die 5", "destroy"]


def test_signals_of_a_command_in_the_foreground(cli: Cli) -> None:
    script = "trap 'exit 6' TERM; echo up; while :; do sleep 0.1; done"
    process = cli.start("run", "--name", "c", IMAGE, "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 6
    process.communicate()
    assert actions(cli) == ["create", "attach", "start", "kill 15", "die 6"]


def test_attach_and_detach(cli: Cli) -> None:
    with Terminal(cli, "run", "-it", "--name", "c", IMAGE, "sh") as person:
        person.until(b"# ")
        person.type(b"\x10\x11")
        person.until(b"left ")
    with Terminal(cli, "attach", "c") as person:
        person.type(b"exit 9\n")
        person.wait()
    until(lambda: cli.inspect("c")["status"] == "exited")
    found = actions(cli)
    assert found[:5] == ["create", "attach", "start", "detach", "attach"]
    assert found[5].startswith("die ")


def test_exec(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "c", IMAGE, "sleep", "100")
    cli.run("exec", "c", "sh", "-c", "exit 7", status=7)
    cli.run("exec", "c", "nothing", status=127)
    events = [event for event in told(cli) if event["Action"].startswith("exec_")]
    assert [event["Action"] for event in events] == [
        "exec_create: sh -c exit 7",
        "exec_start: sh -c exit 7",
        "exec_die",
        "exec_create: nothing",
        "exec_start: nothing",
        "exec_die",
    ]
    ids = [event["Actor"]["Attributes"]["execID"] for event in events]
    assert len(set(ids[:3])) == len(set(ids[3:])) == 1
    assert ids[0] != ids[3]
    assert [event["Actor"]["Attributes"].get("exitCode") for event in events] == [None, None, "7", None, None, "127"]


def test_a_container_whose_keepers_were_killed(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "c", IMAGE, "sleep", "100")
    kill_both(cli)
    cli.run("container", "rm", "-f", "c")
    assert actions(cli) == ["create", "start", "die 137", "destroy"]


# --- who waits is told by the kernel, and does not look again and again


def wakeups(pid: int) -> int:
    """Returns how often a process has been woken from its own sleep."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches:"):
            return int(line.split()[1])
    raise AssertionError("no such line")


@pytest.mark.parametrize(
    "words",
    [("logs", "-f", "c"), ("container", "wait", "c"), ("container", "wait", "--condition", "next-exit", "other")],
)
def test_who_waits_sleeps(cli: Cli, words: tuple[str, ...]) -> None:
    cli.run("run", "-d", "--name", "c", IMAGE, "sleep", "100")
    cli.run("create", "--name", "other", IMAGE, "sh", "-c", "exit 8")
    waiter = cli.start(*words)
    until(lambda: any("inotify" in target for target in _open_files(waiter.pid)))
    calm: list[int] = []

    def is_calm() -> bool:
        calm.append(wakeups(waiter.pid))
        return len(calm) > 20 and len(set(calm[-20:])) == 1  # a second; one that looks is seen by its wake-ups

    until(is_calm)
    if "other" in words:
        cli.run("start", "other")
        assert waiter.communicate(timeout=30)[0] == b"8\n"
    else:
        cli.run("kill", "c")
        waiter.communicate(timeout=30)
        assert waiter.returncode == 0


def _open_files(pid: int) -> list[str]:
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(link))
        except FileNotFoundError:
            continue
    return found


def test_followed_log_is_whole_and_ends(cli: Cli) -> None:
    script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; read x; printf end"
    options = ("--log-opt", "max-size=16k", "--log-opt", "max-file=50")
    cli.run("run", "-d", "-i", "--name", "c", *options, IMAGE, "sh", "-c", script)
    follower = cli.start("logs", "-f", "c")
    until(lambda: cli.run("logs", "-n", "1", "c").stdout == "line 2999\n")
    cli.run("attach", "c", stdin=b"go\n")
    text = follower.communicate(timeout=60)[0].decode()
    assert text == "".join(f"line {number}\n" for number in range(3000)) + "end"


def test_stop_while_it_is_being_prepared(cli: Cli) -> None:
    """The wish is left with whoever prepares it, and obeyed once it runs; nobody looks again and again."""
    cli.run("create", "--name", "c", IMAGE, "sleep", "100")
    starter = cli.start("start", "c", env={**cli.env, "WHERRY_TRACE": "engine.prepared=sleep:2"})
    paths = Paths(cli.root, cli.run_root)
    until(lambda: is_kept(paths, cli.inspect("c")["id"]) and read_run(paths, cli.inspect("c")["id"]))
    cli.run("stop", "-t", "0", "c")
    starter.communicate(timeout=30)
    assert cli.inspect("c")["status"] == "exited"
    assert actions(cli)[-1] == "stop"


def test_wait_until_removed(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "c", IMAGE, "sleep", "100")
    waiter = cli.start("container", "wait", "--condition", "removed", "c")
    until(lambda: any("inotify" in target for target in _open_files(waiter.pid)))
    cli.run("kill", "c")
    with pytest.raises(subprocess.TimeoutExpired):
        waiter.wait(timeout=0.5)
    cli.run("rm", "c")
    assert waiter.communicate(timeout=30)[0] == b"137\n"
