"""Nothing leaks: many starts and stops, commands killed at random moments, a machine that goes down in the middle."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.integration.engine.support import IMAGE, Cli

_ROOT = Path(__file__).parents[3]
_FEW, _MANY = 12, 1000


def test_starts_and_stops_leave_nothing(cli: Cli) -> None:
    start_and_stop(cli, _FEW)


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_a_thousand_starts_and_stops_leave_nothing(cli: Cli) -> None:
    start_and_stop(cli, _MANY)


def start_and_stop(cli: Cli, count: int) -> None:
    """Starts containers of every kind, in the foreground and not, with networks, ports and volumes, and ends them."""
    for number in range(count):
        name = f"c{number}"
        match number % 4:
            case 0:
                cli.run("run", "--rm", "--network", "none", IMAGE, "true")
            case 1:
                cli.run("run", "-d", "--name", name, "-p", "80", "-v", f"{name}:/data", IMAGE, "sleep", "1000")
                cli.run("rm", "-f", name)
                assert cli.run("ps", "-aq").stdout == ""
            case 2:
                cli.run("run", "--rm", IMAGE, "sh", "-c", "exit 3", status=3)
            case 3:
                cli.run("run", "-d", "--rm", "--name", name, "--network", "none", IMAGE, "sleep", "1000")
                cli.run("stop", "-t", "0", name)


def test_commands_killed_at_random_moments_leave_nothing(cli: Cli) -> None:
    kill_at_random(cli, _FEW, random.Random(1))


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_many_commands_killed_at_random_moments_leave_nothing(cli: Cli) -> None:
    kill_at_random(cli, _MANY // 4, random.Random(2))


def kill_at_random(cli: Cli, count: int, chance: random.Random) -> None:
    """Kills the command itself, with SIGKILL, in mid-work; what stays is cleaned up by the commands that follow."""
    for number in range(count):
        kind = number % 3
        options = (["--rm"], ["-d", "--name", f"k{number}"], ["--rm", "--network", "none"])[kind]
        started = cli.start("run", *options, IMAGE, "sleep", "1000", stdout=subprocess.DEVNULL)
        time.sleep(chance.uniform(0, 0.6))
        started.kill()
        started.communicate()
    # whatever has come to be can be listed, and removed
    cli.run("ps", "-a")
    cli.remove_all()
    assert cli.run("ps", "-aq").stdout == ""


@pytest.mark.parametrize("options", [["--rm"], ["-d", "--name", "k"]])
def test_control_groups_are_known_before_they_are_made(cli: Cli, options: list[str]) -> None:
    """Whoever makes them is killed before anything else tells of them."""
    cli.env["WHERRY_TRACE"] = f"runtime.grouped=kill:{cli.root}/once"
    (cli.root / "once").touch()
    started = cli.start("run", *options, "--network", "none", IMAGE, "sleep", "1000")
    started.communicate()
    assert not (cli.root / "once").exists()
    del cli.env["WHERRY_TRACE"]
    cli.run("ps", "-a")  # sees to what a killed command has left
    cli.remove_all()


BEFORE = f"""

wherry run -d --name kept --network none --restart always {IMAGE} sh -c 'echo said; exec sleep 1000'
wherry run -d --name removed --rm --network none {IMAGE} sleep 1000
wherry run --name foreground --network none {IMAGE} sleep 1000 &
until wherry ps | grep -q foreground; do sleep 0.1; done
until wherry logs kept | grep -q said; do sleep 0.1; done
sync
echo "all are up"
sleep 1000
"""
AFTER = f"""
wherry ps -a --json
echo "logs: $(wherry logs kept)"
wherry container start kept && wherry exec kept true && echo "kept runs again"
wherry rm -f kept foreground && echo "both are removed"
wherry run --rm --network none {IMAGE} echo "a new one runs"
echo "mounts: $(grep -c /mnt/w /proc/self/mountinfo)"
echo "groups: $(ls -d /sys/fs/cgroup/wherry/* 2>/dev/null | wc -l)"
echo "containers: $(ls /mnt/w/containers | wc -l)"
"""


@pytest.mark.timeout(240)
def test_a_machine_that_goes_down_in_the_middle(tmp_path: Path, store: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(256 << 20)
    folder = tmp_path / "root"
    (folder / "w").mkdir(parents=True)
    subprocess.run(["cp", "-a", str(store), str(folder / "w/store")], check=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(folder), str(disk)], check=True)
    machine = boot(tmp_path, disk, BEFORE)
    try:
        out = read_until(machine, "all are up")
    finally:
        os.killpg(machine.pid, signal.SIGKILL)
        machine.communicate()
    assert "all are up" in out, out[-3000:]
    machine = boot(tmp_path, disk, AFTER)
    try:
        out = machine.communicate(timeout=100)[0].decode(errors="replace").replace("\r", "")
    except subprocess.TimeoutExpired:
        os.killpg(machine.pid, signal.SIGKILL)
        out = machine.communicate()[0].decode(errors="replace")
    assert "kept runs again" in out, out[-3000:]
    assert "logs: said" in out
    assert "both are removed" in out, out[-3000:]
    assert "a new one runs" in out, out[-3000:]
    for kind in ("mounts", "groups", "containers"):
        assert f"{kind}: 0\n" in out, out[-3000:]


def boot(tmp_path: Path, disk: Path, script: str) -> subprocess.Popen[bytes]:
    """Starts a machine that runs a script: Linux 6.1 in user mode, control groups of version 2, the disk at /mnt."""
    (tmp_path / "script").write_text(script)
    (tmp_path / "bin").mkdir(exist_ok=True)
    wherry = tmp_path / "bin/wherry"
    wherry.write_text(f'#!/bin/sh\nexec {sys.executable} -m wherry --root /mnt/w --run-root /run/w "$@"\n')
    wherry.chmod(0o755)
    init = tmp_path / "init"
    init.write_text(
        f"""#!/bin/sh
export PATH={tmp_path}/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={_ROOT}/src
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for module in drivers/block/loop fs/erofs/erofs fs/overlayfs/overlay; do
	insmod "/usr/lib/uml/modules/$(uname -r)/kernel/$module.ko"
done
mount -t ext4 /dev/ubda /mnt
cd /
. {tmp_path}/script 2>&1
umount /mnt
echo o >/proc/sysrq-trigger
sleep 10
"""
    )
    init.chmod(0o755)
    return subprocess.Popen(
        [
            *("linux.uml", "mem=512M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", "quiet"),
            *("con0=null,fd:1", "con=null", f"uml_dir={tmp_path}", f"init={init}", f"ubd0={disk}"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": "/dev/shm", "HOME": str(tmp_path)},
        start_new_session=True,
    )


def read_until(machine: subprocess.Popen[bytes], word: str) -> str:
    """Reads what a machine prints until a word has come, or its end."""
    assert machine.stdout is not None
    out = ""
    while word not in out:
        data = os.read(machine.stdout.fileno(), 4096)
        if not data:
            break
        out += data.decode(errors="replace").replace("\r", "")
    return out
