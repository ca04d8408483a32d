"""State on disk, and telling a process that lives from one that is gone or that another took the number of."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from wherry.core.errors import InvalidInput, NotFound
from wherry.core.value import replace
from wherry.runtime import channel
from wherry.runtime.cgroup import Cgroup, Group
from wherry.runtime.container import Created, ended_state
from wherry.runtime.state import FILE, State, Status, boot_id, load_state, save, start_ticks, unchanged

GROUPS = (Group(1, ("cpu", "cpuacct"), "/sys/fs/cgroup/cpu/wherry/x"), Group(2, (), "/sys/fs/cgroup/unified/wherry/x"))


def own_state() -> State:
    return State(
        container_id="x",
        pid=os.getpid(),
        start_ticks=start_ticks(os.getpid()) or 0,
        boot_id=boot_id(),
        cgroup=Cgroup(GROUPS),
        namespaces=0x20000,
        filter=b"\x01\x02",
        devices_unguarded=True,
        created_s=1_700_000_000,
        status=Status.RUNNING,
    )


def test_round_trip(tmp_path: Path) -> None:
    save(tmp_path, own_state())
    found = load_state(tmp_path)
    assert (found.pid, found.status, found.filter, found.namespaces) == (
        os.getpid(),
        Status.RUNNING,
        b"\x01\x02",
        0x20000,
    )
    assert found.cgroup.groups == GROUPS
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_what_nobody_has_changed_is_not_read_again(tmp_path: Path) -> None:
    state = own_state()
    mark = save(tmp_path, state)
    end, other = channel.pair()
    created = Created(state.pid, -1, None, str(tmp_path), end, state, mark)
    (tmp_path / FILE).write_text("no state")  # in place, as nobody does
    os.utime(tmp_path / FILE, ns=(mark[1], mark[1]))
    assert unchanged(tmp_path, mark)
    assert ended_state(created) == replace(state, status=Status.STOPPED)
    more = replace(state, cgroup=Cgroup(GROUPS[:1]), pid=2**22 + 1)
    save(tmp_path, more)  # as an update does that had to join a group
    assert not unchanged(tmp_path, mark)
    assert ended_state(created).cgroup.groups == GROUPS[:1]
    (tmp_path / FILE).unlink()
    assert not unchanged(tmp_path, mark)
    with pytest.raises(NotFound):
        ended_state(created)
    end.close()
    other.close()


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "another"}, {"pid": 2**22 + 1}])
def test_another_process_or_another_boot_is_stopped(tmp_path: Path, change: dict[str, object]) -> None:
    save(tmp_path, replace(own_state(), **change))
    assert load_state(tmp_path).status is Status.STOPPED


def test_a_zombie_is_stopped(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert start_ticks(pid) is None
    finally:
        os.waitpid(pid, 0)


def test_a_name_with_parentheses_does_not_confuse(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    fields = " ".join(str(number) for number in range(4, 52))
    (tmp_path / "7/stat").write_text(f"7 (a) S (b)) R {fields}\n")
    assert start_ticks(7, str(tmp_path)) == 22


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no container"):
        load_state(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version":2}', '{"version":1,"pid":"x"}', "\0"])
def test_a_damaged_file(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(InvalidInput):
        load_state(tmp_path)


def test_the_channel_carries_failures_whole() -> None:
    ours, theirs = channel.pair()
    try:
        error = OSError(2, "No such file", "/a\nb")
        channel.send_failure(theirs.fileno(), "a step", error)
        assert channel.failure_of(channel.receive(ours)[1]) == channel.Failure(
            errno=2, step="a step", text="No such file: /a\nb"
        )
        channel.send_failure(theirs.fileno(), "a step", ValueError("x" * 10_000))
        failure = channel.failure_of(channel.receive(ours)[1])
        assert (failure.errno, len(failure.text)) == (0, 1024)
        theirs.shutdown(socket.SHUT_RDWR)
        assert channel.receive(ours) == (b"", b"", None)
    finally:
        ours.close()
        theirs.close()
