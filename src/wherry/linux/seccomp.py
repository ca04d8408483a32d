"""System call filters: a profile, compiled to classic BPF by hand, and loaded."""

from __future__ import annotations

from ctypes import Structure, byref, c_char_p, c_uint, c_ushort, c_void_p
from typing import NamedTuple

from wherry.linux.libc import system_call


class Profile(NamedTuple):
    """Placeholder until compiled."""

    default_errno: int = 1


class _SockFprog(Structure):
    _fields_ = [("len", c_ushort), ("filter", c_char_p)]


_SECCOMP_SET_MODE_FILTER = 1
_INSTRUCTION_BYTES = 8
_seccomp = system_call("seccomp", c_uint, c_uint, c_void_p)


class Program:
    """A compiled filter, ready to be loaded."""

    def __init__(self, code: bytes) -> None:
        self.code = code
        self._fprog = _SockFprog(len(code) // _INSTRUCTION_BYTES, code)

    def load(self) -> None:
        """Filters this process and all its children from now on."""
        _seccomp(_SECCOMP_SET_MODE_FILTER, 0, byref(self._fprog))


def compile_profile(profile: Profile) -> Program:
    """Compile."""
    raise NotImplementedError
