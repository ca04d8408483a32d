"""The compiler of system call filters: a profile to classic BPF, by hand.

The program, for each architecture that the profile lets a process of this machine call the kernel as::

    ld  arch ; jeq X86_64 ─no─▶ next block
    ld  nr   ; a binary search over ranges of numbers that share one fate
               ├─ ret ACTION
               └─ conditions on arguments, 32 bits at a time ; ret ACTION ; ret DEFAULT
    ...
    ret KILL_THREAD            any other architecture, as libseccomp has it

A rule without conditions for a call that i386 also makes by socketcall or ipc holds there too; conditions cannot, as
the arguments are in memory there.

A call newer than the profile gets ENOSYS instead of an action that forbids, so that a program falls back; newer means
that its number is above all that the profile names (runc's rule). x32 calls on x86_64 get ENOSYS in any case.
Refused by name: more instructions than the kernel takes, and a rule that forbids a call nobody knows where the default
would let it through (any other rule for such a call is left out).
Source: seccomp(2); Documentation/userspace-api/seccomp_filter.rst; include/uapi/linux/{seccomp,audit,bpf_common}.h.
"""

from __future__ import annotations

from _struct import pack

from wherry.core.errors import InvalidInput
from wherry.core.value import replace
from wherry.linux import libc
from wherry.linux.seccomp import Program
from wherry.linux.seccomp_profile import (
    ALLOW,
    ARCHITECTURES,
    FLAGS,
    KILL_THREAD,
    LOG,
    Condition,
    Op,
    error,
    is_trace,
    notifies,
)
from wherry.linux.syscalls import known, numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeVar

    from wherry.linux.seccomp_profile import Profile, Rule

    T = TypeVar("T")
    Instruction = tuple[int, int, int, int]
    """(code, jump if true, jump if false, k)."""
    Fate = int | tuple[Rule, ...]
    """What becomes of a number: an action, or rules with conditions in their order."""

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
"""Machine -> as what its processes may call the kernel; itself comes first."""
_WIDE = ("x86_64", "aarch64", "riscv64")
"""Of 64 bits. Of what others compare the kernel gives the lower half, and the upper is not looked at."""
_X32_BIT = 0x40000000
_ENOSYS = error(38)

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
_LOW = 0xFFFFFFFF

_MULTIPLEXED = {
    "socketcall": (
        *("", "socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername", "socketpair", "send"),
        *("recv", "sendto", "recvfrom", "shutdown", "setsockopt", "getsockopt", "sendmsg", "recvmsg", "accept4"),
        *("recvmmsg", "sendmmsg"),
    ),
    "ipc": (
        *("", "semop", "semget", "semctl", "semtimedop", "", "", "", "", "", "", "msgsnd", "msgrcv", "msgget"),
        *("msgctl", "", "", "", "", "", "", "shmat", "shmdt", "shmget", "shmctl"),
    ),
}
"""Calls of i386 that stand for others, which are told by the first argument: where each is in its list
(include/uapi/linux/{net,ipc}.h). Of ipc's argument the upper half is a version."""
_MULTIPLEXED_MASK = 0xFFFF
_MULTIPLEXERS = {name: (way, code) for way, names in _MULTIPLEXED.items() for code, name in enumerate(names) if name}

_HOLDS, _FAILS = -1, -2
"""Where a comparison of a condition leads, until the distance is known."""


def compile_profile(profile: Profile, machine: str = "") -> Program:
    """Compiles a profile.

    Args:
        profile: the filter.
        machine: for which it is; this one, unless given.

    Raises:
        InvalidInput: it forbids an unknown call, names an argument, an architecture or a flag that is not there, or
            becomes too long.
    """
    wanted = {_known(ARCHITECTURES, name, "architecture") for name in profile.architectures}
    flags = 0
    for name in profile.flags:
        flags |= _known(FLAGS, name, "flag")
    code: list[Instruction] = [(_LD, 0, 0, _OFFSET_ARCH)]
    native, *others = _ARCHITECTURES[machine or libc.machine()]
    for architecture in (native, *(other for other in others if other in wanted)):
        block = _block(profile, architecture)
        code += [(_JEQ, 1, 0, AUDIT_ARCH[architecture]), (_JA, 0, 0, len(block)), *block]
    code.append((_RET, 0, 0, KILL_THREAD))
    if len(code) > _MAX_INSTRUCTIONS:
        raise InvalidInput(f"a system call filter of {len(code)} instructions; the kernel takes {_MAX_INSTRUCTIONS}")
    return Program(
        b"".join([pack("=HBBI", *step) for step in code]),
        flags,
        notifies=notifies(profile) or bool(profile.listener_path),
    )


def _known(table: Mapping[str, T], name: str, what: str) -> T:
    if name not in table:
        raise InvalidInput(f"a system call filter names an unknown {what}: {name}")
    return table[name]


def _block(profile: Profile, architecture: str) -> list[Instruction]:
    table = numbers(architecture)
    default = profile.default_action
    lets_through = default in (ALLOW, LOG) or is_trace(default)
    fates: dict[int, Fate] = {}
    newest = -1

    def add(number: int, rule: Rule) -> None:
        before = fates.get(number, ())
        # A rule that asks for the default changes nothing (libseccomp takes none); one without conditions decides
        # alone, whatever came before it.
        if rule.action != default and isinstance(before, tuple):
            fates[number] = (*before, rule) if rule.conditions else rule.action

    for rule in profile.rules:
        for name in rule.names:
            number = table.get(name)
            if number is not None:
                newest = max(newest, number)
                add(number, rule)
            elif lets_through and rule.action not in (ALLOW, default) and not known(name):
                raise InvalidInput(f"a system call filter forbids a call that is not known: {name}")
            if architecture == "i386" and name in _MULTIPLEXERS and not rule.conditions:
                way, code = _MULTIPLEXERS[name]
                which = Condition(argument=0, op=Op.MASKED_EQ, value=code, mask=_MULTIPLEXED_MASK)
                add(table[way], replace(rule, names=(way,), conditions=(which,)))
    newer = default if lets_through or newest < 0 else _ENOSYS
    segments = _segments(fates, default, newest=newest, newer=newer, x32=architecture == "x86_64")
    return [(_LD, 0, 0, _OFFSET_NUMBER), *_search(segments, default, wide=architecture in _WIDE)]


def _segments(fates: dict[int, Fate], default: int, *, newest: int, newer: int, x32: bool) -> list[tuple[int, Fate]]:
    """Returns (first number, fate) of every range of numbers that share a fate, in order, from 0 on."""
    points: list[tuple[int, Fate]] = [(0, default)]
    for number in sorted(fates):
        points.append((number, fates[number]))
        points.append((number + 1, default))
    if newer != default:
        points.append((newest + 1, newer))
    if x32:
        points.append((_X32_BIT, _ENOSYS))
    result: list[tuple[int, Fate]] = []
    for start, fate in points:
        if result and result[-1][0] == start:
            result.pop()
        if not result or result[-1][1] != fate:
            result.append((start, fate))
    return result


def _search(segments: Sequence[tuple[int, Fate]], default: int, *, wide: bool) -> list[Instruction]:
    """Returns the search for the segment that the loaded number is in, with each fate inlined where it ends."""
    if len(segments) == 1:
        fate = segments[0][1]
        return [(_RET, 0, 0, fate)] if isinstance(fate, int) else _decide(fate, default, wide=wide)
    middle = len(segments) // 2
    low, high = _search(segments[:middle], default, wide=wide), _search(segments[middle:], default, wide=wide)
    split = segments[middle][0]
    if len(low) <= _MAX_SHORT_JUMP:
        return [(_JGE, len(low), 0, split), *low, *high]
    return [(_JGE, 0, 1, split), (_JA, 0, 0, len(low)), *low, *high]


def _decide(rules: tuple[Rule, ...], default: int, *, wide: bool) -> list[Instruction]:
    """Returns the code that tries rules in their order."""
    code: list[Instruction] = []
    for rule in rules:
        body: list[Instruction] = []
        for condition in rule.conditions:
            body += _resolve(_compare(condition) if wide else _compare_low(condition), fails=None)
        body.append((_RET, 0, 0, rule.action))
        code += _resolve(body, fails=len(body))
    return [*code, (_RET, 0, 0, default)]


def _resolve(body: list[Instruction], *, fails: int | None) -> list[Instruction]:
    """Turns marks into distances: HOLDS is the end of the body, FAILS is `fails` when that is known already."""
    result = []
    for index, (code, true, false, k) in enumerate(body):
        jumps = []
        for jump in (true, false):
            if jump == _HOLDS:
                jump = len(body) - index - 1
            elif jump == _FAILS and fails is not None:
                jump = fails - index - 1
            jumps.append(jump)
        result.append((code, jumps[0], jumps[1], k))
    return result


def _compare_low(condition: Condition) -> list[Instruction]:
    """Returns one comparison of 32 bits; it falls through or jumps by the marks."""
    _check(condition)
    value = condition.value & _LOW
    load = (_LD, 0, 0, _OFFSET_ARGS + 8 * condition.argument)
    if condition.op == Op.MASKED_EQ:
        return [load, (_AND, 0, 0, condition.mask & _LOW), (_JEQ, _HOLDS, _FAILS, value)]
    code, holds = {
        Op.EQ: (_JEQ, True),
        Op.NE: (_JEQ, False),
        Op.GT: (_JGT, True),
        Op.LE: (_JGT, False),
        Op.GE: (_JGE, True),
        Op.LT: (_JGE, False),
    }[condition.op]
    return [load, (code, *((_HOLDS, _FAILS) if holds else (_FAILS, _HOLDS)), value)]


def _check(condition: Condition) -> None:
    if not 0 <= condition.argument < _MAX_ARGUMENTS:
        raise InvalidInput(f"a system call has arguments 0 to {_MAX_ARGUMENTS - 1}, not {condition.argument}")


def _compare(condition: Condition) -> list[Instruction]:
    """Returns one comparison, high half first; it falls through or jumps by the marks."""
    _check(condition)
    offset = _OFFSET_ARGS + 8 * condition.argument
    high, low = condition.value >> 32 & _LOW, condition.value & _LOW
    load_low, load_high = (_LD, 0, 0, offset), (_LD, 0, 0, offset + 4)
    if condition.op in (Op.EQ, Op.MASKED_EQ):
        mask_high, mask_low = condition.mask >> 32 & _LOW, condition.mask & _LOW
        masks = condition.op == Op.MASKED_EQ
        return [
            load_high,
            *([(_AND, 0, 0, mask_high)] if masks else []),
            (_JEQ, 0, _FAILS, high),
            load_low,
            *([(_AND, 0, 0, mask_low)] if masks else []),
            (_JEQ, _HOLDS, _FAILS, low),
        ]
    if condition.op == Op.NE:
        return [load_high, (_JEQ, 0, _HOLDS, high), load_low, (_JEQ, _FAILS, _HOLDS, low)]
    # The high halves decide unless they are equal.
    greater, less = (_HOLDS, _FAILS) if condition.op in (Op.GT, Op.GE) else (_FAILS, _HOLDS)
    last = _JGT if condition.op in (Op.GT, Op.LE) else _JGE
    return [
        load_high,
        (_JGT, greater, 0, high),
        (_JEQ, 0, less, high),
        load_low,
        (last, greater, less, low),
    ]
