"""A container that a service manager waits for: NOTIFY_SOCKET over its life."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.runtime.bundles import Bundle

WAITS = "echo $NOTIFY_SOCKET > /told; while [ ! -e /end ]; do sleep 0.05; done"
IDS = [{"containerID": 0, "hostID": 200_000, "size": 65536}]


@pytest.fixture(params=["root", "user namespace"])
def bundle(request: pytest.FixtureRequest, tmp_path: Path, rootfs: Path) -> Iterator[Bundle]:
    found = Bundle(tmp_path / "bundle", rootfs)
    if request.param != "root":
        found.change(lambda config: config["linux"]["namespaces"].append({"type": "user"}))
        found.change(lambda config: config["linux"].update(uidMappings=IDS, gidMappings=IDS))
        for path in (rootfs, *rootfs.rglob("*")):
            os.chown(path, 200_000, 200_000, follow_symlinks=False)
        place = rootfs.parent
        while place != Path("/tmp"):
            place.chmod(0o755)  # root of the namespace comes to its tree
            place = place.parent
    found.runs("sh", "-c", WAITS)
    yield found
    found.close()


@pytest.fixture
def manager() -> Iterator[tuple[str, socket.socket]]:
    with tempfile.TemporaryDirectory(prefix="wherry-n", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.bind(f"{folder}/manager")
            end.settimeout(60)
            yield f"{folder}/manager", end


def start(bundle: Bundle, address: str, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        bundle.words(*words), env={**os.environ, "NOTIFY_SOCKET": address}, stdin=subprocess.DEVNULL
    )


def running(bundle: Bundle, rootfs: Path, process: subprocess.Popen[bytes]) -> int:
    """Waits until the command runs; returns its number."""
    deadline = time.monotonic() + 60
    while not (rootfs / "told").exists() or not (rootfs / "told").read_text():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    pid: int = bundle.state("one")["pid"]
    return pid


def say(pid: int, address: str, message: bytes) -> None:
    """Says something as a process of the container would, at the path that it is told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.sendto(message, f"/proc/{pid}/root{address}/notify")


def test_run_hands_on_that_it_is_ready(bundle: Bundle, rootfs: Path, manager: tuple[str, socket.socket]) -> None:
    address, end = manager
    process = start(bundle, address, "run", "-b", str(bundle.path), "one")
    pid = running(bundle, rootfs, process)
    assert (rootfs / "told").read_text() == f"{address}/notify\n"
    mounts = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    options = next(line.split()[5] for line in mounts if line.split()[4] == address)
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(options.split(","))
    say(pid, address, b"STATUS=soon")
    say(pid, address, b"READY=1\nMAINPID=1")
    assert end.recv(100) == b"READY=1"
    assert process.poll() is None
    (rootfs / "end").touch()
    assert process.wait(60) == 0
    assert list(bundle.root.iterdir()) == []


@pytest.mark.parametrize("apart", [False, True])
def test_who_does_not_stay_waits(
    bundle: Bundle, rootfs: Path, manager: tuple[str, socket.socket], *, apart: bool
) -> None:
    address, end = manager
    if apart:
        assert start(bundle, address, "create", "-b", str(bundle.path), "one").wait(60) == 0
        assert bundle.state("one")["status"] == "created"
        process = start(bundle, address, "start", "one")
    else:
        process = start(bundle, address, "run", "-d", "-b", str(bundle.path), "one")
    pid = running(bundle, rootfs, process)
    time.sleep(0.3)
    assert process.poll() is None
    again = start(bundle, address, "start", "one")
    assert again.wait(60) == 4, "and it takes nothing from the first"
    say(pid, address, b"READY=1")
    assert process.wait(60) == 0
    assert end.recv(100) == b"MAINPID=%d\nREADY=1" % pid
    bundle.ok("delete", "--force", "one")
    assert list(bundle.root.iterdir()) == []


def test_one_that_ends_without_a_word(bundle: Bundle, manager: tuple[str, socket.socket]) -> None:
    address, end = manager
    bundle.runs("true")
    assert start(bundle, address, "run", "-d", "-b", str(bundle.path), "one").wait(60) == 0
    end.setblocking(False)
    with pytest.raises(BlockingIOError):
        end.recv(100)


def test_what_cannot_be_made_leaves_nothing(bundle: Bundle, manager: tuple[str, socket.socket]) -> None:
    bundle.runs("no-such-command")
    assert start(bundle, manager[0], "create", "-b", str(bundle.path), "one").wait(60) == 127
    bundle.change(lambda config: config.update(hostname="x" * 65))
    assert start(bundle, manager[0], "create", "-b", str(bundle.path), "two").wait(60) == 5
    assert list(bundle.root.iterdir()) == []
