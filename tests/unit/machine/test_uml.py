"""The command line of user-mode Linux, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wherry.core.errors import InvalidInput, Unsupported, WherryError
from wherry.machine import uml
from wherry.machine.guest import MIB, Channel, Drive, Firmware, Forward, Guest, Share
from wherry.spec.architecture import architecture


def guest(name: str = "amd64", **more: Any) -> Guest:
    return Guest(architecture=architecture(name), **more)


def wiring(**more: Any) -> uml.Wiring:
    return uml.Wiring(program=Path("/linux"), folder=Path("/f"), console_fd=5, **more)


def test_the_line() -> None:
    of = guest(
        memory_bytes=256 * MIB,
        channels=(Channel(name="a"), Channel(name="b")),
        shares=(Share(path=Path("/x"), tag="x"),),
        drives=(Drive(path=Path("/d"), read_only=True), Drive(path=Path("/e"), snapshot=True)),
        command_line=("quiet",),
        reboot=False,
    )
    words = uml.command_line(of, wiring(channel_fds=(6, 7), network_fd=8, overlays=(None, Path("/f/cow"))))
    assert words[:4] == ["/linux", "mem=256M", "umid=machine", "uml_dir=/f"]
    for word in (
        "con0=fd:5,fd:5",
        "ssl0=fd:6,fd:6",
        "ssl1=fd:7,fd:7",
        "ubd0r=/d",
        "ubd1=/f/cow,/e",
        "hostfs=/x",
        "noreboot",
    ):
        assert word in words
    assert f"vec0:transport=fd,fd=8,mac={uml.NETWORK_MAC}" in words
    assert words[-2:] == ["console=tty0", "quiet"]


def test_with_several_folders_none_is_the_usual_one() -> None:
    shares = (Share(path=Path("/x"), tag="x"), Share(path=Path("/y"), tag="y"))
    assert not any(word.startswith("hostfs=") for word in uml.command_line(guest(shares=shares), wiring()))


def test_the_network_is_qemus() -> None:
    words = uml.network_command(guest(forwards=(Forward(guest_port=80, host_port=8080),)), 9)
    assert "user,id=world,hostfwd=tcp:127.0.0.1:8080-:80" in words
    assert "dgram,id=guest,local.type=fd,local.str=9" in words
    assert words[words.index("-M") + 1] == "none"


@pytest.mark.parametrize(
    ("name", "more", "error"),
    [
        ("arm64", {}, Unsupported),
        ("amd64", {"firmware": Firmware.UEFI}, Unsupported),
        ("amd64", {"firmware_file": Path("/x")}, Unsupported),
        ("amd64", {"graphics": True}, Unsupported),
        ("amd64", {"cpus": 2}, Unsupported),
        ("amd64", {"drives": (Drive(path=Path("/x"), format="qcow2"),)}, Unsupported),
        ("amd64", {"drives": (Drive(path=Path("/x,y")),)}, InvalidInput),
        ("amd64", {"drives": tuple(Drive(path=Path("/x")) for _ in range(9))}, Unsupported),
        ("amd64", {"shares": (Share(path=Path("/x,y"), tag="x"),)}, InvalidInput),
        ("amd64", {"channels": (Channel(name="a"),)}, InvalidInput),
        ("amd64", {"terminal": True}, InvalidInput),
    ],
)
def test_what_cannot_be(name: str, more: dict[str, Any], error: type[WherryError]) -> None:
    with pytest.raises(error):
        uml.command_line(guest(name, **more), wiring())
