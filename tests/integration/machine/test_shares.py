"""Folders that a machine shares with this one: written to, or not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.machine.conftest import Command, make_initramfs, needs_uml

from wherry.machine.kernels import Kernel

LOOK = """
cat /{0}/f
echo new >/{0}/g && echo written || echo not written
"""


def folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "f").write_text(f"{text}\n")
    return path


@needs_uml
def test_hostfs_mounts_the_one_folder_without_more_words(wherry: Command, tmp_path: Path) -> None:
    shared = folder(tmp_path / "shared", "of the host")
    body = "mkdir /h; mount -t hostfs none /h\n" + LOOK.format("h")
    image = make_initramfs(tmp_path / "initrd", body)
    done = wherry("boot", "--uml", "--initramfs", image, "--append", "quiet", "--share", shared)
    assert done.returncode == 0, done.stderr
    assert "of the host" in done.stdout
    assert (shared / "g").read_text() == "new\n"


@pytest.mark.deep
def test_9p_read_write_and_read_only(wherry: Command, tmp_path: Path, kernel: Kernel) -> None:
    both, one = folder(tmp_path / "a,b", "to write"), folder(tmp_path / "c", "to read")
    body = "".join(
        f"mkdir /{tag}; mount -t 9p -o trans=virtio,version=9p2000.L {tag} /{tag}\n" + LOOK.format(tag)
        for tag in ("both", "one")
    )
    image = make_initramfs(tmp_path / "initrd", body, kernel.modules)
    shares = ["--share", f"{both}:both", "--share", f"{one}:one:ro"]
    line = ["--kernel", kernel.kernel, "--initramfs", image, "--append", "quiet panic=-1"]
    done = wherry("boot", *line, *shares, timeout=200)
    assert done.returncode == 0, done.stderr
    said = done.stdout.replace("\r", "").splitlines()
    assert [line for line in said if "written" in line] == ["written", "not written"]
    assert "to write" in said
    assert "to read" in said
    assert (both / "g").read_text() == "new\n"
    assert not (one / "g").exists()
