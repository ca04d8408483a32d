"""The socket between a container and who waits for its being ready."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.cli.runtime_notify import Notify, forget, place_of, with_notify
from wherry.runtime.spec import Mount, Process, Spec


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("/run/systemd/notify", "/run/systemd/notify"),
        ("@name", "/run/notify"),
        ("@", ""),
        ("/", ""),
        ("/run/../etc", ""),
        ("vsock:2:1", ""),
        ("relative/notify", ""),
    ],
)
def test_places(address: str, place: str) -> None:
    assert place_of(address) == place


def test_what_a_container_gets(tmp_path: Path) -> None:
    warnings: list[str] = []
    spec = Spec(process=Process(args=("true",), env=("A=b",)))
    found = with_notify(spec, "/run/notify", str(tmp_path / "state"), warnings.append)
    assert found.process.env == ("A=b", "NOTIFY_SOCKET=/run/notify/notify")
    source = str(tmp_path / "state/notify")
    options = ("bind", "ro", "nosuid", "nodev", "noexec")
    assert found.mounts == (Mount(destination="/run/notify", type="bind", source=source, options=options),)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert not warnings
    assert with_notify(spec, "vsock:2:1", str(tmp_path / "other"), warnings.append) == spec
    assert warnings == ["NOTIFY_SOCKET is neither a path nor an abstract socket and is left out: 'vsock:2:1'"]
    own = Spec(process=Process(args=("true",), env=("NOTIFY_SOCKET=/own",)))
    assert with_notify(own, "/run/notify", str(tmp_path / "other"), warnings.append) == own
    assert not (tmp_path / "other").exists()
    forget(str(tmp_path / "state"))
    forget(str(tmp_path / "state"))
    assert os.listdir(tmp_path / "state") == []


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """An address, and the socket there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.settimeout(10)
        if request.param == "path":
            deep = tmp_path / ("d" * 60) / ("e" * 60)
            deep.mkdir(parents=True)
            fd = os.open(deep, os.O_PATH)
            end.bind(f"/proc/self/fd/{fd}/manager")
            os.close(fd)
            yield str(deep / "manager"), end
        else:
            name = f"wherry-test-{uuid.uuid4().hex}"
            end.bind(f"\0{name}")
            yield f"@{name}", end


def say(directory: Path, *messages: bytes) -> None:
    fd = os.open(directory / "notify", os.O_PATH)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.connect(f"/proc/self/fd/{fd}/notify")
        for message in messages:
            end.send(message)
    os.close(fd)


def test_ready_is_handed_on_once_and_nothing_else(manager: tuple[str, socket.socket], tmp_path: Path) -> None:
    address, end = manager
    (tmp_path / "notify").mkdir()
    notify = Notify(address, str(tmp_path), pytest.fail)
    assert not notify.take()
    say(tmp_path, b"STATUS=READY=1", b"MAINPID=1", b"STOPPING=1\nBUSERROR=x", b"")
    assert not notify.take()
    say(tmp_path, b"MAINPID=1\nREADY=1\nSTATUS=up")
    assert notify.take(main_pid=42)
    assert end.recv(100) == b"MAINPID=42\nREADY=1"
    say(tmp_path, b"READY=1")
    assert notify.take(main_pid=42)
    end.setblocking(False)
    with pytest.raises(BlockingIOError):
        end.recv(100)
    notify.close()


def test_a_manager_that_is_gone_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "notify").mkdir()
    (tmp_path / "notify/notify").touch()  # of a start that was killed
    warnings: list[str] = []
    notify = Notify(str(tmp_path / "none"), str(tmp_path), warnings.append)
    say(tmp_path, b"READY=1")
    assert notify.take()
    notify.close()
    assert warnings == [
        f"the container is ready, and NOTIFY_SOCKET cannot be told: No such file or directory: {tmp_path}/none"
    ]
