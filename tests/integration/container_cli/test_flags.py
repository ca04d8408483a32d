"""Docker's flags of ``run``, each seen from inside a container."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.integration.engine.support import IMAGE, Cli, make_tree, until

QUICK = ("run", "--rm", "--network", "none")


def inside(cli: Cli, *flags: str, script: str, **options: Any) -> str:
    return cli.run(*QUICK, *flags, IMAGE, "sh", "-c", script, **options).stdout.strip()


def cgroup_file(controller: str, name: str) -> str:
    """Returns the words of a shell that show a file of the container's own control group (version 1)."""
    return f"cat /sys/fs/cgroup/{controller}/{name}"


@pytest.mark.parametrize(
    ("flags", "script", "says"),
    [
        (("--group-add", "44"), "id -G", "0 44"),
        (("--group-add", "video", "-u", "1000:1000"), "id -G", "1000 44"),
        (("--umask", "077"), "umask", "0077"),
        (("--domainname", "nis.example"), "cat /proc/sys/kernel/domainname", "nis.example"),
        (("--ulimit", "nofile=100:200"), "ulimit -n; ulimit -Hn", "100\n200"),
        (("--ulimit", "core=0"), "ulimit -c", "0"),
        (("--sysctl", "net.ipv4.ip_forward=1"), "cat /proc/sys/net/ipv4/ip_forward", "1"),
        (("--sysctl", "kernel.msgmax=4096"), "cat /proc/sys/kernel/msgmax", "4096"),
        (("--shm-size", "1m"), "df -k /dev/shm | tail -1 | awk '{print $2}'", "1024"),
        (("--oom-score-adj", "500"), "cat /proc/self/oom_score_adj", "500"),
        (("--no-hosts",), "test -e /etc/hosts || echo none", "none"),
        (("--uts", "host"), "hostname", os.uname().nodename),
        (("--cpu-affinity", "0"), "grep Cpus_allowed_list /proc/self/status | cut -f2", "0"),
        (("--security-opt", "mask=/etc/motd"), "wc -c < /etc/motd", "0"),
        (("--security-opt", "no-new-privileges=false"), "grep NoNewPrivs /proc/self/status | cut -f2", "0"),
        (("--security-opt", "seccomp=unconfined"), "grep ^Seccomp: /proc/self/status | cut -f2", "0"),
        (("--device", "/dev/null:/dev/nothing"), "echo x > /dev/nothing && stat -c %t:%T /dev/nothing", "1:3"),
        (("--tz", "UTC"), "head -c 4 /etc/localtime", "TZif"),
        (("--init",), "cat /proc/1/cmdline | tr '\\0' ' ' | cut -d' ' -f1", "/sbin/docker-init"),
        (("--debugfs",), "ls /sys/kernel/debug | wc -l | awk '{print ($1 > 0)}'", "1"),
        (("--tmpfs", "/t:exec,size=1m,uid=5"), "stat -c %u /t", "5"),
        (("--ipc", "none"), "grep -c ' /dev/shm ' /proc/self/mountinfo", "0"),
        (("--annotation", "a=b"), "echo ok", "ok"),
        (("--cap-add", "SYS_TIME"), "grep CapEff /proc/self/status | cut -c8- | tr -d '\\t'", "00000000aa0425fb"),
    ],
)
def test_seen_inside(cli: Cli, flags: tuple[str, ...], script: str, says: str) -> None:
    status = 1 if says == "0" and "grep -c" in script else 0
    assert cli.run(*QUICK, *flags, IMAGE, "sh", "-c", script, status=status).stdout.strip() == says


@pytest.mark.parametrize(
    ("flags", "controller", "name", "says"),
    [
        (("-m", "64m"), "memory", "memory.limit_in_bytes", str(64 << 20)),
        (("-m", "64m", "--memory-swap", "64m"), "memory", "memory.memsw.limit_in_bytes", str(64 << 20)),
        (("--memory-reservation", "32m"), "memory", "memory.soft_limit_in_bytes", str(32 << 20)),
        (("--memory-swappiness", "7"), "memory", "memory.swappiness", "7"),
        (("--cpu-shares", "512"), "cpu", "cpu.shares", "512"),
        (("--cpu-quota", "25000", "--cpu-period", "50000"), "cpu", "cpu.cfs_quota_us", "25000"),
        (("--cpus", "0.5"), "cpu", "cpu.cfs_quota_us", "50000"),
        (("--cpuset-cpus", "0"), "cpuset", "cpuset.cpus", "0"),
        (("--cpuset-mems", "0"), "cpuset", "cpuset.mems", "0"),
        (("--pids-limit", "20"), "pids", "pids.max", "20"),
        (("--blkio-weight", "100"), "blkio", "blkio.bfq.weight", "100"),
        (("--pids-limit", "-1"), "pids", "pids.max", "max"),
        (("--device-cgroup-rule", "c 189:* rw"), "devices", "devices.list | grep 189", "c 189:* rw"),
    ],
)
@pytest.mark.skipif(not os.path.isdir("/sys/fs/cgroup/memory"), reason="control groups of version 1 are read here")
def test_limits_are_in_the_control_group(
    cli: Cli, flags: tuple[str, ...], controller: str, name: str, says: str
) -> None:
    assert inside(cli, *flags, script=cgroup_file(controller, name)) == says


@pytest.mark.skipif(not os.path.isdir("/sys/fs/cgroup/blkio"), reason="control groups of version 1 are read here")
def test_limits_of_block_devices(cli: Cli) -> None:
    """Rates alone: a weight of one device needs BFQ as its scheduler."""
    disk = Path("/tmp").stat().st_dev
    node = f"{os.major(disk)}:{os.minor(disk)}"
    name = Path(f"/sys/dev/block/{node}").resolve().name
    flags = ("--device-read-bps", f"/dev/{name}:1mb", "--device-write-bps", f"/dev/{name}:2mb")
    more = ("--device-read-iops", f"/dev/{name}:100", "--device-write-iops", f"/dev/{name}:200")
    script = "; ".join(
        cgroup_file("blkio", f"blkio.throttle.{kind}_device")
        for kind in ("read_bps", "write_bps", "read_iops", "write_iops")
    )
    says = inside(cli, *flags, *more, script=script).splitlines()
    assert says == [f"{node} {rate}" for rate in (1 << 20, 2 << 20, 100, 200)]


def test_memory_runs_out_and_nobody_is_killed(cli: Cli) -> None:
    script = "x=aaaaaaaaaaaaaaaa; while true; do x=$x$x; done"
    cli.run(
        *(
            "run",
            "-d",
            "--network",
            "none",
            "--name",
            "full",
            "-m",
            "16m",
            "--oom-kill-disable",
            IMAGE,
            "sh",
            "-c",
            script,
        )
    )
    folder = next(Path("/sys/fs/cgroup/memory/wherry").glob(f"*{cli.inspect('full')['id']}*"))
    until(lambda: "under_oom 1" in (folder / "memory.oom_control").read_text())
    assert "oom_kill_disable 1" in (folder / "memory.oom_control").read_text()
    assert cli.inspect("full")["status"] == "running"
    cli.run("rm", "-f", "full")


@pytest.mark.parametrize(
    ("word", "out", "back"), [("rslave", True, False), ("rshared", True, True), ("rprivate", False, False)]
)
def test_propagation(cli: Cli, tmp_path: Path, word: str, out: bool, back: bool) -> None:
    """What the host mounts later is seen inside, and what the container mounts is seen by the host, or not."""
    shared = tmp_path / "shared"
    for name in ("host", "own"):
        (shared / name).mkdir(parents=True)
    subprocess.run(["mount", "--bind", str(shared), str(shared)], check=True)
    try:
        subprocess.run(["mount", "--make-shared", str(shared)], check=True)
        flags = ("--network", "none", "--privileged", "-v", f"{shared}:/s:{word}")
        cli.run("run", "-d", "--name", "mounts", *flags, IMAGE, "sleep", "600")
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(shared / "host")], check=True)
        (shared / "host/file").write_text("x")
        assert ("file" in cli.run("exec", "mounts", "ls", "/s/host").stdout) == out
        cli.run("exec", "--privileged", "mounts", "mount", "-t", "tmpfs", "tmpfs", "/s/own")
        assert os.path.ismount(shared / "own") == back
        cli.run("rm", "-f", "mounts")
    finally:
        subprocess.run(["umount", "-R", "-l", str(shared)], check=True)


def test_out_of_memory_and_parent_group(cli: Cli) -> None:
    script = "x=aaaaaaaaaaaaaaaa; while true; do x=$x$x; done"
    assert cli.run(*QUICK, "-m", "16m", IMAGE, "sh", "-c", script, status=None).status in (137, 2)
    found = inside(cli, "--cgroup-parent", "/flags-test", "--cgroupns", "host", script="cat /proc/self/cgroup")
    assert "/flags-test/" in found
    for folder in Path("/sys/fs/cgroup").glob("*/flags-test"):
        folder.rmdir()


def test_joined_namespaces(cli: Cli) -> None:
    cli.run(
        "run", "-d", "--network", "none", "--name", "first", IMAGE, "sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait"
    )
    seen = inside(cli, "--pid", "container:first", script="cat /proc/1/cmdline | tr '\\0' ' '")
    assert "trap" in seen
    pid = cli.inspect("first")["pid"]
    assert inside(cli, "--ipc", "container:first", script="readlink /proc/self/ns/ipc") == os.readlink(
        f"/proc/{pid}/ns/ipc"
    )
    assert inside(cli, "--pid", "host", script="readlink /proc/self/ns/pid") == os.readlink("/proc/self/ns/pid")
    cli.run("stop", "-t", "1", "first")
    assert "not running" in cli.run(*QUICK, "--pid", "container:first", IMAGE, "true", status=125).stderr


def test_unmasked(cli: Cli) -> None:
    script = "wc -c < /proc/sysrq-trigger >/dev/null 2>&1; grep -c ' /proc/' /proc/self/mountinfo"
    assert int(inside(cli, script=script)) > 3
    opened = cli.run(*QUICK, "--security-opt", "systempaths=unconfined", IMAGE, "sh", "-c", script, status=1)
    assert opened.stdout.strip() == "0"


def test_profile_of_system_calls(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
    file.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    result = cli.run(*QUICK, "--security-opt", f"seccomp={file}", IMAGE, "mkdir", "/x", status=1)
    assert "No space left" in result.stderr
    file.write_text("{")
    assert (
        "--security-opt seccomp"
        in cli.run(*QUICK, "--security-opt", f"seccomp={file}", IMAGE, "true", status=125).stderr
    )


def test_devices(cli: Cli) -> None:
    assert (
        inside(cli, "--usedev", script="test -c /dev/kmsg -o -c /dev/loop-control -o -b /dev/vda && echo host")
        == "host"
    )
    denied = inside(cli, "--device", "/dev/null:/dev/n:r", script="echo x > /dev/n 2>/dev/null || echo denied")
    assert denied in ("", "denied")  # /dev/null itself is allowed to everybody, by its number
    assert inside(cli, "--device", "/dev/shm/../null:/dev/m", script="ls /dev/m") == "/dev/m"


def test_volumes_from(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("bound\n")
    cli.run("container", "create", "--name", "source", "-v", "data:/vol", "-v", f"{tmp_path}:/bound", IMAGE, "true")
    script = "cat /bound/file; touch /vol/x 2>/dev/null || echo refused"
    assert inside(cli, "--volumes-from", "source:ro", script=script) == "bound\nrefused"
    assert inside(cli, "--volumes-from", "source", script=script) == "bound"
    assert "no container 'nobody'" in cli.run(*QUICK, "--volumes-from", "nobody", IMAGE, "true", status=125).stderr


def test_files_about_the_container(cli: Cli, tmp_path: Path) -> None:
    cid, pid, labels = tmp_path / "cid", tmp_path / "pid", tmp_path / "labels"
    labels.write_text("a=file\nb=file\n")
    flags = ("--cidfile", str(cid), "--pidfile", str(pid), "--label-file", str(labels), "-l", "a=own")
    cli.run("run", "-d", "--network", "none", "--name", "c", *flags, IMAGE, "sleep", "600")
    found = cli.inspect("c")
    assert cid.read_text() == found["id"]
    assert int(pid.read_text()) == found["pid"]
    assert (found["labels"]["a"], found["labels"]["b"]) == ("own", "file")
    assert "already" in cli.run(*QUICK, "--cidfile", str(cid), IMAGE, "true", status=125).stderr


def test_service_manager(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        script = "test -S $NOTIFY_SOCKET && echo there"
        env = {**cli.env, "NOTIFY_SOCKET": str(path)}
        assert inside(cli, "--sdnotify", "container", script=script, env=env) == "there"
        assert inside(cli, "--sdnotify", "ignore", script="echo ${NOTIFY_SOCKET:-none}", env=env) == "none"


def test_display(cli: Cli, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret\n")
    sockets = Path("/tmp/.X11-unix")
    made = not sockets.exists()
    sockets.mkdir(exist_ok=True)
    try:
        env = {**cli.env, "DISPLAY": ":7", "XAUTHORITY": str(key)}
        script = "echo $DISPLAY; cat $XAUTHORITY; touch /tmp/.X11-unix/x 2>/dev/null || echo refused"
        assert inside(cli, "--x11", script=script, env=env) == ":7\nsecret\nrefused"
    finally:
        if made:
            sockets.rmdir()


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rootfs") / "tree"
    make_tree(folder)
    return folder


@pytest.mark.parametrize("kind", ["", ":O", "squashfs", "erofs"])
def test_a_root_that_is_not_written_to(cli: Cli, tree: Path, tmp_path: Path, kind: str) -> None:
    root = str(tree) + kind
    if kind in ("squashfs", "erofs"):
        root = str(tmp_path / "image")
        made = {"squashfs": ["mksquashfs", str(tree), root, "-quiet"], "erofs": ["mkfs.erofs", root, str(tree)]}[kind]
        subprocess.run(made, check=True, capture_output=True)
    script = "echo new > /etc/motd; cat /etc/motd"
    assert cli.run(*QUICK, "--rootfs", root, "sh", "-c", script).stdout == "new\n"
    again = cli.run(*QUICK, "--rootfs", root, "cat", "/etc/motd")
    assert again.stdout == (tree / "etc/motd").read_text() == "from the image\n"


def test_a_root_that_is_written_to(cli: Cli, tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    cli.run(*QUICK, "--rootfs", f"{tmp_path}/tree:direct", "sh", "-c", "echo new > /etc/motd; id -u > /uid")
    assert (tmp_path / "tree/etc/motd").read_text() == "new\n"
    assert (tmp_path / "tree/uid").read_text() == "0\n"


def test_no_root(cli: Cli, tmp_path: Path) -> None:
    assert "squashfs or EROFS" in cli.run(*QUICK, "--rootfs", f"{tmp_path}/none", "true", status=125).stderr
    (tmp_path / "text").write_text("no image\n")
    assert "not an image" in cli.run(*QUICK, "--rootfs", f"{tmp_path}/text", "true", status=125).stderr


def test_secrets(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("hidden\n")
    cli.run("secret", "create", "token", str(tmp_path / "s"))
    script = "cat /run/secrets/token /run/secrets/other; stat -c %a /run/secrets/token"
    flags = ("--secret", "token", "--secret", "source=token,target=other")
    assert inside(cli, *flags, script=script) == "hidden\nhidden\n400"
    assert "no secret" in cli.run(*QUICK, "--secret", "nothing", IMAGE, "true", status=125).stderr
    assert "uid is for type=mount" in cli.run(*QUICK, "--secret", "token,type=env,uid=1", IMAGE, status=125).stderr


def test_secrets_of_other_owners(cli: Cli) -> None:
    cli.run("secret", "create", "token", "-", stdin=b"first")
    wanted = ("--secret", "token,uid=1000,gid=44,mode=0440", "--secret", "token,target=/all,mode=444")
    script = "cat /run/secrets/token /all; stat -c %u:%g:%a /run/secrets/token /all"
    for users in ((), ("--userns", "auto")):
        found = inside(cli, *users, "-u", "app", *wanted, script=script)
        assert found == "firstfirst1000:44:440\n0:0:444"
    cli.run("create", "--name", "c", *wanted, IMAGE, "cat", "/all")
    cli.run("secret", "create", "--replace", "token", "-", stdin=b"second")
    assert cli.run("start", "-a", "c").stdout == "second"
    cli.run("secret", "rm", "token")
    assert list((cli.root / "secrets").iterdir()) == []
    assert "not there" in cli.run("start", "c", status=125).stderr


def test_secrets_as_variables(cli: Cli) -> None:
    cli.run("secret", "create", "token", "-", stdin=b"hidden \xff\n")
    flags = ("--secret", "token,type=env", "--secret", "token,type=env,target=OTHER", "-e", "OTHER=seen")
    health = ("--health-cmd", 'test "$token" = "$OTHER"', "--health-interval", "1s")
    cli.run("run", "-d", "--name", "c", *flags, *health, "--tmpfs", "/t", IMAGE, "sh", "-c", "env > /t/out; sleep 99")
    for script in ("until [ -s /t/out ]; do sleep 0.1; done; cat /t/out", "env"):
        shown = cli.run("exec", "c", "sh", "-c", script).stdout
        assert "token=hidden \ufffd\n" in shown
        assert "OTHER=hidden \ufffd\n" in shown
    until(lambda: cli.inspect("c")["health"] == "healthy")
    assert "hidden" not in cli.run("inspect", "c").stdout
    folders = [str(cli.root / "containers"), str(cli.run_root)]
    assert subprocess.run(["grep", "-rl", "hidden", *folders], capture_output=True, check=False).stdout == b""
    unit = cli.run("generate", "systemd", "--new", "c").stdout
    assert "--secret token,type=env,target=OTHER" in unit
    cli.run("secret", "create", "--replace", "token", "-", stdin=b"a\0b")
    assert "null byte" in cli.run("exec", "c", "env", status=125).stderr


def test_one_stream(cli: Cli) -> None:
    result = cli.run(*QUICK, "-a", "stderr", IMAGE, "sh", "-c", "echo out; echo err >&2")
    assert (result.stdout, result.stderr) == ("", "err\n")


def test_pipes_and_no_terminal(cli: Cli) -> None:
    result = cli.run("run", "--rm", "--network", "none", "-i", IMAGE, "cat", stdin=b"through\n", start_new_session=True)
    assert result.stdout == "through\n"
    result = cli.run("run", "--rm", "--network", "none", "-t", IMAGE, "tty", start_new_session=True)
    assert result.stdout.startswith("/dev/")


def test_keep_and_enter_again(cli: Cli) -> None:
    cli.run("run", "--name", "kept", "--network", "none", IMAGE, "sh", "-c", "echo 1 >> /count; cat /count")
    assert cli.run("container", "start", "-a", "kept").stdout == "1\n1\n"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--gpus", "all"), "--device"),
        (("--kernel-memory", "1m"), "since 5.16"),
        (("--link", "a"), "network"),
        (("--ftrace", "x"), "trace-cmd"),
        (("--cpus", "999"), "more than this machine has"),
        (("--pull", "sometimes"), "no policy"),
        (("--log-driver", "journald"), "json-file or none"),
        (("--memory-swap", "1m"), "needs --memory"),
        (("--restart", "always"), "--rm or --restart"),
        (("--device", "/dev/nonsense"), "no such device"),
        (("--sysctl", "kernel.panic=1"), "whole host"),
        (("--memroy", "1m"), "--memory"),
        (("--userns", "keep-me"), "host"),
    ],
)
def test_refused_before_anything_is_made(cli: Cli, flags: tuple[str, ...], says: str) -> None:
    result = cli.run(*QUICK, *flags, IMAGE, "true", status=125)
    assert says in result.stderr
    assert cli.run("ps", "-aq").stdout == ""
    until(lambda: not list((cli.root / "names").iterdir()) if (cli.root / "names").is_dir() else True)
