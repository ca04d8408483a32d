"""System call filters in the kernel: a compiled program, loaded by seccomp(2).

Loading is all that a container's first process does with a filter; values (`seccomp_profile`) and the compiler
(`seccomp_compile`) are not loaded for a filter that is there in bytes.
Source: seccomp(2), seccomp_unotify(2).
"""

from __future__ import annotations

from wherry.linux import libc
from wherry.linux.quick_ctypes import Structure, byref, c_char_p, c_uint, c_ushort, c_void_p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.linux.seccomp_profile import Profile

_INSTRUCTION_BYTES = 8
_SECCOMP_SET_MODE_FILTER = 1
_TSYNC = 1 << 0
_NEW_LISTENER = 1 << 3
_WAIT_KILLABLE_RECV = 1 << 5


class _SockFprog(Structure):
    _fields_ = [("len", c_ushort), ("filter", c_char_p)]


_seccomp = libc.system_call("seccomp", c_uint, c_uint, c_void_p)


class Program:
    """A compiled filter, ready to be loaded; loading allocates nothing.

    Args:
        code: the instructions.
        flags: SECCOMP_FILTER_FLAG_*, as bits.
        notifies: it hands calls to a listener, so that loading it gives a descriptor.
    """

    def __init__(self, code: bytes, flags: int = 0, *, notifies: bool = False) -> None:
        self.code = code
        self.flags = flags
        self.notifies = notifies
        # TSYNC with a listener would return a thread's id or a descriptor; there is but one thread. The kernel
        # refuses WAIT_KILLABLE_RECV where nobody receives.
        self._flags = (flags & ~_TSYNC | _NEW_LISTENER) if notifies else flags & ~_WAIT_KILLABLE_RECV
        self._fprog = _SockFprog(len(code) // _INSTRUCTION_BYTES, code)

    def load(self) -> int:
        """Filters this process and all its children from now on; needs no_new_privs or CAP_SYS_ADMIN.

        Returns:
            the listener's descriptor, closed on exec, of a program that notifies; of others nothing that counts.
        """
        return _seccomp(_SECCOMP_SET_MODE_FILTER, self._flags, byref(self._fprog))


def compile_profile(profile: Profile, machine: str = "") -> Program:
    """Compiles a profile: `seccomp_compile.compile_profile`, which is loaded when there is something to compile."""
    from wherry.linux.seccomp_compile import compile_profile as compiled

    return compiled(profile, machine)
