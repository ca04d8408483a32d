"""Images of disks without root: the kernel mounts nothing, so the file systems' own tools read them, confined."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.integration.image.systems import Part, make_disk, make_filesystem, make_tree
from tests.integration.rootless.user import UID, User


@pytest.mark.parametrize("kind", ["squashfs", "ext4"])
def test_a_disk(user: User, tmp_path: Path, kind: str) -> None:
    tree = make_tree(tmp_path / "tree")
    made = make_disk(tmp_path / "disk.img", [Part(make_filesystem(kind, tree, tmp_path / "root.img"))])
    disk = user.home / "disk.img"
    shutil.copy(made, disk)
    disk.chmod(0o644)
    try:
        user.ok("image", "import", "disk.img", "--name", "vendor:1")
        listed = user.ok("image", "export", "vendor:1", "-o", "root.tar")
        assert listed == ""
        names = user.run("tar", "--numeric-owner", "-tvf", "root.tar").stdout
        assert [line.split()[:2] for line in names.splitlines() if line.endswith("usr/bin/su")] == [
            ["-rwsr-xr-x", "0/0"]
        ]
        assert [line.split()[1] for line in names.splitlines() if line.endswith(" home/")] == ["1000/1001"]
        assert (user.home / "root.tar").stat().st_uid == UID
        assert "an image is mounted by root" in user.wherry("image", "mount", "vendor:1").stderr
    finally:
        for name in ("disk.img", "root.tar"):
            (user.home / name).unlink(missing_ok=True)
        user.wherry("image", "rm", "vendor:1")
