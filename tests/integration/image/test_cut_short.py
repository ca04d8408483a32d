"""Imports that are killed at any point: nothing half of them can be seen, and the next one does all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.image.systems import Part, make_disk, make_filesystem, make_tree
from tests.unit.image.makers import Layout, file, make_tar

from wherry.store.repository import Repository

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to mount, and for owners")
SIGKILL = -9


class Machine:
    def __init__(self, path: Path) -> None:
        self.path = path

    def call(self, *args: str, trace: str = "") -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable, "-m", "wherry", "--root", f"{self.path}/root", "--run-root", f"{self.path}/run", *args,
        ]  # fmt: skip
        environment = os.environ | {"WHERRY_TRACE": trace}
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)

    def images(self) -> list[dict[str, object]]:
        done = self.call("image", "ls", "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert isinstance(found, list)
        return found


def source(kind: str, path: Path) -> list[str]:
    """Returns the words of an import."""
    if kind == "layout":
        layers = [make_tar(file(f"f{number}", str(number) * 5000)) for number in range(3)]
        layout = Layout(path / "layout")
        layout.add(layout.image(layers), "app:1")
        return ["image", "import", str(layout.path), "--keep-layers"]
    if kind == "load":
        layout = Layout(path / "layout")
        for number in ("1", "2"):
            layout.add(layout.image([make_tar(file("f", number * 5000))]), f"app:{number}")
        return ["image", "load", "-i", str(layout.tar(path / "saved.tar"))]
    tree = make_tree(path / "tree")
    disk = make_disk(path / "disk.img", [Part(make_filesystem("squashfs", tree, path / "root.img"))])
    if kind == "packed disk by tools":
        packed = path / "disk.img.zst"
        subprocess.run(["zstd", "-q", disk, "-o", packed], check=True)
        return ["image", "import", str(packed), "--name", "app:1", "--no-mount"]
    return ["image", "import", str(disk), "--name", "app:1"]


@pytest.mark.parametrize("kind", ["layout", "load", "disk", "packed disk by tools"])
def test_killed_at_every_point(tmp_path: Path, kind: str) -> None:
    words = source(kind, tmp_path)
    whole = Machine(tmp_path / "whole")
    log = tmp_path / "points"
    done = whole.call(*words, trace=f"log:{log}")
    assert done.returncode == 0, done.stderr
    expected = whole.images()
    points = list(dict.fromkeys(log.read_text().split()))
    assert len(points) > 5
    if "disk" in kind:
        assert [point for point in points if point.startswith("image.")]
    for number, point in enumerate(points):
        machine = Machine(tmp_path / f"cut{number}")
        killed = machine.call(*words, trace=f"{point}=kill")
        assert killed.returncode == SIGKILL, (point, killed.stderr)
        seen = machine.images()
        assert seen in ([], expected) or (kind == "load" and all(item in expected for item in seen)), point
        if seen:
            assert point.startswith("store."), point
        again = machine.call(*words)
        assert again.returncode == 0, (point, again.stderr)
        assert machine.images() == expected, point
        repo = Repository.open(machine.path / "root/store")
        assert repo.fsck().ok, point
        assert machine.call("image", "prune", "-af").returncode == 0
        assert list(repo.list_objects()) == [], point
        left = [path.name for path in (repo.path / "tmp").iterdir() if path.name != "cache"]
        assert not [name for name in left if not name.startswith("ref-")], (point, left)  # a ref's goes after a day
    mounted = Path("/proc/self/mountinfo").read_text()
    loops = subprocess.run(["losetup", "--list", "--noheadings"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in mounted
    assert str(tmp_path) not in loops
