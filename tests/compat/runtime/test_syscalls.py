"""The table of system calls against libseccomp's, for every architecture and name that both know."""

from __future__ import annotations

import ctypes

import pytest

from wherry.linux.seccomp_compile import AUDIT_ARCH
from wherry.linux.syscalls import LAST, numbers

_HIGHEST = 0xF0010


@pytest.mark.parametrize("machine", ["x86_64", "i386", "armv7l", "aarch64", "riscv64"])
def test_numbers_are_libseccomps(machine: str) -> None:
    library = ctypes.CDLL("libseccomp.so.2")
    resolve = library.seccomp_syscall_resolve_name_arch
    resolve.argtypes = (ctypes.c_uint32, ctypes.c_char_p)
    compared = 0
    for name, number in numbers(machine).items():
        theirs = resolve(AUDIT_ARCH[machine], name.encode())
        if theirs >= 0:  # else libseccomp does not know it, or not there
            assert theirs == number, name
            compared += 1
    assert compared > 300


@pytest.mark.parametrize("machine", ["x86_64", "i386", "armv7l", "aarch64"])
def test_no_number_is_missing(machine: str) -> None:
    library = ctypes.CDLL("libseccomp.so.2")
    resolve = library.seccomp_syscall_resolve_num_arch
    resolve.argtypes = (ctypes.c_uint32, ctypes.c_int)
    resolve.restype = ctypes.c_char_p
    ours = set(numbers(machine).values())
    for number in (*range(LAST + 1), *range(0xF0000, _HIGHEST)):
        name = resolve(AUDIT_ARCH[machine], number)
        assert name is None or number in ours, name
