"""Addresses of machines, and what is run there: nothing that a user or a host is called becomes an option."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from wherry.core.errors import InvalidInput, NetworkError, NotFound, NotPermitted, ToolError, WherryError
from wherry.core.streaming import Finished
from wherry.image.remote import Machine, parse_options


def test_addresses() -> None:
    assert Machine.parse("ssh://robot") == Machine(host="robot")
    assert Machine.parse("ssh://ann@robot.local:2222/srv/root fs") == Machine(
        host="robot.local", user="ann", port=2222, path="/srv/root fs"
    )
    assert Machine.parse("ssh://root@[fe80::1%eth0]:22").host == "fe80::1%eth0"
    command = Machine.parse("ssh://ann@robot:2222").command()
    assert command[:-1] == ["ssh", "-T", "-o", "BatchMode=no", "-p", "2222", "-l", "ann", "--", "robot"]


@pytest.mark.parametrize(
    "url",
    [
        "ssh://", "ssh://-oProxyCommand=x", "ssh://-x@host", "ssh://a b", "ssh://host:99999", "ssh://@host",
        "ssh://host:x", "ssh://user@ho$t", "ssh://a@b@c", "ssh://host\0", "ssh://[::1", "ssh://host;ls",
    ],
)  # fmt: skip
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(InvalidInput):
        Machine.parse(url)


def test_host_keys_are_checked() -> None:
    assert parse_options(["IdentityFile=/key", "StrictHostKeyChecking=accept-new"])
    for option in ("StrictHostKeyChecking=no", "stricthostkeychecking off", 'StrictHostKeyChecking="no"', "x", "-o=y"):
        with pytest.raises(InvalidInput):
            parse_options([option])


def test_the_remote_command_is_one_for_any_shell(tmp_path: Path) -> None:
    folder = tmp_path / "it's $HOME; `id`"
    folder.mkdir()
    (folder / "file").write_text("x")
    (folder / "proc").mkdir()
    (folder / "proc/one").touch()
    command = Machine(host="h", path=str(folder)).remote_command()
    archive = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=True).stdout
    listed = subprocess.run(["tar", "-t"], input=archive, capture_output=True, check=True).stdout.decode().split()
    assert sorted(listed) == ["./", "./file", "./proc/"]
    none = Machine(host="h", path="/no/such").remote_command()
    assert subprocess.run(["/bin/sh", "-c", none], capture_output=True, check=False).returncode == 3


@pytest.mark.parametrize(
    ("status", "said", "error"),
    [
        (255, "ssh: connect to host h port 22: Connection refused", NetworkError),
        (255, "Host key verification failed.", NetworkError),
        (2, "tar: ./etc/shadow: Cannot open: Permission denied", NotPermitted),
        (1, "", None),
        (3, "sh: 1: cd: can't cd to /no", NotFound),
        (2, "tar: something", ToolError),
        (1, "wherry: not GNU tar\ntar: unrecognized option", ToolError),
        (127, "sh: tar: not found", ToolError),
    ],
)
def test_how_it_ends(status: int, said: str, error: type[WherryError] | None) -> None:
    notes: list[str] = []
    machine, finished = Machine(host="h"), Finished(status=status, said=said)
    if error is None:
        machine.check(finished, notes.append)
        assert notes == ["files were changed while they were read"]
        return
    with pytest.raises(error):
        machine.check(finished, notes.append)
