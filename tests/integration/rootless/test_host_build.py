"""Hosts built by a real user without root: with a range of ids the bytes that root gets, with one id told at once."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.rootless.user import UID, User

FILES = {
    "layers/t/small/metadata/dependencies": "host/minimal\n",
    "layers/t/small/resources/debian.yaml": "kernel: none\nmodules: none\n",
    "layers/t/small/users/people": "app 1000 app 1000 =secret /home/app /bin/sh - An app\n",
    "layers/t/small/hooks/pre.sh": '#!/bin/sh -e\necho "$SKIFF_CURRENT_CONF_NAME" >"$1/etc/x"\nchown 7:8 "$1/etc/x"\n',
    "layers/t/small/image/layout.yaml": "images: {root: {kind: erofs, from: root}, whole: {kind: tar, from: root}}\n",
    "small/host.yaml": "target: [t/small]\narchitecture: amd64\nlayers_path: [../layers]\n",
}
IMAGES = ("root.erofs", "whole.tar.zst")


def make(top: Path) -> Path:
    """Writes a workspace with its layer; returns it."""
    for name, text in FILES.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if name.endswith(".sh") else 0o644)
    return top / "small"


def digests(workspace: Path) -> dict[str, str]:
    return {name: hashlib.sha256((workspace / "output/images" / name).read_bytes()).hexdigest() for name in IMAGES}


@pytest.fixture
def places(user: User) -> Iterator[Path]:
    top = user.home / "hosts"
    make(top)
    subprocess.run(["chown", "-R", f"{UID}:{UID}", str(top)], check=True)
    yield top
    # what other ids own is removed as it was made
    user.ok("host", "clean", "--force", "--cache", f"--cache-dir={top}/cache", str(top / "small"))
    assert user.run("rm", "-r", str(top)).returncode == 0


@pytest.mark.timeout(300)
def test_the_same_bytes_as_roots(user: User, places: Path, tmp_path: Path) -> None:
    mine = make(tmp_path)
    root = [*user.program(), f"--root={tmp_path}/root"]
    subprocess.run([*root, "host", "build", str(mine), f"--cache={tmp_path}/cache"], check=True, capture_output=True)
    theirs = places / "small"
    shutil.copyfile(mine / "debian.lock", theirs / "debian.lock")
    shutil.copytree(tmp_path / "cache/downloads", places / "cache/downloads")
    subprocess.run(["chown", "-R", f"{UID}:{UID}", str(places)], check=True)
    told = user.ok("host", "build", str(theirs), f"--cache={places}/cache", "--offline")
    assert digests(theirs) == digests(mine)
    assert (
        told.split()[1]
        in subprocess.run(
            [*root, "store", f"--repo={mine}/.wherry/store", "rev-parse", "host/small"], capture_output=True, text=True
        ).stdout
    )
    listed = user.ok("store", f"--repo={theirs}/.wherry/store", "ls", "host/small", "/etc/x", "/home/app")
    assert [line.split()[1:3] for line in listed.splitlines()][:2] == [["7", "8"], ["1000", "1000"]]


def test_with_one_id_it_is_told_at_once(single: User) -> None:
    make(single.home / "hosts")
    try:
        done = single.wherry("host", "build", str(single.home / "hosts/small"))
    finally:
        shutil.rmtree(single.home / "hosts")
    assert done.returncode == 11
    assert "this user has 1" in done.stderr
    assert "/etc/subuid" in done.stderr
