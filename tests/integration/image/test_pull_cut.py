"""Pulls that are killed or interrupted at any point: nothing half of them can be seen, and the next one goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.image.test_cut_short import SIGKILL, Machine
from tests.unit.image.makers import Layout, file, make_tar
from tests.unit.image.registry.fake import FakeRegistry

from wherry.linux.mount import MNT_DETACH, mount, umount
from wherry.store.repository import Repository

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root is needed for owners")
NOISE = os.urandom(600_000)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[FakeRegistry]:
    made = Layout(tmp_path / "layout")
    made.add(made.image([make_tar(file("base", NOISE)), make_tar(file("top", "top"))]))
    with FakeRegistry(made) as found:
        yield found


def parts(machine: Machine) -> list[int]:
    return sorted(path.stat().st_size for path in (machine.path / "root/store/oci/blobs").glob(".part-*"))


@pytest.mark.parametrize("flags", [[], ["--keep-layers"]])
def test_killed_at_every_point(tmp_path: Path, registry: FakeRegistry, flags: list[str]) -> None:
    words = ["image", "pull", "-q", *flags, f"{registry.domain}/app:1"]
    whole = Machine(tmp_path / "whole")
    log = tmp_path / "points"
    done = whole.call(*words, trace=f"log:{log}")
    assert done.returncode == 0, done.stderr
    expected = whole.images()
    points = list(dict.fromkeys(log.read_text().split()))
    assert {f"image.pull.{name}" for name in ("manifest", "answered", "blob", "unpacked")} <= set(points)
    for number, point in enumerate(points):
        machine = Machine(tmp_path / f"cut{number}")
        assert machine.call(*words, trace=f"{point}=kill").returncode == SIGKILL, point
        assert machine.images() in ([], expected), point
        again = machine.call(*words)
        assert again.returncode == 0, (point, again.stderr)
        assert machine.images() == expected, point
        assert parts(machine) == [], point
        repo = Repository.open(machine.path / "root/store")
        assert repo.fsck().ok, point
        assert machine.call("image", "prune", "-af").returncode == 0
        assert list(repo.list_objects()) == [], point


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_cut_in_the_middle_of_a_blob(tmp_path: Path, registry: FakeRegistry, number: signal.Signals) -> None:
    machine = Machine(tmp_path / "machine")
    registry.silent_after = 250_000
    words = ["image", "pull", "-q", f"{registry.domain}/app:1"]
    command = [
        sys.executable, "-m", "wherry", "--root", f"{machine.path}/root", "--run-root", f"{machine.path}/run", *words,
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while 250_000 not in parts(machine):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    begun = time.monotonic()
    _, said = process.communicate(timeout=30)
    assert time.monotonic() - begun < 5
    assert process.returncode == (-9 if number == signal.SIGKILL else 130)
    if number == signal.SIGINT:
        assert said.strip() == b"wherry: interrupted"
    registry.release.set()
    registry.silent_after = 0
    assert machine.images() == []
    registry.requests.clear()
    assert machine.call(*words).returncode == 0
    assert "bytes=250000-" in {headers.get("Range") for headers in registry.asked_for("/blobs/")}
    assert parts(machine) == []


def test_prune_removes_parts_unless_they_grow(tmp_path: Path, registry: FakeRegistry) -> None:
    machine = Machine(tmp_path / "machine")
    registry.cut_after, registry.cut_always, registry.ignore_range = 250_000, True, True
    words = ["image", "pull", "-q", f"{registry.domain}/app:1"]
    assert machine.call(*words, trace="image.pull.unpacked=kill,image.pull.blob=kill").returncode != 0
    assert parts(machine)
    assert machine.call("image", "prune", "-f").returncode == 0
    assert parts(machine) == []


def test_a_full_disk(tmp_path: Path, registry: FakeRegistry) -> None:
    machine = Machine(tmp_path / "small")
    machine.path.mkdir()
    mount("tmpfs", machine.path, "tmpfs", 0, "size=1m")  # room for the blobs, and not for the files
    try:
        done = machine.call("image", "pull", "-q", f"{registry.domain}/app:1")
        assert done.returncode == 9, done.stderr
        assert done.stderr.count("\n") == 1
        assert "no space left" in done.stderr or "free" in done.stderr
        assert machine.images() == []
    finally:
        umount(machine.path, MNT_DETACH)


def test_two_at_once(tmp_path: Path, registry: FakeRegistry) -> None:
    machine = Machine(tmp_path / "machine")
    command = [
        sys.executable, "-m", "wherry", "--root", f"{machine.path}/root", "--run-root", f"{machine.path}/run",
        "image", "pull", "--json", f"{registry.domain}/app:1",
    ]  # fmt: skip
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    digests = set()
    for process in running:
        out, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        digests.add(json.loads(out)[0]["digest"])
    assert len(digests) == 1
    assert parts(machine) == []
