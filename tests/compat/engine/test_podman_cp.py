"""``cp`` beside podman's, case by case: the same trees, the same command, what is there afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.engine.support import Cli

LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
"""Debian's podman asks for hard limits that root without CAP_SYS_RESOURCE cannot raise; these are lower ones."""

CASES = (
    # what, where to, beginning in a folder of each side that has what `fill` makes
    ("file", "new"),
    ("file", "there"),
    ("file", "there/"),
    ("file", "none/"),
    ("file", "none/new"),
    ("file", "other"),
    ("file", "to-there"),
    ("file", "to-other"),
    ("none", "new"),
    ("tree", "new"),
    ("tree", "new/"),
    ("tree", "there"),
    ("tree", "there/."),
    ("tree/", "there"),
    ("tree/", "new"),
    ("tree/.", "new"),
    ("tree/.", "there"),
    ("tree", "other"),
    ("tree/.", "other"),
    ("tree", "none/new"),
    ("tree/sub", "there"),
    ("tree", "full"),
    ("tree/.", "full"),
    ("empty", "there"),
    ("empty", "new"),
    ("program", "new"),
    ("file", "there/../new"),
    ("tree/../file", "new"),
)
DIFFERENT: dict[tuple[str, str, str], str] = {
    ("tree", "new/", "in"): "docker makes it, and so do we; podman wants it to be there",
    ("tree", "new/", "out"): "docker makes it, and so do we; podman wants it to be there",
    ("file", "to-other", "out"): "we follow a link on either side, as cp(1) does; podman replaces one on the host",
}
"""What, where to, direction -> why it is not as with podman."""


def fill(base: Path) -> None:
    for folder in ("tree/sub", "tree/void", "there", "full/tree", "empty", "full/sub"):
        (base / folder).mkdir(parents=True)
    (base / "file").write_text("a file\n")
    (base / "other").write_text("another\n")
    (base / "program").write_text("#!/bin/sh\n")
    (base / "program").chmod(0o750)
    (base / "tree/one").write_text("one\n")
    (base / "tree/sub/two").write_text("two\n")
    (base / "tree/link").symlink_to("one")
    (base / "tree/dangling").symlink_to("nowhere")
    (base / "full/sub/two").write_text("before\n")
    (base / "full/tree/kept").write_text("kept\n")
    (base / "to-there").symlink_to("there")
    (base / "to-other").symlink_to("other")
    os.utime(base / "tree/one", (1_000_000_000, 1_000_000_000))


def picture(base: Path) -> dict[str, tuple[str, ...]]:
    """Returns everything that can be seen of a tree."""
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted(base.rglob("*")):
        name = str(path.relative_to(base))
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_dir():
            found[name] = ("directory", oct(path.stat().st_mode))
        else:
            found[name] = ("file", oct(path.stat().st_mode), path.read_text())
    return found


def make_image_tree(tree: Path) -> None:
    for folder in ("etc", "srv/a/b", "empty"):
        (tree / folder).mkdir(parents=True)
    (tree / "etc/motd").write_text("of the image\n")
    (tree / "srv/a/b/file").write_text("of the image\n")


class Podman:
    """podman with a place of its own."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.tree = base
        """The root of the container ``c``, as `call("mount")` tells it."""

    def call(self, *args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        base = self.base
        words = [
            *("podman", "--root", f"{base}/root", "--runroot", f"{base}/run", "--tmpdir", f"{base}/tmp"),
            *("--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none", *args),
        ]
        return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    base = tmp_path_factory.mktemp("p")  # podman's sockets have paths of at most 108 characters, below its places
    found = Podman(base)
    make_image_tree(base / "tree")
    subprocess.run(["tar", "-C", base / "tree", "-cf", base / "box.tar", "."], check=True)
    assert found.call("import", str(base / "box.tar"), "localhost/box").returncode == 0
    done = found.call("create", "--name", "c", "--network", "none", *LIMITS, "localhost/box", "sh")
    assert done.returncode == 0, done.stderr
    found.tree = Path(found.call("mount", "c").stdout.strip())
    yield found
    found.call("umount", "c")
    found.call("rm", "--all", "--force", "--time", "0")
    subprocess.run(["umount", f"{base}/root/vfs"], capture_output=True, check=False)


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    (tmp_path / "root").mkdir()
    made = Cli(tmp_path / "root", tmp_path / "run")
    yield made
    made.remove_all()


@pytest.mark.parametrize("direction", ["in", "out"])
def test_copies_beside_podmans(podman: Podman, cli: Cli, tmp_path: Path, direction: str) -> None:
    inside = tmp_path / "tree"
    (inside / "etc").mkdir(parents=True)
    cli.run("create", "--name", "c", "--network", "none", "--rootfs", f"{inside}:direct", "sh")
    differ = []
    for what, where in CASES:
        seen = []
        for tree, program in ((podman.tree, "podman"), (inside, "wherry")):
            host = tmp_path / "host"
            for base in (host, tree / "w"):
                shutil.rmtree(base, ignore_errors=True)
                base.mkdir()
                fill(base)
            words = (what, f"c:/w/{where}") if direction == "in" else (f"c:/w/{what}", where)
            if program == "podman":
                status = podman.call("cp", *words, cwd=host).returncode
            else:
                status = cli.run("cp", *words, cwd=host, status=None).status
            seen.append((status == 0, picture(tree / "w"), picture(host)))
        if seen[0] != seen[1]:
            differ.append((what, where, direction))
            theirs, ours = seen
            print((what, where), "podman, then wherry:", theirs[0], ours[0])
            for one, two in zip(theirs[1:], ours[1:], strict=True):
                for name in sorted(one.keys() | two.keys()):
                    if one.get(name) != two.get(name):
                        print("   ", name, one.get(name), two.get(name))
    assert set(differ) == {case for case in DIFFERENT if case[2] == direction}


def test_diff_beside_podmans(podman: Podman, cli: Cli, tmp_path: Path) -> None:
    make_image_tree(tmp_path / "image")
    cli.run("image", "import", str(tmp_path / "image"), "--name", "box")
    cli.run("create", "--name", "d", "--network", "none", "box", "sh")
    done = podman.call("create", "--name", "d", "--network", "none", *LIMITS, "localhost/box", "sh")
    assert done.returncode == 0, done.stderr
    work = tmp_path / "work"
    work.mkdir()
    fill(work)
    for words in (("tree", "d:/"), ("file", "d:/etc/motd"), ("file", "d:/srv/a/b/new"), ("empty", "d:/empty")):
        assert podman.call("cp", *words, cwd=work).returncode == 0
        cli.run("cp", *words, cwd=work)
    theirs = podman.call("diff", "d").stdout.split("\n")
    ours = cli.run("container", "diff", "d").stdout.split("\n")
    assert sorted(filter(None, ours)) == sorted(filter(None, theirs))
