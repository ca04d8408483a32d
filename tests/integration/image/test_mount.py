"""Images as folders: mounted, listed, kept while they are, and gone at the end. Needs root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.image.makers import file, make_tar

from wherry.store.mount.mounting import unmount
from wherry.store.mount.seen import mounts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to mount")


class Machine:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, *args: str, status: int = 0) -> str:
        command = [
            sys.executable, "-m", "wherry", "--root", f"{self.path}/root", "--run-root", f"{self.path}/run", *args,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    (tmp_path / "root.tar").write_bytes(make_tar(file("bin/sh", "#!", mode=0o4755, uid=7), file("etc/x", "x" * 5000)))
    made("image", "import", f"{tmp_path}/root.tar", "--name", "app:1")
    yield made
    for seen in mounts():
        if tmp_path in seen.target.parents:
            unmount(seen.target, lazy=True)


def test_mount_and_unmount(machine: Machine) -> None:
    place = Path(machine("image", "mount", "app:1").strip())
    assert (place / "etc/x").read_text() == "x" * 5000
    status = (place / "bin/sh").stat()
    assert (status.st_uid, oct(status.st_mode & 0o7777)) == (7, "0o4755")
    with pytest.raises(OSError, match="Read-only file system"):
        (place / "new").touch()
    assert machine("image", "mount", "app:1").strip() == str(place)
    assert len([seen for seen in mounts() if seen.target == place]) == 1
    assert str(place) in machine("image", "mount")
    assert json.loads(machine("image", "mount", "--json"))[0]["reference"] == "docker.io/library/app:1"
    assert f"it is mounted at {place}" in machine("image", "rm", "app:1", status=4)
    assert json.loads(machine("image", "prune", "-af", "--json"))["images"] == []
    assert (place / "etc/x").read_text() == "x" * 5000
    assert machine("image", "unmount", "app:1").strip() == str(place)
    assert not place.exists()
    assert machine("image", "mount") == ""
    machine("image", "rm", "app:1")


def test_at_a_folder(machine: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "mnt"
    assert "no such folder" in machine("image", "mount", "app:1", str(folder), status=3)
    folder.mkdir()
    assert machine("image", "mount", "app:1", str(folder)).strip() == str(folder)
    machine("image", "tag", "app:1", "app:2")
    machine("image", "rm", "app:1")  # one of two names
    machine("image", "prune", "-f")
    assert (folder / "etc/x").exists()
    assert machine("image", "unmount", str(folder)).strip() == str(folder)
    assert folder.is_dir()
    assert "not mounted" in machine("image", "unmount", "app:2", status=3)
    assert "no such image" in machine("image", "unmount", "app:9", status=3)
    machine("image", "unmount", status=2)
    machine("image", "mount", "app:2")
    machine("image", "unmount", "--all")
    assert not [seen for seen in mounts() if tmp_path in seen.target.parents]


def test_what_a_container_is_made_from_stays(machine: Machine) -> None:
    machine("create", "--name", "web", "app:1", "/bin/sh")
    assert "containers are made from it: web" in machine("rmi", "app:1", status=4)
    machine("tag", "app:1", "app:2")
    machine("rmi", "app:1")
    machine("image", "prune", "-f")
    assert "app:1" in machine("inspect", "web")
    machine("rm", "web")
    assert "sha256:" in machine("image", "prune", "-f")
