"""System call filters as values: what happens to which calls, as the OCI runtime specification words it.

The words are the specification's own (``SCMP_CMP_EQ``, ``SCMP_ARCH_X86_64``, ``SECCOMP_FILTER_FLAG_LOG``); an action
is the number that a filter returns to the kernel. `seccomp_compile` makes a program of a profile, `seccomp` loads it.
Source: Runtime Specification 1.2.0, config-linux.md, "Seccomp"; include/uapi/linux/seccomp.h.
"""

from __future__ import annotations

from wherry.core.value import Value

KILL_PROCESS = 0x80000000
KILL_THREAD = 0x00000000
TRAP = 0x00030000
NOTIFY = 0x7FC00000
LOG = 0x7FFC0000
ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_TRACE = 0x7FF00000
_ACTION_BITS = 0xFFFF0000
_DATA_BITS = 0x0000FFFF
MAX_ERRNO = 4095
"""The kernel returns no larger one (MAX_ERRNO of include/linux/err.h)."""
MAX_TRACE = _DATA_BITS

FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1 << 0,
    "SECCOMP_FILTER_FLAG_LOG": 1 << 1,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 1 << 2,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 1 << 5,
}
"""Those that a profile may ask for, and their bits."""

ARCHITECTURES = {
    "SCMP_ARCH_X86_64": "x86_64",
    "SCMP_ARCH_X86": "i386",
    "SCMP_ARCH_X32": "",
    "SCMP_ARCH_AARCH64": "aarch64",
    "SCMP_ARCH_ARM": "armv7l",
    "SCMP_ARCH_RISCV64": "riscv64",
    **dict.fromkeys(
        f"SCMP_ARCH_{name}"
        for name in (
            *("LOONGARCH64", "M68K", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32", "PARISC"),
            *("PARISC64", "PPC", "PPC64", "PPC64LE", "S390", "S390X", "SH", "SHEB"),
        )
    ),
}
"""Architectures by the specification's names -> as what `syscalls` knows them, or nothing."""


def error(code: int) -> int:
    """Returns the action that lets a call fail with an errno."""
    return _ERRNO | (code & _DATA_BITS)


def trace(message: int) -> int:
    """Returns the action that hands a call to a tracer, which sees the message; without a tracer it is ENOSYS."""
    return _TRACE | (message & _DATA_BITS)


def is_error(action: int) -> bool:
    """Tells whether an action is one of `error`."""
    return action & _ACTION_BITS == _ERRNO


def is_trace(action: int) -> bool:
    """Tells whether an action is one of `trace`."""
    return action & _ACTION_BITS == _TRACE


def data_of(action: int) -> int:
    """Returns the errno or the message that an action carries."""
    return action & _DATA_BITS


class Op:
    """How an argument, as an unsigned number of 64 bits, is compared."""

    EQ = "SCMP_CMP_EQ"
    NE = "SCMP_CMP_NE"
    LT = "SCMP_CMP_LT"
    LE = "SCMP_CMP_LE"
    GT = "SCMP_CMP_GT"
    GE = "SCMP_CMP_GE"
    MASKED_EQ = "SCMP_CMP_MASKED_EQ"


OPS = (Op.EQ, Op.NE, Op.LT, Op.LE, Op.GT, Op.GE, Op.MASKED_EQ)


class Condition(Value):
    """One comparison of an argument; for MASKED_EQ, ``value_of_argument & mask == value``."""

    argument: int
    op: str
    value: int
    mask: int = 0xFFFFFFFFFFFFFFFF


class Rule(Value):
    """What happens to some calls when all conditions hold.

    Of several rules for a call, one without conditions decides alone, the first of such; else the first that fits.
    """

    names: tuple[str, ...]
    action: int
    conditions: tuple[Condition, ...] = ()


class Profile(Value):
    """A whole filter."""

    default_action: int
    rules: tuple[Rule, ...] = ()
    architectures: tuple[str, ...] = ()
    """As what processes may call the kernel besides this machine's own: names of `ARCHITECTURES`."""
    flags: tuple[str, ...] = ()
    """Names of `FLAGS`."""
    listener_path: str = ""
    """The UNIX socket of whoever answers calls of NOTIFY."""
    listener_metadata: str = ""
    """What is told to it."""


def notifies(profile: Profile) -> bool:
    """Tells whether a profile hands calls to a listener."""
    return NOTIFY in (profile.default_action, *(rule.action for rule in profile.rules))
