"""Devices by an eBPF program on version 2: this host's hybrid mount has no controllers, and needs none for that."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.runtime.containers import CONTROLLERS_V1, Runner, make_spec, status_fields

from wherry.linux import bpf
from wherry.runtime import cgroup_devices, default
from wherry.runtime.cgroup import Cgroup, hierarchies
from wherry.runtime.cgroup_devices import DeviceList
from wherry.runtime.resources import DeviceRule, Resources

V2 = tuple(found for found in hierarchies() if found.version == 2)
NULL, ZERO, FULL = (1, 3), (1, 5), (1, 7)
DENY = DeviceRule(allow=False)


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    made = Cgroup.create(f"/wherry/test-{uuid.uuid4().hex[:12]}", found=V2)
    yield made
    made.remove()


def rule(allow: bool, device: tuple[int, int] | None, access: str) -> DeviceRule:
    major, minor = device or (None, None)
    return DeviceRule(allow=allow, type="c", major=major, minor=minor, access=access)


def tries(cgroup: Cgroup, folder: Path) -> str:
    """What a process in the group may do with null, zero and full: r, w and m, or - where it may not."""
    attempts: list[Callable[[str, tuple[int, int]], object]] = [
        lambda path, _: os.close(os.open(path, os.O_RDONLY)),
        lambda path, _: os.close(os.open(path, os.O_WRONLY)),
        lambda path, device: os.mknod(f"{folder}/made", stat.S_IFCHR | 0o600, os.makedev(*device)),
    ]
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        cgroup.attach(os.getpid())
        found = ""
        for path, device in (("/dev/null", NULL), ("/dev/zero", ZERO), ("/dev/full", FULL)):
            for letter, attempt in zip("rwm", attempts, strict=True):
                try:
                    attempt(path, device)
                    found += letter
                except PermissionError:
                    found += "-"
                except FileExistsError:
                    found += "?"
            if os.path.exists(f"{folder}/made"):
                os.unlink(f"{folder}/made")
            found += " "
        os.write(write_end, found.encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as reader:
        text = reader.read()
    os.waitpid(pid, 0)
    return text.strip()


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((DENY,), "--- --- ---"),
        ((DENY, rule(True, NULL, "rwm")), "rwm --- ---"),
        ((DENY, rule(True, NULL, "r"), rule(True, NULL, "w")), "rw- --- ---"),
        ((DENY, rule(True, NULL, "rwm"), rule(False, NULL, "w")), "r-m --- ---"),
        ((DENY, rule(True, None, "m"), rule(True, ZERO, "rw")), "--m rwm --m"),
        ((rule(False, ZERO, "w"),), "rwm r-m rwm"),
        ((DENY, rule(True, NULL, "rwm"), DeviceRule(allow=True)), "rwm rwm rwm"),
        ((rule(True, NULL, "r"), DENY), "--- --- ---"),
    ],
)
def test_rules(cgroup: Cgroup, tmp_path: Path, rules: tuple[DeviceRule, ...], expected: str) -> None:
    cgroup.apply(Resources(devices=rules))
    assert cgroup.controls_devices
    assert tries(cgroup, tmp_path) == expected


def test_a_change_takes_the_place_of_the_program_before(cgroup: Cgroup, tmp_path: Path) -> None:
    cgroup.apply(Resources(devices=(DENY,)))
    cgroup.update(Resources(devices=(DENY, rule(True, FULL, "rw"))))
    assert tries(cgroup, tmp_path) == "--- --- rw-"
    fd = os.open(cgroup.groups[0].path, os.O_RDONLY)
    try:
        assert len(bpf.attached(fd)) == 1
    finally:
        os.close(fd)


def test_a_long_list_is_taken(cgroup: Cgroup, tmp_path: Path) -> None:
    many = tuple(DeviceRule(allow=True, type="b", major=1000, minor=minor) for minor in range(2000))
    cgroup.apply(Resources(devices=(DENY, *many, rule(True, NULL, "rw"))))
    assert cgroup.controls_devices
    assert tries(cgroup, tmp_path) == "rw- --- ---"


def test_without_programs_there_are_no_device_nodes(
    runner: Runner, busybox_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, rules: tuple[DeviceRule, ...]) -> None:
        raise PermissionError(path, len(rules))

    monkeypatch.setattr(cgroup_devices, "attach_program", refuse)
    seen = runner.run(make_spec("sh", "-c", "cat /proc/self/status; grep ' / ' /proc/self/mounts"), busybox_tree).out
    if "devices" in CONTROLLERS_V1:
        assert status_fields(seen)["CapEff"] == "00000000a80425fb"
    else:
        assert status_fields(seen)["CapEff"] == "00000000a00425fb"
        assert "nodev" in seen


def test_the_default_list_is_a_short_program() -> None:
    program = DeviceList(default.DEVICE_RULES).program()
    assert len(program) % 8 == 0
    assert len(program) // 8 < 200
