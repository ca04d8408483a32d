"""Images made by the real tools, of a small busybox tree in three layers."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.busybox import BUSYBOX, put_busybox

from wherry.core.proc import run
from wherry.store.disk.files import read_xattrs
from wherry.store.format.objects import DirMeta
from wherry.store.repository import Repository
from wherry.store.tree.walk import walk

Facts = dict[str, tuple[object, ...]]


def facts_of_directory(top: Path) -> Facts:
    """Returns mode, owner, attributes and content of everything below a directory; no devices."""
    found: Facts = {}
    for folder, folders, files in os.walk(top):
        for path in [Path(folder), *(Path(folder) / name for name in (*files, *folders))]:
            status = os.lstat(path)
            name = "" if path == top else str(path.relative_to(top))
            head = (oct(status.st_mode), status.st_uid, status.st_gid, read_xattrs(path, follow=False))
            if stat.S_ISLNK(status.st_mode):
                found[name] = (*head, os.readlink(path))
            elif stat.S_ISREG(status.st_mode):
                found[name] = (*head, path.read_bytes())
            elif stat.S_ISDIR(status.st_mode):
                found[name] = head
    return found


def facts_of_commit(repo: Repository, commit: str) -> Facts:
    """Returns the same of a commit."""
    found: Facts = {}
    for path, entry in walk(repo, repo.resolve(commit)):
        if isinstance(entry, DirMeta):
            found[path] = (oct(entry.mode), entry.uid, entry.gid, entry.xattrs)
            continue
        checksum, header = entry
        head = (oct(header.mode), header.uid, header.gid, header.xattrs)
        if header.is_symlink:
            found[path] = (*head, header.symlink_target)
            continue
        _, content = repo.load_file(checksum)
        assert content is not None
        with content:
            found[path] = (*head, content.read())
    return found


def make_base(root: Path) -> None:
    """Fills a root tree: busybox, links of both kinds, odd owners, modes, names and attributes."""
    put_busybox(root, ("sh", "ls", "cat"))
    os.link(root / "bin/busybox", root / "bin/hard")
    (root / "etc/deep/er").mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (root / "etc/deep/er/file").write_text("deep")
    (root / "etc/deep/other").write_text("other")
    os.chown(root / "etc/deep/other", 1000, 70000)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "empty").touch()
    (root / ("long-" + "n" * 200)).write_text("long name")
    (root / "üñï").write_text("utf-8")
    (root / "lib").symlink_to("/usr/lib")
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/x").write_text("x")
    shutil.copy(BUSYBOX, root / "bin/ping")
    os.setxattr(root / "bin/ping", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    (root / "bin/ping").chmod(0o755)


def make_second(root: Path) -> None:
    """Changes the tree as a second layer does: files and folders go, types change, a folder is made anew."""
    (root / "bin/cat").unlink()
    shutil.rmtree(root / "etc/deep")
    (root / "etc/deep").mkdir()
    (root / "etc/deep/new").write_text("new")
    (root / "empty").unlink()
    (root / "empty").mkdir()
    (root / "empty/inside").touch()
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "tmp").chmod(0o700)
    (root / "bin/ls").unlink()
    (root / "bin/ls").write_text("#!/bin/sh\n")


def make_third(root: Path) -> None:
    """Brings something back that a lower layer took away."""
    (root / "bin/cat").symlink_to("busybox")
    (root / "usr/lib/x").unlink()


def make_fourth(root: Path) -> None:
    """Puts a file in a directory's place, for which umoci writes a whiteout below the file. Podman refuses that."""
    shutil.rmtree(root / "empty")
    (root / "empty").write_text("a file again")


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout with the images ``three`` and ``four``, made by umoci."""
    base = tmp_path_factory.mktemp("umoci")
    path = base / "layout"
    run(["umoci", "init", f"--layout={path}"])
    run(["umoci", "new", f"--image={path}:three"])
    for number, make in enumerate((make_base, make_second, make_third)):
        bundle = base / f"bundle{number}"
        run(["umoci", "unpack", f"--image={path}:three", str(bundle)])
        make(bundle / "rootfs")
        run(["umoci", "repack", f"--image={path}:three", str(bundle)])
    run(
        ["umoci", "config", f"--image={path}:three", "--config.cmd=sh", "--config.env=A=b", "--config.workingdir=/tmp",
         "--config.exposedports=80/tcp", "--config.user=1000:1000", "--config.label=l=m", "--architecture=amd64"]
    )  # fmt: skip
    run(["umoci", "tag", f"--image={path}:three", "four"])
    bundle = base / "bundle4"
    run(["umoci", "unpack", f"--image={path}:four", str(bundle)])
    make_fourth(bundle / "rootfs")
    run(["umoci", "repack", f"--image={path}:four", str(bundle)])
    return path


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[list[str]]:
    """A podman of its own."""
    with tempfile.TemporaryDirectory(prefix="podman-") as run_root:  # it takes no path of more than 50 characters
        yield ["podman", f"--root={tmp_path}/podman", f"--runroot={run_root}", "--storage-driver=vfs"]
    shutil.rmtree(tmp_path / "podman", ignore_errors=True)
