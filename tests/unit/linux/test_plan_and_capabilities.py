"""Mount plans as data, capability masks, numbers of system calls and ioctls: what needs no kernel."""

from __future__ import annotations

import termios

import pytest

from wherry.core.errors import InvalidInput
from wherry.linux import capabilities, libc, x, xcompat
from wherry.linux.masking import MaskPath, ReadOnlyPath
from wherry.linux.mount import MS_NODEV, MS_RDONLY
from wherry.linux.mountplan import MakeDirectory, MakeLink, MakeNode, describe
from wherry.linux.mountsteps import BindMount, NewMount, Remount
from wherry.linux.syscalls import LAST, known, numbers
from wherry.runtime import default


def test_a_plan_reads_like_commands() -> None:
    plan = (
        NewMount(fstype="proc", target="/proc", source="proc", attributes=x.MOUNT_ATTR_NOSUID | x.MOUNT_ATTR_NODEV),
        BindMount(source="/srv/www", target="/data", attr_set=x.MOUNT_ATTR_RDONLY),
        MakeDirectory(target="/work"),
        MakeLink(target="/dev/ptmx", points_to="pts/ptmx"),
        MakeNode(target="/dev/null", kind="c", major=1, minor=3),
        MaskPath(target="/proc/kcore"),
        ReadOnlyPath(target="/proc/sys"),
        Remount(target="/", attr_set=x.MOUNT_ATTR_RDONLY),
    )
    assert describe(plan) == (
        "mount -t proc proc /proc -o nosuid,nodev",
        "mount --rbind /srv/www /data -o ro",
        "mkdir -p -m 755 /work",
        "ln -s pts/ptmx /dev/ptmx",
        "mknod -m 666 /dev/null c 1 3",
        "mask /proc/kcore",
        "mount -o bind,ro /proc/sys /proc/sys",
        "mount -o remount,bind,ro /",
    )


def test_attributes_as_flags() -> None:
    assert xcompat.flags_of(x.MOUNT_ATTR_RDONLY | x.MOUNT_ATTR_NODEV) == MS_RDONLY | MS_NODEV


def test_capability_names_and_masks() -> None:
    assert capabilities.number("chown") == capabilities.number("CAP_CHOWN") == 0
    assert capabilities.number("cap_checkpoint_restore") == 40
    assert capabilities.mask(default.CAPABILITIES) == 0xA80425FB  # as /proc/PID/status shows it for docker's default
    assert set(capabilities.names(0xA80425FB)) == set(default.CAPABILITIES)
    with pytest.raises(InvalidInput, match="SYS_ADMINN"):
        capabilities.number("SYS_ADMINN")


def test_default_capabilities_with_more_and_fewer() -> None:
    assert capabilities.mask(default.capabilities().bounding) == 0xA80425FB
    assert default.capabilities(drop=("ALL",)).permitted == ()
    assert default.capabilities(drop=("all",), add=("net_admin",)).permitted == ("CAP_NET_ADMIN",)
    assert "CAP_NET_RAW" not in default.capabilities(drop=("NET_RAW",)).effective
    assert default.capabilities(privileged=True).bounding == capabilities.NAMES
    assert len(default.capabilities(add=("ALL",), drop=("SYS_ADMIN",)).bounding) == len(capabilities.NAMES) - 1
    assert default.capabilities().inheritable == default.capabilities().ambient == ()


def test_numbers_of_system_calls() -> None:
    assert numbers("x86_64")["read"] == 0
    assert numbers("aarch64")["read"] == numbers("riscv64")["read"] == 63
    assert numbers("armv7l")["read"] == numbers("i386")["read"] == 3
    assert "open" not in numbers("aarch64")
    assert {table["openat2"] for table in map(numbers, ("x86_64", "i386", "armv7l", "aarch64"))} == {437}
    assert known("set_tls")
    assert not known("no_such_call")
    assert max(number for number in numbers("x86_64").values()) == LAST


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "armv7l", "riscv64"])
def test_the_two_tables_agree(machine: str) -> None:
    for name, number in {**libc._COMMON, **libc._OLD[machine]}.items():
        assert numbers(machine)[name] == number, name


def test_ioctl_numbers_are_computed() -> None:
    assert libc.ioctl_number(1, "T", 0x31, 4) == 0x40045431  # TIOCSPTLCK
    assert libc.ioctl_number(2, "T", 0x30, 4) == getattr(termios, "TIOCGPTN", 0x80045430)
    assert libc.ioctl_number(0, "T", 0x41, 0) == 0x5441  # TIOCGPTPEER


def test_mounts_below_a_path() -> None:
    text = "".join(f"1 2 0:1 / {place} rw - tmpfs tmpfs rw\n" for place in ("/a", "/a/b", "/ab", "/a/c\\040d", "/"))
    assert xcompat.mounts_below("/a", text) == ["/a/b", "/a/c d"]
    assert xcompat.mounts_below("/", text) == ["/a", "/a/b", "/ab", "/a/c d", "/"]
