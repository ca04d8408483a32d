"""A machine with a small busybox image, and a folder to build in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.fixtures.busybox import put_busybox

from wherry.image.catalog import Images
from wherry.store.format.objects import DirMeta
from wherry.store.repository import Repository
from wherry.store.tree.walk import walk

APPLETS = ("sh", "cat", "ls", "mkdir", "echo", "id", "env", "touch", "chmod", "stat", "test", "pwd", "rm", "ln", "true")


PATH = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def make_tree(path: Path) -> Path:
    put_busybox(path, APPLETS)
    (path / "etc").mkdir()
    (path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n")
    (path / "etc/group").write_text("root:x:0:\napp:x:1001:\nother:x:5:\n")
    return path


class Place:
    """One root folder, and one build context."""

    def __init__(self, top: Path) -> None:
        self.root = top / "root"
        self.context = top / "context"
        self.context.mkdir()
        self.environment = {**os.environ, "HOME": str(top)}
        self("image", "import", str(make_tree(top / "tree")), "--name", "busybox:1", "-c", PATH)

    def __call__(self, *args: str, status: int = 0, stdin: bytes | None = None) -> str:
        command = [sys.executable, "-m", "wherry", "--root", str(self.root), "--run-root", f"{self.root}-run", *args]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=120, env=self.environment)
        assert done.returncode == status, done.stderr.decode()
        self.said = done.stderr.decode()
        return (done.stdout if not status else done.stderr).decode()

    def write(self, files: Mapping[str, str]) -> None:
        for name, content in files.items():
            path = self.context / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def build(self, dockerfile: str, *flags: str, status: int = 0, name: str = "app:1") -> str:
        self.write({"Dockerfile": dockerfile})
        return self("build", "-t", name, *flags, str(self.context), status=status).strip()

    def repo(self) -> Repository:
        return Repository.open(self.root / "store")

    def files(self, name: str = "app:1") -> dict[str, tuple[str, int, int, str]]:
        """Returns mode, owner and content of what an image has beyond the base."""
        repo = self.repo()
        found = {}
        base = {path for path, _ in walk(repo, Images(repo).get("busybox:1").commit)}
        for path, entry in walk(repo, Images(repo).get(name).commit):
            if path.lstrip("/") in {item.lstrip("/") for item in base}:
                continue
            if isinstance(entry, DirMeta):
                found[path.lstrip("/")] = (oct(entry.mode & 0o7777), entry.uid, entry.gid, "dir")
                continue
            checksum, header = entry
            if header.is_symlink:
                found[path.lstrip("/")] = ("link", header.uid, header.gid, header.symlink_target)
                continue
            _, content = repo.load_file(checksum)
            assert content is not None
            with content:
                found[path.lstrip("/")] = (
                    oct(header.mode & 0o7777),
                    header.uid,
                    header.gid,
                    content.read().decode(errors="replace"),
                )
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)
