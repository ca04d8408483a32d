"""The record of a build: read strictly where it matters, kept whole where it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wherry.core.errors import InvalidInput, NotFound, Unsupported
from wherry.core.jsonio import pretty
from wherry.spec.codec import encode
from wherry.spec.host_record import FILE, MAX_RECORD_BYTES, parse_host_record, read_host_record

DOCUMENT: dict[str, Any] = {
    "format": 1,
    "name": "my-device",
    "architecture": "arm64",
    "builder": "debian",
    "target": "virt/qemu",
    "board": {
        "title": "QEMU",
        "console": "ttyAMA0",
        "boot": "uefi",
        "machine": {"machine": "virt", "cpu": "cortex-a57", "cpus": 2, "later": [1]},
    },
    "boot": {"kernel": "output/boot/kernel", "command_line": ["root=LABEL=root"]},
    "images": {"disk": {"path": "output/images/disk.img", "kind": "disk", "size_bytes": 5, "sha256": "ab"}},
    "commit": "00",
    "later": {"yes": True},
}


def test_round_trip_keeps_what_it_does_not_know() -> None:
    record = parse_host_record(json.dumps(DOCUMENT).encode())
    assert record.board.machine.cpus == 2
    assert record.board.machine.extra == {"later": [1]}
    assert record.images["disk"].path == "output/images/disk.img"
    written = encode(record)
    assert written["format"] == 1
    assert parse_host_record(pretty(written).encode()) == record
    assert written["later"] == {"yes": True}
    assert written["board"]["machine"]["later"] == [1]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"format": 2}, Unsupported),
        ({"format": "1"}, InvalidInput),
        ({"images": {"disk": {"path": "/etc/passwd"}}}, InvalidInput),
        ({"images": {"disk": {"path": "output/../../x"}}}, InvalidInput),
        ({"boot": {"kernel": "../kernel"}}, InvalidInput),
        ({"board": {"device_tree": "a/../../b"}}, InvalidInput),
        ({"board": {"machine": {"cpus": "two"}}}, InvalidInput),
        ({"images": []}, InvalidInput),
    ],
)
def test_bad_records_are_refused(change: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_host_record(json.dumps({**DOCUMENT, **change}).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b" " * (MAX_RECORD_BYTES + 1)])
def test_no_record_at_all(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_host_record(data)


def test_a_workspace_without_a_build_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="wherry host build"):
        read_host_record(tmp_path)
    (tmp_path / FILE).parent.mkdir()
    (tmp_path / FILE).write_text(json.dumps(DOCUMENT))
    assert read_host_record(tmp_path).name == "my-device"
