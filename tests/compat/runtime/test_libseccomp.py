"""The filter compiler beside libseccomp's, which runc and crun use: random profiles, every call, both machines' views.

Where the two differ on purpose: a call newer than the profile, and x32 (see `seccomp_compile`). Rules of one call that
both fit are left out, as libseccomp does not promise which of them counts.
"""

from __future__ import annotations

import ctypes
import os
import random

import pytest
from tests.fixtures.bpf import run

from wherry.linux.seccomp_compile import AUDIT_ARCH, compile_profile
from wherry.linux.seccomp_profile import (
    ALLOW,
    KILL_PROCESS,
    KILL_THREAD,
    LOG,
    NOTIFY,
    TRAP,
    Condition,
    Op,
    Profile,
    Rule,
    error,
    trace,
)
from wherry.linux.syscalls import numbers

_ACTIONS = (ALLOW, error(1), error(22), KILL_PROCESS, KILL_THREAD, TRAP, LOG, NOTIFY, trace(3))
_OPS = {Op.NE: 1, Op.LT: 2, Op.LE: 3, Op.EQ: 4, Op.GE: 5, Op.GT: 6, Op.MASKED_EQ: 7}
_EDGES = (0, 1, 2, 5, 0xFFFFFFFE, 0xFFFFFFFF, 0x1_0000_0000, 0x1_0000_0001, 2**64 - 1)
_MASKS = (1, 5, 0xFFFFFFFF, 0x1_0000_0001, 2**64 - 1)
"""None that is nothing in 32 bits: libseccomp would take the rule for one without conditions."""
_BY_ANOTHER_WAY = {"socketcall", "ipc"}


class ArgCmp(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def libseccomp(profile: Profile) -> bytes:
    """Compiles a profile as runc does."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_arch_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    library.seccomp_rule_add_array.argtypes = (
        *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint),
        ctypes.POINTER(ArgCmp),
    )
    library.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
    library.seccomp_release.argtypes = (ctypes.c_void_p,)
    context = library.seccomp_init(profile.default_action)
    assert context
    try:
        if "SCMP_ARCH_X86" in profile.architectures:
            assert library.seccomp_arch_add(context, AUDIT_ARCH["i386"]) == 0
        for rule in profile.rules:
            if rule.action == profile.default_action:
                continue
            items = [
                ArgCmp(
                    condition.argument,
                    _OPS[condition.op],
                    *((condition.mask, condition.value) if condition.op == Op.MASKED_EQ else (condition.value, 0)),
                )
                for condition in rule.conditions
            ]
            for name in rule.names:
                number = library.seccomp_syscall_resolve_name(name.encode())
                array = (ArgCmp * max(1, len(items)))(*items)
                assert library.seccomp_rule_add_array(context, rule.action, number, len(items), array) == 0, rule
        fd = os.memfd_create("filter")
        try:
            assert library.seccomp_export_bpf(context, fd) == 0
            return os.pread(fd, 1 << 20, 0)
        finally:
            os.close(fd)
    finally:
        library.seccomp_release(context)


def resolves(name: str) -> bool:
    """Tells whether libseccomp knows a call by its number on both machines."""
    resolve = ctypes.CDLL("libseccomp.so.2").seccomp_syscall_resolve_name_arch
    resolve.argtypes = (ctypes.c_uint32, ctypes.c_char_p)
    return all(resolve(AUDIT_ARCH[machine], name.encode()) >= 0 for machine in ("x86_64", "i386"))


def random_profile(chance: random.Random, *, wide: bool) -> Profile:
    names = sorted(numbers("x86_64").keys() & numbers("i386").keys() - _BY_ANOTHER_WAY)
    names = [name for name in names if name not in _SPECIAL and resolves(name)]
    chance.shuffle(names)
    rules: list[Rule] = []
    for _ in range(chance.randrange(1, 30)):
        chosen = tuple(names.pop() for _ in range(chance.randrange(1, 6)))
        count = chance.choice((0, 0, 1, 2, 3))
        conditions = tuple(
            Condition(
                argument=argument,
                op=(op := chance.choice(tuple(_OPS))),
                mask=(mask := chance.choice(_MASKS) if op == Op.MASKED_EQ else 2**64 - 1),
                value=chance.choice(_EDGES) & mask,
            )
            for argument in chance.sample(range(6), count)
        )
        rules.append(Rule(names=chosen, action=chance.choice(_ACTIONS), conditions=conditions))
        if conditions and chance.random() < 0.3:  # what comes without conditions decides, before or after
            rules.insert(
                chance.choice((len(rules) - 1, len(rules))), Rule(names=chosen[:1], action=chance.choice(_ACTIONS))
            )
    default = chance.choice(_ACTIONS)
    architectures = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86") if wide else ("SCMP_ARCH_X86_64",)
    return Profile(default_action=default, rules=tuple(rules), architectures=architectures)


_SPECIAL = frozenset(
    (
        *("accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom"),
        *("recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socket", "socketpair"),
        *("msgctl", "msgget", "msgrcv", "msgsnd", "semctl", "semget", "shmat", "shmctl", "shmdt", "shmget"),
    )
)
"""Made by two ways on i386: compared by a test of their own."""


def compare(ours: bytes, theirs: bytes, profile: Profile, architecture: str, chance: random.Random) -> None:
    table = numbers(architecture)
    newest = max(table[name] for rule in profile.rules for name in rule.names if name in table)
    interesting = {value for rule in profile.rules for item in rule.conditions for value in (item.value, item.mask)}
    bits = 2**32 if architecture == "i386" else 2**64  # the kernel gives a filter no more of an argument
    values = [value % bits for edge in (*_EDGES, *interesting) for value in (edge - 1, edge, edge + 1)]
    for number in range(newest + 1):
        for _ in range(6):
            args = [chance.choice(values) for _ in range(6)]
            found = [run(code, AUDIT_ARCH[architecture], number, args) for code in (ours, theirs)]
            assert found[0] == found[1], (architecture, number, args)


@pytest.mark.parametrize("seed", range(40))
def test_random_profiles(seed: int) -> None:
    chance = random.Random(seed)
    profile = random_profile(chance, wide=seed % 2 == 0)
    ours, theirs = compile_profile(profile, "x86_64").code, libseccomp(profile)
    compare(ours, theirs, profile, "x86_64", chance)
    for arch in ("i386", "aarch64"):
        if seed % 2 or arch == "aarch64":  # one that is not in the profile
            assert run(ours, AUDIT_ARCH[arch], 3) == run(theirs, AUDIT_ARCH[arch], 3) == KILL_THREAD
    if seed % 2 == 0:
        compare(ours, theirs, profile, "i386", chance)


@pytest.mark.parametrize("name", sorted(_SPECIAL - {"accept"}))  # libseccomp 2.5 lets it through by socketcall
def test_calls_of_i386_by_another_way(name: str) -> None:
    rules = (Rule(names=(name,), action=error(22)),)
    profile = Profile(default_action=ALLOW, rules=rules, architectures=("SCMP_ARCH_X86",))
    ours, theirs = compile_profile(profile, "x86_64").code, libseccomp(profile)
    table, arch = numbers("i386"), AUDIT_ARCH["i386"]
    for way in (*_BY_ANOTHER_WAY, name):
        if way in table:
            for first in range(32):
                assert run(ours, arch, table[way], (first,)) == run(theirs, arch, table[way], (first,)), (way, first)
