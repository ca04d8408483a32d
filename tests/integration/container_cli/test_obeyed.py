"""Settings of logs, health checks and volumes that take effect only in a container that runs."""

from __future__ import annotations

from pathlib import Path

from tests.integration.engine.support import IMAGE, Cli, until

ENDLESS = "echo up; while :; do sleep 0.1; done"


def test_log_driver_none_keeps_nothing(cli: Cli) -> None:
    """Neither of a detached container nor of one in the foreground, whose output still comes through."""
    cli.run("run", "-d", "-i", "--name", "c", "--log-driver", "none", IMAGE, "sh", "-c", "read x; echo got $x; exit 5")
    assert "keeps no log" in cli.run("logs", "c", status=None).stderr
    assert "keeps no log" in cli.run("logs", "-f", "c", status=None).stderr
    assert cli.run("attach", "c", stdin=b"word\n", status=5).stdout == "got word\n"
    assert cli.run("run", "--name", "d", "--log-driver", "none", IMAGE, "echo", "seen").stdout == "seen\n"
    for name in ("c", "d"):
        folder = cli.root / "containers" / cli.inspect(name)["id"] / "log"
        assert list(folder.iterdir()) == []


def test_start_interval_holds_in_the_start_period(cli: Cli) -> None:
    slow = ("--health-cmd", "test -e /ready", "--health-interval", "1h", "--health-retries", "1")
    begin = ("--health-start-period", "1h", "--health-start-interval", "100ms")
    script = "sleep 1; touch /ready; sleep 100"
    cli.run("run", "-d", "--name", "c", *slow, *begin, IMAGE, "sh", "-c", script)
    until(lambda: cli.inspect("c")["health"] == "healthy")
    cli.run("run", "-d", "--name", "d", *slow, IMAGE, "sh", "-c", script)
    assert cli.inspect("d")["health"] == "starting"


def test_a_new_volume_without_copy_is_empty(cli: Cli, tmp_path: Path) -> None:
    def listed(volume: str, *more: str) -> str:
        mount = ",".join(("type=volume", f"source={volume}", "target=/data", *more))
        return cli.run("run", "--rm", "--mount", mount, IMAGE, "ls", "/data").stdout

    assert listed("filled") == "inner\nseed\n"
    assert listed("bare", "volume-nocopy") == ""
    assert listed("bare") == ""  # it is there by now: docker fills no volume twice
    both = ("--mount", "type=volume,source=e,target=/data,volume-nocopy", "--mount", "type=volume,source=f,target=/etc")
    assert cli.run("run", "--rm", *both, IMAGE, "sh", "-c", "ls /data; cat /etc/motd").stdout == "from the image\n"
