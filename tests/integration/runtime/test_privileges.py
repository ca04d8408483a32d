"""What a process in a container may do: users, capabilities, calls that are forbidden."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.runtime.containers import (
    DEFAULT_CAPABILITIES,
    Result,
    Runner,
    make_spec,
    status_fields,
)

from wherry.linux import capabilities
from wherry.runtime import default
from wherry.runtime.spec import Capabilities

Shell = Callable[..., Result]


def test_privileges_are_dockers_default(runner: Runner, busybox_tree: Path) -> None:
    fields = status_fields(runner.run(make_spec("cat", "/proc/self/status"), busybox_tree).out)
    assert capabilities.mask(default.CAPABILITIES) == 0xA80425FB
    expected = f"{DEFAULT_CAPABILITIES:016x}"
    assert [fields[key] for key in ("CapPrm", "CapEff", "CapBnd")] == [expected] * 3
    assert [fields[key] for key in ("CapInh", "CapAmb")] == ["0" * 16] * 2
    assert (fields["Seccomp"], fields["NoNewPrivs"]) == ("2", "1")
    assert (fields["SigBlk"], fields["SigIgn"]) == ("0" * 16, "0" * 16)


def test_another_user(sh: Shell) -> None:
    user = {"uid": 1000, "gid": 1001, "additional_gids": (1002, 1003), "umask": 0o027, "cwd": "/tmp"}
    seen = sh("id -u; id -g; id -G; pwd; umask; cat /proc/self/status; cat /root/x; touch /x", process=user)
    lines = seen.out.splitlines()
    assert lines[:5] == ["1000", "1001", "1001 1002 1003", "/tmp", "0027"]
    fields = status_fields(seen.out)
    assert fields["CapEff"] == fields["CapPrm"] == "0" * 16
    assert fields["CapBnd"] == f"{DEFAULT_CAPABILITIES:016x}"
    assert "Permission denied" in seen.out


def test_ambient_capabilities_reach_a_user(sh: Shell) -> None:
    names = ("CAP_NET_BIND_SERVICE",)
    sets = Capabilities(bounding=names, effective=names, permitted=names, inheritable=names, ambient=names)
    fields = status_fields(sh("cat /proc/self/status", process={"uid": 1000, "capabilities": sets}).out)
    assert {fields[key] for key in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb")} == {"0000000000000400"}


def test_a_user_can_open_its_standard_output_again(sh: Shell) -> None:
    assert sh("echo hello > /dev/stdout", process={"uid": 1000, "gid": 1000}).out == "hello\n"


@pytest.mark.parametrize("new_privileges", [True, False])
def test_forbidden_calls(sh: Shell, new_privileges: bool) -> None:
    forbidden = ("unshare -m true", "mount -t tmpfs x /tmp", "umount /proc", "hostname other", "date -s 2001-01-01")
    script = "; ".join(f"{command} && echo done" for command in forbidden[:-1]) + f"; {forbidden[-1]}"
    seen = sh(script, process={"no_new_privileges": not new_privileges})
    assert "done" not in seen.out
    assert seen.out.count("Operation not permitted") >= 3
    assert "can't set date: Operation not permitted" in seen.out


def test_without_a_filter_more_is_refused_by_capabilities_alone(sh: Shell) -> None:
    seen = sh("cat /proc/self/status; mount -t tmpfs x /tmp", seccomp=None)
    assert status_fields(seen.out)["Seccomp"] == "0"
    assert seen.status != 0
