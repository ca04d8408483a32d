"""Docker's other words on real containers: pause, rename, update, top, stats, port, wait, events, prune, units."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from pathlib import Path

from tests.integration.engine.support import IMAGE, Cli, until

from wherry.core.jsonio import loads

SLEEP = ("sleep", "1000")


def test_pause_and_what_is_done_to_a_paused_container(cli: Cli) -> None:
    count = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"
    cli.run("run", "-d", "--name", "c", "-t", IMAGE, "sh", "-c", count)
    until(lambda: cli.run("logs", "c").stdout)
    assert cli.run("pause", "c").stdout == "c\n"
    assert cli.inspect("c")["State"]["Paused"] is True
    assert "(Paused)" in cli.run("ps").stdout
    before = cli.run("logs", "c").stdout
    time.sleep(0.5)
    assert cli.run("logs", "c").stdout == before, "not one step"
    assert "already paused" in cli.run("pause", "c", status=4).stderr
    assert "is paused" in cli.run("exec", "c", "true", status=125).stderr
    assert cli.run("ps", "-q", "--filter", "status=paused").stdout
    assert cli.run("unpause", "c").stdout == "c\n"
    assert "is not paused" in cli.run("unpause", "c", status=4).stderr
    until(lambda: cli.run("logs", "c").stdout != before)
    for command in (("stop", "-t", "1"), ("kill",), ("rm", "-f")):
        cli.run("start", "c", status=None)
        cli.run("pause", "c")
        cli.run(*command, "c")
        if command[0] != "rm":
            assert cli.inspect("c")["status"] == "exited"
    assert "no container" in cli.run("pause", "c", status=3).stderr


def test_rename(cli: Cli) -> None:
    container_id = cli.run("run", "-d", "--name", "old", IMAGE, *SLEEP).stdout.strip()
    cli.run("create", "--name", "other", IMAGE, "true")
    assert "is taken" in cli.run("rename", "old", "other", status=4).stderr
    assert "not a container name" in cli.run("rename", "old", "a/b", status=5).stderr
    cli.run("rename", container_id[:8], "new")
    assert cli.inspect("new")["id"] == container_id
    assert "no container" in cli.run("inspect", "--type", "container", "old", status=3).stderr
    cli.run("create", "--name", "old", IMAGE, "true")
    cli.run("rm", "-f", "new")
    assert sorted(os.listdir(cli.root / "names")) == ["old", "other"]


def test_update_of_one_that_runs_and_of_one_that_does_not(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "c", "-m", "64m", IMAGE, *SLEEP)
    cli.run("update", "-m", "48m", "--cpus", "0.5", "--pids-limit", "20", "--cpu-shares", "512", "c")
    pid = cli.inspect("c")["pid"]
    groups = dict(line.split(":")[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    paths = {word: path for words, path in groups.items() for word in words.split(",")}

    def value(controller: str, name: str) -> str:
        return Path(f"/sys/fs/cgroup/{controller}{paths[controller]}/{name}").read_text().strip()

    assert value("memory", "memory.limit_in_bytes") == str(48 << 20)
    assert value("pids", "pids.max") == "20"
    assert value("cpu", "cpu.cfs_quota_us") == "50000"
    assert value("cpu", "cpu.shares") == "512"
    cli.run("update", "-m", "256m", "c")
    cli.run("update", "--cpuset-cpus", "0", "c")
    cli.run("update", "-m", "48m", "--cpuset-cpus", "0", "c")
    groups = dict(line.split(":")[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    paths = {word: path for words, path in groups.items() for word in words.split(",")}
    assert value("cpuset", "cpuset.cpus") == "0"
    assert "too small" in cli.run("update", "-m", "1m", "c", status=5).stderr
    many = (os.cpu_count() or 1) + 1
    refused = cli.run("update", "--cpus", str(many), "c", status=5).stderr
    assert f"{many} CPUs are more than this machine has; give 0.01 to {many - 1}" in refused
    cli.run("update", "--cpus", str(many - 1), "c")
    assert "nothing to change" in cli.run("update", "c", status=2).stderr
    cli.run("stop", "-t", "0", "c")
    cli.run("update", "--pids-limit", "30", "--restart", "on-failure:3", "c")
    host = cli.inspect("c")["HostConfig"]
    assert (host["Memory"], host["PidsLimit"], host["CpuShares"]) == (48 << 20, 30, 512)
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    cli.run("start", "c")
    groups = dict(
        line.split(":")[1:] for line in Path(f"/proc/{cli.inspect('c')['pid']}/cgroup").read_text().splitlines()
    )
    paths = {word: path for words, path in groups.items() for word in words.split(",")}
    assert value("pids", "pids.max") == "30"
    assert value("cpu", "cpu.shares") == "512"


def test_top_stats_and_port(cli: Cli) -> None:
    cli.run(
        "run",
        "-d",
        "--name",
        "c",
        "-p",
        "127.0.0.1::80",
        "-p",
        "53/udp",
        IMAGE,
        "sh",
        "-c",
        "sleep 999 & exec sleep 1000",
    )
    until(lambda: len(loads(cli.run("top", "--json", "c").stdout)) == 2)
    lines = cli.run("top", "c").stdout.splitlines()
    assert lines[0].split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert sorted(line.split(None, 7)[7] for line in lines[1:]) == ["sleep 1000", "sleep 999"]
    if shutil.which("ps"):
        by_ps = cli.run("top", "c", "-o", "pid,args").stdout.splitlines()
        assert by_ps[0].split() == ["PID", "COMMAND"]
        assert len(by_ps) == 3
        assert "no column PID" in cli.run("top", "c", "-o", "args", status=2).stderr
    row = loads(cli.run("stats", "--no-stream", "--json", "c").stdout)
    assert row["pids"] == 2
    assert 0 < row["memory_bytes"] < row["memory_limit_bytes"]
    assert cli.run("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}").stdout == "c 2\n"
    ports = {line.split(" -> ")[0]: line.split(" -> ")[1] for line in cli.run("port", "c").stdout.splitlines()}
    assert set(ports) == {"80/tcp", "53/udp"}
    assert ports["80/tcp"].startswith("127.0.0.1:")
    assert cli.run("port", "c", "80").stdout.strip() == ports["80/tcp"]
    assert "no public port" in cli.run("port", "c", "81/tcp", status=3).stderr
    cli.run("stop", "-t", "0", "c")
    assert "is not running" in cli.run("top", "c", status=4).stderr
    assert cli.run("stats", "-a", "--no-stream", "--format", "{{.CPUPerc}}").stdout == "--\n"
    assert cli.run("port", "c").stdout == ""


def test_inspect_in_dockers_shape(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "c", "-e", "A=b", "-v", "vol:/data", "-l", "app=web", IMAGE, *SLEEP)
    form = '{{.State.Running}} {{.State.Status}} {{.Name}} {{index .Config.Labels "app"}} {{.RestartCount}}'
    assert cli.run("inspect", "-f", form, "c").stdout == "true running /c web 0\n"
    assert cli.run("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "c").stdout.strip() == cli.inspect("c")["ip"]
    mount = loads(cli.run("inspect", "-f", "{{json .Mounts}}", "c").stdout)[0]
    assert (mount["Name"], mount["Destination"], mount["RW"]) == ("vol", "/data", True)
    assert "A=b" in loads(cli.run("inspect", "-f", "{{json .Config.Env}}", "c").stdout)
    assert "no field 'Nope'" in cli.run("inspect", "-f", "{{.Nope}}", "c", status=2).stderr
    assert loads(cli.run("inspect", IMAGE).stdout)[0]["RepoTags"] == [IMAGE]
    assert loads(cli.run("inspect", "vol").stdout)[0]["Driver"] == "local"
    assert cli.run("inspect", "--type", "volume", "c", status=3).stdout.strip() == "[]"
    done = cli.run("inspect", "c", "nope", status=3)
    assert [item["Name"] for item in loads(done.stdout)] == ["/c"]


def test_ps_by_format_and_number(cli: Cli) -> None:
    for name in ("one", "two", "three"):
        cli.run("create", "--name", name, IMAGE, "true")
    assert cli.run("ps", "-l", "--format", "{{.Names}}").stdout == "three\n"
    assert cli.run("ps", "-n", "2", "--format", "{{.Names}} {{.State}}").stdout == "three created\ntwo created\n"
    table = cli.run("ps", "-a", "--format", r"table {{.ID}}\t{{.Names}}").stdout.splitlines()
    assert table[0].split() == ["CONTAINER", "ID", "NAMES"]
    assert "virtual" in cli.run("ps", "-as").stdout


def test_wait_by_condition(cli: Cli) -> None:
    cli.run("create", "--rm", "--name", "c", IMAGE, "sh", "-c", "exit 5")
    waiting = [cli.start("wait", "--condition", word, "c") for word in ("next-exit", "removed")]
    time.sleep(1)
    assert all(process.poll() is None for process in waiting)
    cli.run("start", "c")
    removed = waiting[1].communicate(timeout=30)
    waiting[0].communicate(timeout=30)
    assert waiting[1].returncode == 0, removed


def test_logs_until_and_details(cli: Cli) -> None:
    cli.run("run", "--name", "c", "-l", "app=web", IMAGE, "sh", "-c", "echo a; sleep 1; echo b")
    stamp = cli.run("logs", "-t", "c").stdout.splitlines()[0].split()[0]
    assert cli.run("logs", "--until", stamp, "c").stdout == "a\n"
    assert cli.run("logs", "--until", "1h", "c").stdout == ""
    assert cli.run("logs", "--details", "-n", "1", "c").stdout == "app=web b\n"


def test_events_of_commands(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "c", IMAGE, *SLEEP)
    follower = cli.start("events", "--filter", "container=c", "--format", "{{.Action}}", "--since", "1h")
    cli.run("pause", "c")
    cli.run("unpause", "c")
    cli.run("rename", "c", "d")
    assert follower.stdout is not None
    seen: list[str] = []
    while "unpause" not in seen:
        seen.append(follower.stdout.readline().decode().strip())
    follower.kill()
    follower.communicate()
    assert [word for word in seen if word in ("pause", "unpause")] == ["pause", "unpause"]
    listed = cli.run("events", "--since", "1h", "--until", "0s", "--json").stdout.splitlines()
    assert {"Type", "Action", "Actor", "time", "timeNano"} <= set(loads(listed[0]))
    assert "is not supported" in cli.run("events", "--filter", "nope=1", status=2).stderr


def test_volumes(cli: Cli, tmp_path: Path) -> None:
    assert cli.run("volume", "create", "-l", "a=b", "data").stdout == "data\n"
    assert cli.run("volume", "create", "data").stdout == "data\n"
    anonymous = cli.run("volume", "create").stdout.strip()
    assert len(anonymous) == 64
    cli.run(
        "run", "--name", "c", "-v", "data:/data", IMAGE, "sh", "-c", "cat /data/seed; echo x > /data/x", status=None
    )
    assert "is used by container c" in cli.run("volume", "rm", "data", "nope", status=3).stderr
    assert cli.run("volume", "ls", "-q", "--filter", "dangling=true").stdout.split() == [anonymous]
    assert cli.run("volume", "inspect", "-f", "{{.Labels.a}}", "data").stdout == "b\n"
    assert anonymous in cli.run("volume", "prune", "-f").stdout
    cli.run("rm", "c")
    assert cli.run("volume", "ls", "-q").stdout == "data\n"
    assert cli.run("volume", "rm", "-f", "data", "nope").status == 0
    (tmp_path / "bound").mkdir()
    (tmp_path / "bound/file").write_text("bound\n")
    cli.run("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}/bound", "b")
    assert cli.run("run", "--rm", "-v", "b:/b", IMAGE, "cat", "/b/file").stdout == "bound\n"
    cli.run("volume", "rm", "b")
    assert (tmp_path / "bound/file").read_text() == "bound\n"
    cli.run("volume", "create", "-o", "type=tmpfs", "-o", "o=size=1m,mode=1777", "t")
    assert "tmpfs" in cli.run("run", "--rm", "-v", "t:/t", IMAGE, "grep", " /t ", "/proc/mounts").stdout
    assert "no option 'nope'" in cli.run("volume", "create", "-o", "nope=1", "x", status=5).stderr
    assert "with other options" in cli.run("volume", "create", "t", status=4).stderr
    assert "not a volume name" in cli.run("volume", "create", "../x", status=5).stderr


def test_secrets(cli: Cli, tmp_path: Path) -> None:
    assert cli.run("secret", "create", "db", "-", stdin=b"hunter2").stdout == "db\n"
    (tmp_path / "key").write_text("the key\n")
    cli.run("secret", "create", "-l", "a=b", "tls.key", str(tmp_path / "key"))
    data = cli.root / "secrets/db/data"
    assert data.read_bytes() == b"hunter2"
    assert stat.S_IMODE(data.stat().st_mode) == 0o400
    assert stat.S_IMODE((cli.root / "secrets").stat().st_mode) == 0o700
    assert cli.run("secret", "ls", "-q").stdout == "db\ntls.key\n"
    for command in (("secret", "inspect", "db"), ("secret", "ls"), ("secret", "ls", "--json")):
        assert "hunter2" not in cli.run(*command).stdout
    assert "is there already" in cli.run("secret", "create", "db", "-", stdin=b"x", status=4).stderr
    cli.run("secret", "create", "--replace", "db", "-", stdin=b"new")
    assert data.read_bytes() == b"new"
    assert "1 to" in cli.run("secret", "create", "big", "-", stdin=b"x" * 600_000, status=5).stderr
    assert "not a secret's name" in cli.run("secret", "create", "../x", "-", stdin=b"x", status=5).stderr
    assert cli.run("secret", "rm", "db", "tls.key").stdout == "db\ntls.key\n"
    assert list((cli.root / "secrets").iterdir()) == []


def test_prune_and_df_say_what_is_so(cli: Cli) -> None:
    cli.run(
        "run", "--name", "done", "-l", "keep=1", IMAGE, "sh", "-c", "dd if=/dev/zero of=/x bs=1M count=2 2>/dev/null"
    )
    cli.run("run", "-d", "--name", "on", IMAGE, *SLEEP)
    usage = loads(cli.run("system", "df", "--json").stdout)
    assert {item["name"]: item["size_bytes"] for item in usage["Containers"]} == {"done": 2 << 20, "on": 0}
    assert usage["Images"][0]["containers"] == 2
    lines = cli.run("system", "df").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["TYPE", "Images", "Containers", "Local", "Build"]
    assert max(map(len, lines)) <= 80
    assert "done" in cli.run("system", "df", "-v").stdout
    assert "no terminal" in cli.run("container", "prune", status=2).stderr
    assert cli.run("container", "prune", "-f", "--filter", "label!=keep").stdout.startswith(
        "Total reclaimed space: 0 B"
    )
    done = loads(cli.run("container", "prune", "-f", "--json").stdout)
    assert len(done["containers"]) == 1
    assert done["freed_bytes"] >= 2 << 20
    assert cli.run("ps", "-aq").stdout.count("\n") == 1
    info = loads(cli.run("system", "info", "--json").stdout)
    assert (info["Containers"], info["ContainersRunning"], info["Images"]) == (1, 1, 1)


def test_a_unit_that_systemd_takes(cli: Cli, tmp_path: Path) -> None:
    cli.run("create", "--name", "web", "-e", 'A=50% $HOME "x"', "-p", "80", "--stop-timeout", "3", IMAGE, "sleep", "1")
    for flags in ((), ("--new", "--restart-policy", "always", "--restart-sec", "5")):
        done = cli.run("generate", "systemd", "--files", *flags, "web", cwd=tmp_path)
        path = Path(done.stdout.strip())
        assert path == tmp_path / "container-web.service"
        text = path.read_text()
        assert "Type=exec" in text
        assert "TimeoutStopSec=63" in text
        if shutil.which("systemd-analyze"):
            fixed = text.replace("/usr/bin/wherry", "/bin/true")
            path.write_text(fixed)
            checked = subprocess.run(
                ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
            )
            assert "container-web.service" not in checked.stderr, checked.stderr
    assert 'run --rm --name web -e "A=50%% $$HOME \\"x\\""' in text
    assert "Restart=always" in text
