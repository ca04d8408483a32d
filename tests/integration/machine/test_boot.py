"""``wherry boot``: user-mode Linux in the fast tests; QEMU once, with a console, a power cut and a saved machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.integration.machine.conftest import Command, make_initramfs, needs_uml, processes_of

from wherry.machine.kernels import Kernel

WRITES = """
i=0
while :; do
    i=$((i+1))
    printf "%64s" $i | dd of=/dev/vda bs=64 seek=$i conv=notrunc,fsync 2>/dev/null
    echo wrote $i
done
"""


@needs_uml
def test_user_mode_linux_boots_and_halts(wherry: Command, tmp_path: Path) -> None:
    image = make_initramfs(tmp_path / "initrd", "grep -c ^proc /proc/mounts")
    log = tmp_path / "log"
    began = time.monotonic()
    done = wherry("boot", "--uml", "--initramfs", image, "--append", "quiet", "--console-log", log)
    assert done.returncode == 0, done.stderr
    assert "the guest is up" in done.stdout.replace("\r", "")
    assert "the guest is up" in log.read_text()
    assert time.monotonic() - began < 60


@needs_uml
def test_until_and_timeout(wherry: Command, tmp_path: Path) -> None:
    image = make_initramfs(tmp_path / "initrd", "sleep 100")
    flags = ("boot", "--uml", "--initramfs", image, "--append", "quiet")
    done = wherry(*flags, "--until", "guest is up", "--json")
    assert (done.returncode, json.loads(done.stdout)["outcome"]) == (0, "found")
    done = wherry(*flags, "--until", "no such text", "--timeout", "3")
    assert done.returncode == 12
    assert "the guest is up" in done.stderr
    short = make_initramfs(tmp_path / "short", "true")
    done = wherry("boot", "--uml", "--initramfs", short, "--append", "quiet", "--until", "no such text")
    assert done.returncode == 13


@needs_uml
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_the_command_ends_the_machine(tmp_path: Path, number: signal.Signals) -> None:
    image = make_initramfs(tmp_path / "initrd", "sleep 1000")
    words = [sys.executable, "-m", "wherry", "boot", "--uml", "--initramfs", str(image)]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert process.stdout is not None
    while b"the guest is up" not in process.stdout.readline():
        pass
    machines = [pid for pid in processes_of(f"initrd={image}") if pid != process.pid]
    assert machines
    process.send_signal(number)
    assert process.wait(20) == (128 + number if number == signal.SIGTERM else -number)
    end = time.monotonic() + 10
    while processes_of(f"initrd={image}"):
        assert time.monotonic() < end, "the machine was left behind"
        time.sleep(0.1)
    process.stdout.close()


def test_words_that_contradict_each_other(wherry: Command, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4096))
    for flags, status in (
        ([], 2),
        (["nothing.img"], 3),
        ([str(tmp_path)], 3),
        ([str(disk), "--power-cut", "soon"], 2),
        ([str(disk), "--power-cut", "1", "--snapshot"], 2),
        ([str(disk), "--save", "x"], 2),
        ([str(disk), "--append", "quiet"], 2),
        ([str(disk), "--initramfs", "x"], 2),
        ([str(disk), "-p", "http:80", "--dry-run"], 2),
        ([str(disk), "--arch", "pdp11", "--dry-run"], 5),
        (["--load", str(tmp_path)], 3),
        (["--kernel", "nothing"], 3),
        ([str(disk), "-M", "raspi3b", "--arch", "arm64", "--share", ".", "--dry-run"], 11),
    ):
        done = wherry("boot", *flags)
        assert done.returncode == status, (flags, done.stderr)


def test_dry_run_is_a_command_line_of_qemu(wherry: Command, tmp_path: Path) -> None:
    """QEMU takes it: with its machine halted and its monitor told to quit."""
    disk = tmp_path / "a disk, with a comma"
    disk.write_bytes(bytes(1 << 20))
    done = wherry("boot", disk, "--json", "--dry-run", "-p", ":22", "--share", f"{tmp_path}:data:ro", "--cpus=2")
    assert done.returncode == 0, done.stderr
    words = json.loads(done.stdout)["command"]
    words[words.index("mon:stdio")] = "null"
    taken = subprocess.run(
        [*words, "-S", "-monitor", "stdio"], input=b"quit\n", capture_output=True, timeout=60, check=False
    )
    assert taken.returncode == 0, taken.stderr


@needs_uml
def test_a_workspace_for_user_mode_linux_is_booted_as_a_program(wherry: Command, tmp_path: Path) -> None:
    boot = tmp_path / "tiny/output/boot"
    boot.mkdir(parents=True)
    shutil.copyfile(shutil.which("linux.uml") or "", boot / "kernel")
    (boot / "kernel").chmod(0o755)
    make_initramfs(boot / "initramfs", "")
    record = {
        "format": 1,
        "name": "tiny",
        "architecture": "amd64",
        "board": {"machine": {"machine": "uml", "memory": "128MiB"}},
        "boot": {"kernel": "output/boot/kernel", "initramfs": "output/boot/initramfs"},
    }
    (tmp_path / "tiny/output/host.json").write_text(json.dumps(record))
    done = wherry("boot", "tiny", "--append", "quiet", "--until", "the guest is up", "--timeout", "60")
    assert done.returncode == 0, done.stderr
    done = wherry("boot", "tiny", "--power-cut", "1")
    assert done.returncode == 2
    assert "are for QEMU" in done.stderr


@pytest.fixture
def direct(tmp_path: Path, kernel: Kernel) -> list[str]:
    """Words that boot the fetched kernel with writes to a drive going on."""
    modules = tuple(path for path in (*kernel.modules, *kernel.more) if "virtio" in path.name or "fail" in path.name)
    image = make_initramfs(tmp_path / "initrd", WRITES, modules)
    (tmp_path / "disk").write_bytes(b"-" * (1 << 20))
    drive = ["--drive", str(tmp_path / "disk")]
    return ["boot", "--kernel", str(kernel.kernel), "--initramfs", str(image), "--append", "quiet panic=-1", *drive]


@pytest.mark.deep
def test_a_power_cut_keeps_what_was_flushed(wherry: Command, direct: list[str], tmp_path: Path) -> None:
    done = wherry(*direct, "--until", "wrote 20", "--power-cut", "0.5:drop:1", "--json")
    assert done.returncode == 0, done.stderr
    cut = json.loads(done.stdout)["cut"]
    assert (cut["mode"], cut["seed"], cut["kept"]) == ("drop", 1, 0)
    disk = (tmp_path / "disk").read_bytes()
    assert len(disk) == 1 << 20
    for number in range(1, 21):
        assert disk[64 * number : 64 * number + 64].strip() == b"%d" % number


@pytest.mark.deep
def test_a_saved_machine_goes_on(wherry: Command, direct: list[str], tmp_path: Path) -> None:
    done = wherry(*direct, "--until", "wrote 3", "--save", tmp_path / "saved")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "disk").read_bytes() == b"-" * (1 << 20)
    for _ in range(2):  # it is kept as it was
        began = time.monotonic()
        done = wherry("boot", "--load", tmp_path / "saved", "--until", "wrote 6", "--json")
        assert done.returncode == 0, done.stderr
        assert time.monotonic() - began < 30
