"""Containers in the background: ps, stop, kill, logs, rm, restarts, health, and what is killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from tests.integration.engine.support import IMAGE, Cli, kill, kill_both, named, supervisors, until

from wherry.core.jsonio import loads

LOOP = ("sh", "-c", "trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.05; done")


def test_from_run_to_rm(cli: Cli) -> None:
    container_id = cli.run("run", "-d", "--name", "web", "-l", "app=web", IMAGE, *LOOP).stdout.strip()
    assert len(container_id) == 64
    listed = loads(cli.run("ps", "--json").stdout)
    assert [(item["id"], item["name"], item["status"]) for item in listed] == [(container_id, "web", "running")]
    line = cli.run("ps").stdout.splitlines()[1]
    assert line.startswith(container_id[:12])
    assert len(line) <= 80
    until(lambda: "up" in cli.run("logs", "web").stdout)
    assert "is running" in cli.run("rm", "web", status=4).stderr
    assert "is taken" in cli.run("run", "-d", "--name", "web", IMAGE, "true", status=125).stderr
    assert cli.run("stop", "web").stdout == "web\n"
    info = cli.inspect(container_id[:6])
    assert (info["status"], info["exit_code"], info["pid"]) == ("exited", 4, 0)
    assert cli.run("logs", "web").stdout == "up\nbye\n"
    assert cli.run("ps", "-q").stdout == ""
    assert cli.run("ps", "-aq", "--filter", "label=app=web").stdout.strip() == container_id[:12]
    assert cli.run("ps", "-aq", "--filter", "status=running").stdout == ""
    assert cli.run("container", "wait", "web").stdout == "4\n"
    cli.run("container", "start", "web")
    cli.run("container", "restart", "-t", "1", "web")
    assert cli.inspect("web")["status"] == "running"
    assert cli.run("rm", "-f", "web").stdout == "web\n"
    assert "no container, image, volume or network 'web'" in cli.run("inspect", "web", status=3).stderr
    assert list((cli.root / "containers").iterdir()) == []


def test_stop_kills_after_the_timeout(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "deaf", "--restart", "always", IMAGE, "sleep", "100")
    began = time.monotonic()
    cli.run("stop", "-t", "1", "deaf")
    assert 0.9 < time.monotonic() - began < 8
    assert cli.inspect("deaf")["exit_code"] == 137


def test_kill(cli: Cli) -> None:
    script = "trap 'echo hup' HUP; echo up; while :; do sleep 0.05; done"
    cli.run("run", "-d", "--name", "c", "--restart", "always", IMAGE, "sh", "-c", script)
    until(lambda: cli.run("logs", "c").stdout == "up\n")
    cli.run("kill", "-s", "HUP", "c")
    until(lambda: "hup" in cli.run("logs", "c").stdout)
    cli.run("kill", "c")
    info = cli.inspect("c")
    assert (info["status"], info["exit_code"], info["restarts"]) == ("exited", 137, 0)
    assert "does not run" in cli.run("kill", "c", status=4).stderr
    assert "no signal is called" in cli.run("kill", "-s", "NOPE", "c", status=5).stderr


def test_restart_on_failure(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "c", "--restart", "on-failure:2", IMAGE, "sh", "-c", "echo run; exit 3")
    assert cli.run("container", "wait", "c").stdout == "3\n"
    assert cli.run("logs", "c").stdout == "run\n" * 3
    assert cli.inspect("c")["restarts"] == 2


def test_restart_always_and_stop_in_the_pause(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "c", "--restart", "always", IMAGE, "false")
    until(lambda: cli.inspect("c")["restarts"] >= 3)
    until(lambda: cli.inspect("c")["status"] == "restarting")
    cli.run("stop", "-t", "1", "c")
    assert cli.inspect("c")["status"] == "exited"


def test_health(cli: Cli) -> None:
    cli.run(
        *("run", "-d", "--name", "c", "--health-cmd", "echo probed; test -e /tmp/ok", "--health-interval", "100ms"),
        *("--health-retries", "2", "--health-start-period", "30s", "--health-timeout", "5s", IMAGE, "sleep", "1000"),
    )
    assert cli.inspect("c")["health"] == "starting"
    cli.run("exec", "c", "touch", "/tmp/ok")
    until(lambda: cli.inspect("c")["health"] == "healthy")
    cli.run("exec", "c", "rm", "/tmp/ok")
    until(lambda: cli.inspect("c")["health"] == "unhealthy")
    assert cli.inspect("c")["probes"][-1]["output"] == "probed\n"
    assert "unhealthy" in cli.run("ps").stdout


def test_health_timeout(cli: Cli) -> None:
    cli.run(
        *("run", "-d", "--name", "c", "--health-cmd", "sleep 100", "--health-interval", "100ms"),
        *("--health-retries", "1", "--health-timeout", "200ms", IMAGE, "sleep", "100"),
    )
    until(lambda: cli.inspect("c")["health"] == "unhealthy")
    assert cli.inspect("c")["probes"][-1]["exit_code"] == -1


def test_logs_options_and_rotation(cli: Cli) -> None:
    script = "for i in $(seq 1 400); do echo line $i of quite some length to fill a file; done; printf partial"
    cli.run(
        "run", "-d", "--name", "c", "--log-opt", "max-size=8k", "--log-opt", "max-file=2", IMAGE, "sh", "-c", script
    )
    cli.run("container", "wait", "c")
    folder = cli.root / "containers" / cli.inspect("c")["id"] / "log"
    assert sorted(path.name for path in folder.iterdir()) == ["container.log", "container.log.1"]
    assert all(path.stat().st_size <= 8192 for path in folder.iterdir())
    text = cli.run("logs", "c").stdout
    assert text.endswith("line 400 of quite some length to fill a file\npartial")
    assert cli.run("logs", "-n", "2", "c").stdout.startswith("line 400")
    stamped = cli.run("logs", "-t", "-n", "1", "c").stdout
    assert stamped[:2] == "20"
    assert stamped.endswith("Z partial")
    assert cli.run("logs", "--since", "1h", "-n", "1", "c").stdout == "partial"
    assert cli.run("logs", "--since", "2100-01-01T00:00:00Z", "c").stdout == ""


def test_logs_follow(cli: Cli) -> None:
    cli.run(
        "run", "-d", "--name", "c", IMAGE, "sh", "-c", "for i in 1 2 3 4; do echo $i; echo e$i >&2; sleep 0.2; done"
    )
    result = cli.run("logs", "-f", "c")
    assert result.stdout == "1\n2\n3\n4\n"
    assert result.stderr == "e1\ne2\ne3\ne4\n"


def test_caller_killed_in_the_middle(cli: Cli) -> None:
    """SIGKILL of the command at its trace points: the container is there and runs, or is not there at all."""
    for point, running in (("engine.created", False), ("cli.none", True)):
        env = {**cli.env, "WHERRY_TRACE": f"{point}=kill"}
        cli.run("run", "-d", "--name", "c", IMAGE, *LOOP, env=env, status=None)
        info = cli.inspect("c")
        assert info["status"] == ("running" if running else "created")
        if not running:
            cli.run("container", "start", "c")
        cli.run("rm", "-f", "c")


def test_caller_killed_while_the_container_starts(cli: Cli) -> None:
    env = {**cli.env, "WHERRY_TRACE": "engine.life.created=sleep:1.5"}
    process = cli.start("run", "-d", "--name", "c", IMAGE, *LOOP, env=env)
    until(lambda: cli.run("ps", "-aq").stdout)
    time.sleep(0.7)
    process.kill()
    process.communicate()
    until(lambda: cli.inspect("c")["status"] == "running")
    cli.run("stop", "c")


def test_foreground_caller_killed(cli: Cli) -> None:
    process = cli.start("run", "--name", "c", "-p", "18081:80", IMAGE, *LOOP)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    info = cli.inspect("c")
    assert info["supervisor_pid"] == process.pid
    process.kill()
    process.communicate()
    until(lambda: not Path(f"/proc/{info['pid']}").exists())
    after = cli.inspect("c")
    assert (after["status"], after["exit_code"]) == ("exited", 137)
    assert cli.run("run", "--rm", "-p", "18081:80", IMAGE, "echo", "free").stdout == "free\n"


def test_both_killed(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "c", "-p", "18081:80", IMAGE, *LOOP)
    info = cli.inspect("c")
    kill_both(cli)
    until(lambda: cli.inspect("c")["status"] == "exited")
    after = cli.inspect("c")
    assert (after["exit_code"], after["error"]) == (137, "its supervisor was killed")
    assert not Path(f"/proc/{info['pid']}").exists() or "Z" in Path(f"/proc/{info['pid']}/stat").read_text()
    cli.run("container", "start", "c")
    assert cli.inspect("c")["status"] == "running"


def test_both_killed_with_a_container_that_removes_itself(cli: Cli) -> None:
    cli.run("run", "-d", "--rm", "--name", "c", IMAGE, *LOOP)
    kill_both(cli)
    until(lambda: cli.run("ps", "-aq").stdout == "")


def test_two_starts_start_once(cli: Cli) -> None:
    cli.run("container", "create", "--name", "c", IMAGE, "sh", "-c", "echo run; sleep 100")
    starters = [cli.start("container", "start", "c") for _ in range(5)]
    assert [process.wait(timeout=60) for process in starters] == [0] * 5
    for process in starters:
        process.communicate()
    until(lambda: cli.run("logs", "c").stdout != "")
    assert cli.run("logs", "c").stdout == "run\n"


def fill(path: Path) -> None:
    """Writes a file until the disk is full."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(fd, bytes(4096))
    except OSError:
        pass
    finally:
        os.close(fd)


def test_full_disk_does_not_stop_the_container(cli: Cli, store: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tiny", disk], check=True)
    try:
        root = disk / "root"
        root.mkdir()
        (root / "store").symlink_to(store)
        small = Cli(root, tmp_path / "run2")
        script = "i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); usleep 5000; done; exit 6"
        small.run("run", "-d", "--name", "c", IMAGE, "sh", "-c", script)
        filler = disk / "filler"
        fill(filler)
        time.sleep(0.5)
        os.truncate(filler, 0)
        assert small.run("container", "wait", "c").stdout == "6\n"
        logged = small.run("logs", "c")
        assert "lines lost, the disk was full" in logged.stderr
        assert logged.stdout.endswith("299\n")
        fill(filler)
        refused = small.run("run", "--name", "d", IMAGE, "true", status=125)
        assert "no space left" in refused.stderr
        filler.unlink()
        assert small.run("ps", "-aq", "--filter", "name=d").stdout == ""
        small.remove_all()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_sigterm_to_the_supervisor_stops_the_containers(cli: Cli) -> None:
    for name in ("c", "d"):
        cli.run("run", "-d", "--name", name, "--restart", "always", IMAGE, *LOOP)
    kill(named("supervisor", cli.run_root), signal.SIGTERM)
    assert cli.run("container", "wait", "c", "d").stdout == "4\n4\n"
    until(lambda: not supervisors(cli.run_root))
