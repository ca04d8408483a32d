"""System call filters: a profile as data, compiled to classic BPF by hand, and loaded by seccomp(2).

The program, for each architecture that a process of this machine may call the kernel as::

    ld  arch ; jeq X86_64 ─no─▶ next block
    ld  nr   ; a binary search over ranges of numbers that share one fate
               ├─ ret ACTION
               └─ conditions on arguments, 32 bits at a time ; ret ACTION ; ret DEFAULT
    ...
    ret ERRNO(ENOSYS)          any other architecture

Numbers past the last known call, and x32 calls on x86_64, get ENOSYS rather than the default action, so that a
program falls back from a call that is newer than the profile. Refused by name: more instructions than the kernel
takes, and a rule that forbids a call nobody knows (one that allows such a call is left out).
Source: seccomp(2); Documentation/userspace-api/seccomp_filter.rst; include/uapi/linux/{seccomp,audit,bpf_common}.h.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Sequence
from ctypes import Structure, byref, c_char_p, c_uint, c_ushort, c_void_p
from functools import lru_cache
from struct import pack
from typing import NamedTuple

from wherry.core.errors import InvalidInput
from wherry.linux import libc
from wherry.linux.syscalls import LAST, known, numbers

KILL_PROCESS = 0x80000000
KILL_THREAD = 0x00000000
TRAP = 0x00030000
LOG = 0x7FFC0000
ALLOW = 0x7FFF0000
_ERRNO = 0x00050000

AUDIT_ARCH = {
    "x86_64": 0xC000003E,
    "i386": 0x40000003,
    "aarch64": 0xC00000B7,
    "armv7l": 0x40000028,
    "riscv64": 0xC00000F3,
}
_ARCHITECTURES = {
    "x86_64": ("x86_64", "i386"),
    "aarch64": ("aarch64", "armv7l"),
    "armv7l": ("armv7l",),
    "riscv64": ("riscv64",),
}
"""Machine -> as what its processes may call the kernel."""
_X32_BIT = 0x40000000

_LD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JA = 0x05
_JEQ = 0x15
_JGT = 0x25
_JGE = 0x35
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_RET = 0x06
_OFFSET_NUMBER, _OFFSET_ARCH, _OFFSET_ARGS = 0, 4, 16
_MAX_INSTRUCTIONS = 4096
_MAX_SHORT_JUMP = 255
_MAX_ARGUMENTS = 6
_INSTRUCTION_BYTES = 8
_SECCOMP_SET_MODE_FILTER = 1
_LOW = 0xFFFFFFFF


def error(code: int) -> int:
    """Returns the action that lets a call fail with an errno."""
    return _ERRNO | (code & 0xFFFF)


class Op(enum.StrEnum):
    """How an argument, as an unsigned number of 64 bits, is compared."""

    EQ = "=="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    MASKED_EQ = "&=="


class Condition(NamedTuple):
    """One comparison of an argument; for MASKED_EQ, ``value_of_argument & mask == value``."""

    argument: int
    op: Op
    value: int
    mask: int = 0xFFFFFFFFFFFFFFFF


class Rule(NamedTuple):
    """What happens to some calls when all conditions hold; of several rules for a call the first that fits counts."""

    names: tuple[str, ...]
    action: int
    conditions: tuple[Condition, ...] = ()


class Profile(NamedTuple):
    """A whole filter."""

    default_action: int
    rules: tuple[Rule, ...]


class _Jump(enum.Enum):
    """Where a comparison of a condition leads, until the distance is known."""

    HOLDS = 1
    FAILS = 2


class _Instruction(NamedTuple):
    code: int
    k: int
    true: int | _Jump = 0
    false: int | _Jump = 0


_Fate = int | tuple[Rule, ...]
"""What becomes of a number: an action, or rules with conditions in their order."""


class _SockFprog(Structure):
    _fields_ = [("len", c_ushort), ("filter", c_char_p)]


_seccomp = libc.system_call("seccomp", c_uint, c_uint, c_void_p)


class Program:
    """A compiled filter, ready to be loaded; loading allocates nothing."""

    def __init__(self, code: bytes) -> None:
        self.code = code
        self._fprog = _SockFprog(len(code) // _INSTRUCTION_BYTES, code)

    def load(self) -> None:
        """Filters this process and all its children from now on; needs no_new_privs or CAP_SYS_ADMIN."""
        _seccomp(_SECCOMP_SET_MODE_FILTER, 0, byref(self._fprog))


@lru_cache(maxsize=16)
def compile_profile(profile: Profile, machine: str = "") -> Program:
    """Compiles a profile.

    Args:
        profile: the filter.
        machine: for which it is; this one, unless given.

    Raises:
        InvalidInput: it forbids an unknown call, names an argument that is not there, or becomes too long.
    """
    code: list[_Instruction] = [_Instruction(_LD, _OFFSET_ARCH)]
    for architecture in _ARCHITECTURES[machine or libc.machine()]:
        block = _block(profile, architecture)
        code += [_Instruction(_JEQ, AUDIT_ARCH[architecture], 1, 0), _Instruction(_JA, len(block)), *block]
    code.append(_Instruction(_RET, error(errno.ENOSYS)))
    if len(code) > _MAX_INSTRUCTIONS:
        raise InvalidInput(f"a system call filter of {len(code)} instructions; the kernel takes {_MAX_INSTRUCTIONS}")
    return Program(b"".join(pack("=HBBI", step.code, step.true, step.false, step.k) for step in code))


def _block(profile: Profile, architecture: str) -> list[_Instruction]:
    table = numbers(architecture)
    fates: dict[int, _Fate] = {}
    for rule in profile.rules:
        for name in rule.names:
            number = table.get(name)
            if number is None:
                if rule.action != ALLOW and rule.action != profile.default_action and not known(name):
                    raise InvalidInput(f"a system call filter forbids a call that is not known: {name}")
                continue
            before = fates.get(number, ())
            if isinstance(before, tuple):  # else an earlier rule without conditions has decided
                fates[number] = (*before, rule) if rule.conditions or before else rule.action
    segments = _segments(fates, profile.default_action, architecture)
    return [_Instruction(_LD, _OFFSET_NUMBER), *_search(segments, profile.default_action)]


def _segments(fates: dict[int, _Fate], default: int, architecture: str) -> list[tuple[int, _Fate]]:
    """Returns (first number, fate) of every range of numbers that share a fate, in order, from 0 on."""
    unknown = error(errno.ENOSYS)
    points: list[tuple[int, _Fate]] = [(0, default)]
    for number in sorted(fates):
        if number > LAST >= points[-1][0]:
            points.append((LAST + 1, unknown))
        points.append((number, fates[number]))
        points.append((number + 1, unknown if number >= LAST else default))
    if points[-1][0] <= LAST:
        points.append((LAST + 1, unknown))
    if architecture == "x86_64":
        points = [point for point in points if point[0] < _X32_BIT]
        points.append((_X32_BIT, unknown))
    result: list[tuple[int, _Fate]] = []
    for start, fate in points:
        if result and result[-1][0] == start:
            result.pop()
        if not result or result[-1][1] != fate:
            result.append((start, fate))
    return result


def _search(segments: Sequence[tuple[int, _Fate]], default: int) -> list[_Instruction]:
    """Returns the search for the segment that the loaded number is in, with each fate inlined where it ends."""
    if len(segments) == 1:
        fate = segments[0][1]
        return [_Instruction(_RET, fate)] if isinstance(fate, int) else _decide(fate, default)
    middle = len(segments) // 2
    low, high = _search(segments[:middle], default), _search(segments[middle:], default)
    split = segments[middle][0]
    if len(low) <= _MAX_SHORT_JUMP:
        return [_Instruction(_JGE, split, len(low), 0), *low, *high]
    return [_Instruction(_JGE, split, 0, 1), _Instruction(_JA, len(low)), *low, *high]


def _decide(rules: tuple[Rule, ...], default: int) -> list[_Instruction]:
    """Returns the code that tries rules in their order."""
    code: list[_Instruction] = []
    for rule in rules:
        body: list[_Instruction] = []
        for condition in rule.conditions:
            body += _resolve(_compare(condition), fails=None)
        body.append(_Instruction(_RET, rule.action))
        code += _resolve(body, fails=len(body))
        if not rule.conditions:
            return code
    return [*code, _Instruction(_RET, default)]


def _resolve(body: list[_Instruction], *, fails: int | None) -> list[_Instruction]:
    """Turns marks into distances: HOLDS is the end of the body, FAILS is `fails` when that is known already."""
    result = []
    for index, step in enumerate(body):
        jumps = []
        for jump in (step.true, step.false):
            if jump is _Jump.HOLDS:
                jump = len(body) - index - 1
            elif jump is _Jump.FAILS and fails is not None:
                jump = fails - index - 1
            jumps.append(jump)
        result.append(_Instruction(step.code, step.k, *jumps))
    return result


def _compare(condition: Condition) -> list[_Instruction]:
    """Returns one comparison, high half first; it falls through or jumps by the marks."""
    if not 0 <= condition.argument < _MAX_ARGUMENTS:
        raise InvalidInput(f"a system call has arguments 0 to {_MAX_ARGUMENTS - 1}, not {condition.argument}")
    holds, fails = _Jump.HOLDS, _Jump.FAILS
    offset = _OFFSET_ARGS + 8 * condition.argument
    high, low = condition.value >> 32 & _LOW, condition.value & _LOW
    load_low, load_high = _Instruction(_LD, offset), _Instruction(_LD, offset + 4)
    if condition.op in (Op.EQ, Op.MASKED_EQ):
        mask_high, mask_low = condition.mask >> 32 & _LOW, condition.mask & _LOW
        masks = condition.op is Op.MASKED_EQ
        return [
            load_high,
            *([_Instruction(_AND, mask_high)] if masks else []),
            _Instruction(_JEQ, high, 0, fails),
            load_low,
            *([_Instruction(_AND, mask_low)] if masks else []),
            _Instruction(_JEQ, low, holds, fails),
        ]
    if condition.op is Op.NE:
        return [load_high, _Instruction(_JEQ, high, 0, holds), load_low, _Instruction(_JEQ, low, fails, holds)]
    # The high halves decide unless they are equal.
    greater, less = (holds, fails) if condition.op in (Op.GT, Op.GE) else (fails, holds)
    last = _JGT if condition.op in (Op.GT, Op.LE) else _JGE
    return [
        load_high,
        _Instruction(_JGT, high, greater, 0),
        _Instruction(_JEQ, high, 0, less),
        load_low,
        _Instruction(last, low, greater, less),
    ]
