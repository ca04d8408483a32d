"""Power cuts in a machine of its own: what it wrote and flushed is taken from outside, and it is killed as it writes.

QEMU's ``blklogwrites`` logs each write and each flush that reaches the virtual disk, which the guest takes for one
with a volatile cache. The disk is made anew from the log: with all that was flushed, and any part of what was not.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from tests.fixtures.guest import command
from tests.integration.store.power.judge import MAKE, Run, cut_everywhere, looped, mounted
from tests.integration.store.power.write_log import read_log

from wherry.store.care.fsck import fsck
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository

_GUEST = Path(__file__).with_name("power_guest.py")
_FILE_SYSTEM_BYTES = 48 << 20
_SECTOR_BYTES = 512
_REPORTS = 30
_PLACES = 150
_KILLED_AFTER_S = 240


def make_disk(folder: Path) -> Path:
    """Returns a disk with a repository on ext4, and one sector behind it."""
    disk = folder / "disk"
    with disk.open("wb") as file:
        file.truncate(_FILE_SYSTEM_BYTES)
    subprocess.run([*MAKE["ext4"], str(disk)], check=True, capture_output=True)
    with looped(disk) as device, mounted(device, folder / "place", "ext4") as place:
        repo = Repository.init(place / "repo", Mode.BARE_USER)
        repo.config.set("core", "min-free-space-size", "0MB")
        repo.save_config()
    with disk.open("r+b") as file:
        file.truncate(_FILE_SYSTEM_BYTES + _SECTOR_BYTES)
    return disk


def run_and_kill(folder: Path, disk: Path, log: Path) -> list[str]:
    """Runs the guest and kills it as it goes on working.

    Returns:
        What it said was done.
    """
    log.touch()
    drive = f"driver=blklogwrites,node-name=d,file.driver=file,file.filename={disk}"
    drive += f",log.driver=file,log.filename={log},log-sector-size={_SECTOR_BYTES},discard=ignore"
    machine = subprocess.Popen(
        command(_GUEST, folder, ["-blockdev", drive]), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    said: list[str] = []
    console = []
    end = time.monotonic() + _KILLED_AFTER_S
    try:
        assert machine.stdout is not None
        for line in machine.stdout:
            console.append(line.decode(errors="replace"))
            said += [line.decode().split(None, 1)[1].strip()] if line.startswith(b"done ") else []
            if len(said) >= _REPORTS:
                time.sleep(random.Random().uniform(0, 1))  # anywhere in what comes next
                break
            assert time.monotonic() < end, "".join(console)
        else:
            raise AssertionError("".join(console))
    finally:
        machine.kill()
        machine.wait()
    return said


@pytest.mark.deep
def test_power_cuts_of_a_guest(tmp_path: Path) -> None:
    disk, base, log = make_disk(tmp_path), tmp_path / "base", tmp_path / "log"
    shutil.copyfile(disk, base)
    said = run_and_kill(tmp_path, disk, log)
    records = list(read_log(log, _FILE_SYSTEM_BYTES))
    last = max(index for index, item in enumerate(records) if item.kind == "M")
    run = Run.of(base, records[: last + 1])  # what came after it may have set a ref that nobody has heard of
    reported = [f"{ref} {commit}" for _, ref, commit in run.reported]
    assert reported[:_REPORTS] == said[: len(reported)]
    assert len(reported) >= _REPORTS - 1
    assert sum(item.kind == "F" for item in run.records) > 100
    cut_everywhere(run, tmp_path, "ext4", _PLACES)
    with looped(disk) as device, mounted(device, tmp_path / "killed", "ext4") as place:
        report = fsck(Repository.open(place / "repo"))
        assert report.ok, report.problems
