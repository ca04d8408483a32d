"""What people write of machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.core.errors import UsageError
from wherry.machine.guest import Bus
from wherry.machine.words import format_of, parse_cut, parse_drive, parse_forward, parse_share
from wherry.machine.writecache import Cut


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("8022:22", "127.0.0.1:8022:22/tcp"),
        ("127.0.0.5:53:5353/udp", "127.0.0.5:53:5353/udp"),
        (":80", "127.0.0.1:0:80/tcp"),
        ("0.0.0.0:80:80", "0.0.0.0:80:80/tcp"),
    ],
)
def test_ports(text: str, shown: str) -> None:
    found = parse_forward(text)
    assert f"{found.host_ip}:{found.host_port}:{found.guest_port}/{found.protocol}" == shown


@pytest.mark.parametrize(
    "text", ["", "80", "a:b", "1:0", "70000:1", "1:70000", "1:2/sctp", "300.1.1.1:1:2", "1:2:3", "1:2,x"]
)
def test_no_ports(text: str) -> None:
    with pytest.raises(UsageError):
        parse_forward(text)


def test_folders() -> None:
    cwd = Path("/w")
    assert parse_share("a", index=3, cwd=cwd).tag == "share3"
    found = parse_share("/x:y:data:ro", index=0, cwd=cwd)
    assert (found.path, found.tag, found.read_only) == (Path("/x:y"), "data", True)
    for text in ("", ":x", "a:b,c", "a:-x", f"a:{'t' * 32}", ":ro"):
        with pytest.raises(UsageError):
            parse_share(text, index=0, cwd=cwd)


def test_drives(tmp_path: Path) -> None:
    (tmp_path / "q:1").write_bytes(b"QFI\xfb....")
    found = parse_drive("q:1:usb:ro", usual=Bus.VIRTIO, cwd=tmp_path)
    assert (found.path, found.format, found.bus, found.read_only) == (tmp_path / "q:1", "qcow2", Bus.USB, True)
    assert parse_drive("x", usual=Bus.SD, cwd=tmp_path).bus == Bus.SD
    assert format_of(tmp_path / "nothing") == "raw"
    with pytest.raises(UsageError):
        parse_drive(":usb", usual=Bus.SD, cwd=tmp_path)


def test_cuts() -> None:
    assert parse_cut("2").mode == Cut.DROP
    found = parse_cut("2.5:torn:7")
    assert (found.after_s, found.mode, found.seed) == (2.5, Cut.TORN, 7)
    for text in ("", "x", "1:half", "-1", "nan", "inf", "1:torn:x"):
        with pytest.raises(UsageError):
            parse_cut(text)
