"""The default filter against the profile that containers-common ships, for every call, capability set and machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fixtures.bpf import run

from wherry.linux.seccomp_compile import AUDIT_ARCH, compile_profile
from wherry.linux.seccomp_profile import ALLOW
from wherry.linux.syscalls import numbers
from wherry.runtime import default, docker_seccomp

_SHIPPED = Path("/usr/share/containers/seccomp.json")
_FIRST_ARGUMENTS = (0, 1, 2, 16, 17, 38, 39, 40, 41, 0x20000, 0x10000000, 0x7E020000, 0x1_0000_0002, 2**64 - 1)
_ALLOWED_SINCE = {
    "cachestat",
    "fchmodat2",
    "futex_requeue",
    "futex_wait",
    "futex_waitv",
    "futex_wake",
    "getxattrat",
    "io_pgetevents",
    "io_pgetevents_time64",
    "listmount",
    "listxattrat",
    "map_shadow_stack",
    "mseal",
    "removexattrat",
    "riscv_flush_icache",
    "riscv_hwprobe",
    "setxattrat",
    "statmount",
    "uretprobe",
    "vmsplice",
}
"""Calls that docker's profile allows to everyone, and that are newer than the one that is shipped, or were left out."""
_ALLOWED_SINCE_WITH_CAPABILITY = {
    "CAP_SYS_ADMIN": {"lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "open_tree_attr", "quotactl_fd"},
    "CAP_SYS_NICE": {"set_mempolicy_home_node"},
    "CAP_BPF": {"bpf"},
    "CAP_PERFMON": {"perf_event_open"},
}
_SETS = {
    "none": (),
    "default": default.CAPABILITIES,
    "admin": (*default.CAPABILITIES, "CAP_SYS_ADMIN"),
    "some": ("CAP_BPF", "CAP_PERFMON", "CAP_SYSLOG", "CAP_SYS_PTRACE", "CAP_SYS_NICE", "CAP_SYS_MODULE"),
}
_FORBIDDEN_TO_ALL = [
    "add_key",
    "keyctl",
    "request_key",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "userfaultfd",
    "kexec_load",
    "kexec_file_load",
    "pivot_root",
    "swapon",
    "swapoff",
    "nfsservctl",
]


@pytest.mark.parametrize("capabilities", _SETS.values(), ids=_SETS)
@pytest.mark.parametrize(("machine", "others"), [("x86_64", ("i386",)), ("aarch64", ("armv7l",)), ("riscv64", ())])
def test_nothing_is_allowed_that_is_not_allowed_there(
    machine: str, others: tuple[str, ...], capabilities: tuple[str, ...]
) -> None:
    shipped = docker_seccomp.parse(
        _SHIPPED.read_bytes(), capabilities=capabilities, kernel=(6, 1), machine=machine, where=_SHIPPED
    )
    theirs = compile_profile(shipped, machine).code
    ours = compile_profile(default.seccomp_profile(capabilities), machine).code
    known = _ALLOWED_SINCE.union(
        *(names for cap, names in _ALLOWED_SINCE_WITH_CAPABILITY.items() if cap in capabilities)
    )
    for architecture in (machine, *others):
        arch = AUDIT_ARCH[architecture]
        table = numbers(architecture)
        looser = {
            name
            for name, number in table.items()
            for first in _FIRST_ARGUMENTS
            if run(ours, arch, number, (first,)) == ALLOW != run(theirs, arch, number, (first,))
        }
        assert looser <= known
        for name in _FORBIDDEN_TO_ALL:
            assert name not in table or run(ours, arch, table[name]) != ALLOW, name
