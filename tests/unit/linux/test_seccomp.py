"""The filter compiler, checked by running its programs in a small BPF machine and by a second reading of the rules."""

from __future__ import annotations

import errno
import random
from collections.abc import Sequence

import pytest
from tests.fixtures.bpf import run

from wherry.core.errors import InvalidInput
from wherry.core.value import replace
from wherry.linux.seccomp import compile_profile
from wherry.linux.seccomp_compile import AUDIT_ARCH
from wherry.linux.seccomp_profile import (
    ALLOW,
    FLAGS,
    KILL_PROCESS,
    KILL_THREAD,
    LOG,
    NOTIFY,
    OPS,
    TRAP,
    Condition,
    Op,
    Profile,
    Rule,
    error,
    is_trace,
    trace,
)
from wherry.linux.syscalls import LAST, known, numbers
from wherry.runtime import default

ARCHITECTURES = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM")
EPERM, ENOSYS = error(errno.EPERM), error(errno.ENOSYS)
X86_64 = AUDIT_ARCH["x86_64"]


def when(argument: int, op: str, value: int, mask: int = 2**64 - 1) -> Condition:
    return Condition(argument=argument, op=op, value=value, mask=mask)


def rule(names: str, action: int, *conditions: Condition) -> Rule:
    return Rule(names=tuple(names.split()), action=action, conditions=conditions)


def profile_of(default: int, *rules: Rule, architectures: tuple[str, ...] = ARCHITECTURES) -> Profile:
    return Profile(default_action=default, rules=rules, architectures=architectures)


def holds(condition: Condition, args: Sequence[int], bits: int = 2**64 - 1) -> bool:
    condition = replace(condition, value=condition.value & bits, mask=condition.mask & bits)
    value = args[condition.argument] & bits
    match condition.op:
        case Op.EQ:
            return value == condition.value
        case Op.NE:
            return value != condition.value
        case Op.LT:
            return value < condition.value
        case Op.LE:
            return value <= condition.value
        case Op.GT:
            return value > condition.value
        case Op.GE:
            return value >= condition.value
    assert condition.op == Op.MASKED_EQ
    return value & condition.mask == condition.value


MULTIPLEXED = {
    **{
        name: ("socketcall", code)
        for code, name in enumerate(
            [
                "socket",
                "bind",
                "connect",
                "listen",
                "accept",
                "getsockname",
                "getpeername",
                "socketpair",
                "send",
                "recv",
                "sendto",
                "recvfrom",
                "shutdown",
                "setsockopt",
                "getsockopt",
                "sendmsg",
                "recvmsg",
                "accept4",
                "recvmmsg",
                "sendmmsg",
            ],
            start=1,
        )
    },
    **{
        name: ("ipc", first + code)
        for first, names in (
            (1, ("semop", "semget", "semctl", "semtimedop")),
            (11, ("msgsnd", "msgrcv", "msgget", "msgctl")),
            (21, ("shmat", "shmdt", "shmget", "shmctl")),
        )
        for code, name in enumerate(names)
    },
}


class Reading:
    """The rules of a profile for one architecture, read a second time."""

    def __init__(self, profile: Profile, architecture: str) -> None:
        table = numbers(architecture)
        default = profile.default_action
        self.default = default
        self.bits = 0xFFFFFFFF if architecture in ("i386", "armv7l") else 2**64 - 1
        self.newest = max((table[name] for rule in profile.rules for name in rule.names if name in table), default=-1)
        self.forbids = self.newest >= 0 and default not in (ALLOW, LOG) and not is_trace(default)
        self.rules: dict[int, list[Rule]] = {}
        for rule in profile.rules:
            for name in rule.names:
                if name in table and rule.action != default:
                    self.rules.setdefault(table[name], []).append(rule)
                if architecture == "i386" and name in MULTIPLEXED and not rule.conditions and rule.action != default:
                    way, code = MULTIPLEXED[name]
                    one = Rule(names=(way,), action=rule.action, conditions=(when(0, Op.MASKED_EQ, code, 0xFFFF),))
                    self.rules.setdefault(table[way], []).append(one)

    def __call__(self, number: int, args: Sequence[int]) -> int:
        if number > self.newest and self.forbids:
            return ENOSYS
        rules = self.rules.get(number, [])
        for rule in (*(rule for rule in rules if not rule.conditions), *rules):
            if all(holds(condition, args, self.bits) for condition in rule.conditions):
                return rule.action
        return self.default


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "armv7l", "riscv64"])
@pytest.mark.parametrize("capabilities", [(), default.CAPABILITIES, ("CAP_SYS_ADMIN", "CAP_SYS_CHROOT")])
def test_default_profile_is_what_it_says_for_every_number(machine: str, capabilities: tuple[str, ...]) -> None:
    profile = default.seccomp_profile(capabilities)
    code = compile_profile(profile, machine).code
    assert len(code) // 8 < 4096
    for architecture in {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64", "armv7l")}.get(machine, (machine,)):
        expected = Reading(profile, architecture)
        for number in (*range(LAST + 40), 0xF0001, 0xF0002, 0xF0005, 0xF0006, 0x3FFFFFFF):
            for first in (0, 8, 16, 40, 0x20000000, 0x1_0000_0028, 0xFFFFFFFF):
                args = (first, 0, 0, 0, 0, 0)
                found = run(code, AUDIT_ARCH[architecture], number, args)
                assert found == expected(number, args), (architecture, number, first)


def test_default_profile_speaks_of_known_calls_only() -> None:
    for rule in default.seccomp_profile(("CAP_SYS_ADMIN",)).rules:
        for name in rule.names:
            assert known(name), name


@pytest.mark.parametrize(
    ("name", "first", "outcome"),
    [
        ("read", 0, ALLOW),
        ("clone", 0x11, ALLOW),
        ("clone", 0x10000000, EPERM),
        ("clone", 0x20000, EPERM),
        ("clone3", 0, ENOSYS),
        ("unshare", 0, EPERM),
        ("mount", 0, EPERM),
        ("keyctl", 0, EPERM),
        ("io_uring_setup", 0, EPERM),
        ("userfaultfd", 0, EPERM),
        ("pivot_root", 0, EPERM),
        ("socket", 2, ALLOW),
        ("socket", 16, ALLOW),
        ("socket", 40, EPERM),
        ("socket", 0x1_0000_0028, EPERM),
        ("socket", 38, EPERM),
        ("personality", 0xFFFFFFFF, ALLOW),
        ("personality", 0x40000, EPERM),
        ("chroot", 0, ALLOW),
        ("reboot", 0, EPERM),
    ],
)
def test_default_profile_by_name(name: str, first: int, outcome: int) -> None:
    code = compile_profile(default.seccomp_profile(default.CAPABILITIES), "x86_64").code
    assert run(code, X86_64, numbers("x86_64")[name], (first,)) == outcome


def test_x32_is_never_there() -> None:
    for action in (ALLOW, EPERM, KILL_PROCESS):
        code = compile_profile(profile_of(action, architectures=("SCMP_ARCH_X32",)), "x86_64").code
        for number in (0x40000000, 0x40000001, 0x7FFFFFFF, 0xFFFFFFFF):
            assert run(code, X86_64, number) == ENOSYS


@pytest.mark.parametrize("default", [EPERM, KILL_PROCESS, KILL_THREAD, TRAP, ALLOW, LOG, trace(5)])
def test_a_call_newer_than_the_profile_is_not_there_where_it_would_be_forbidden(default: int) -> None:
    code = compile_profile(profile_of(default, rule("statx read", error(9)), rule("gettid", default)), "x86_64").code
    newest = numbers("x86_64")["statx"]
    assert run(code, X86_64, newest) == error(9)
    assert run(code, X86_64, newest - 1) == default
    newer = default if default in (ALLOW, LOG, trace(5)) else ENOSYS
    for number in (newest + 1, LAST, LAST + 1, 5000):
        assert run(code, X86_64, number) == newer
    without_rules = compile_profile(profile_of(default), "x86_64").code
    assert run(without_rules, X86_64, LAST + 1) == default


def test_architectures_that_are_not_named_are_killed_but_for_the_native_one() -> None:
    rules = (rule("read", error(9)),)
    native = compile_profile(profile_of(ALLOW, *rules, architectures=()), "x86_64").code
    both = compile_profile(profile_of(ALLOW, *rules, architectures=("SCMP_ARCH_X86",)), "x86_64").code
    for code in (native, both):
        assert run(code, X86_64, 0) == error(9)
        assert run(code, X86_64, 1) == ALLOW
        assert run(code, AUDIT_ARCH["aarch64"], 0) == KILL_THREAD
    assert run(native, AUDIT_ARCH["i386"], 3) == KILL_THREAD
    assert run(both, AUDIT_ARCH["i386"], 3) == error(9)
    assert run(both, AUDIT_ARCH["i386"], 0) == ALLOW


def test_a_call_of_i386_cannot_be_made_by_another_way() -> None:
    rules = (rule("socket shmget semop", EPERM), rule("bind", error(9), when(1, Op.EQ, 1)))
    code = compile_profile(profile_of(ALLOW, *rules), "x86_64").code
    arch, table = AUDIT_ARCH["i386"], numbers("i386")
    assert [run(code, arch, table["socketcall"], (way,)) for way in (1, 2, 3)] == [EPERM, ALLOW, ALLOW]
    assert [run(code, arch, table["ipc"], (way,)) for way in (1, 2, 23, 0x1_0017)] == [EPERM, ALLOW, EPERM, EPERM]


def test_architectures_of_other_machines_change_nothing() -> None:
    rules = (rule("read", EPERM), rule("write", ALLOW))
    plain = compile_profile(profile_of(ALLOW, *rules, architectures=()), "x86_64").code
    foreign = ("SCMP_ARCH_S390X", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_RISCV64", "SCMP_ARCH_ARM")
    assert compile_profile(profile_of(ALLOW, *rules, architectures=foreign), "x86_64").code == plain


def test_what_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="architecture: SCMP_ARCH_Z80"):
        compile_profile(profile_of(ALLOW, architectures=("SCMP_ARCH_Z80",)), "x86_64")
    with pytest.raises(InvalidInput, match="flag: SECCOMP_FILTER_FLAG_X"):
        compile_profile(Profile(default_action=ALLOW, flags=("SECCOMP_FILTER_FLAG_X",)), "x86_64")


def test_flags_and_listeners_are_told_to_the_loader() -> None:
    program = compile_profile(Profile(default_action=ALLOW, flags=tuple(FLAGS)), "x86_64")
    assert program.flags == 0b100111
    assert not program.notifies
    assert compile_profile(profile_of(ALLOW, rule("mkdir", NOTIFY)), "x86_64").notifies


def test_a_compat_call_has_its_own_numbers() -> None:
    code = compile_profile(profile_of(EPERM, rule("write", ALLOW), rule("statx", ALLOW)), "aarch64").code
    assert run(code, AUDIT_ARCH["aarch64"], 64) == ALLOW
    assert run(code, AUDIT_ARCH["armv7l"], 4) == ALLOW
    assert run(code, AUDIT_ARCH["armv7l"], 64) == EPERM


_EDGES = (0, 1, 2, 0xFFFFFFFE, 0xFFFFFFFF, 0x1_0000_0000, 0x1_0000_0001, 0x2_0000_0000, 2**64 - 2, 2**64 - 1)


@pytest.mark.parametrize("op", OPS)
def test_comparisons_of_64_bits(op: str) -> None:
    for value in _EDGES:
        mask = 0xFFFF_0000_0000_0001 if op == Op.MASKED_EQ else 2**64 - 1
        condition = when(3, op, value & mask, mask)
        code = compile_profile(profile_of(EPERM, rule("read", ALLOW, condition)), "x86_64").code
        for argument in _EDGES:
            args = (7, 7, 7, argument, 7, 7)
            assert (run(code, X86_64, 0, args) == ALLOW) is holds(condition, args), (condition, argument)


_RANDOM_ACTIONS = (ALLOW, EPERM, KILL_PROCESS, KILL_THREAD, TRAP, LOG, NOTIFY, error(22), trace(3))


def test_random_profiles() -> None:
    chance = random.Random(7)
    names = sorted(numbers("x86_64").keys() & numbers("i386").keys())
    for _ in range(80):
        rules = []
        for _ in range(chance.randrange(1, 20)):
            conditions = tuple(
                when(chance.randrange(6), chance.choice(OPS), chance.choice(_EDGES), chance.choice(_EDGES))
                for _ in range(chance.choice((0, 0, 1, 2, 3)))
            )
            chosen = tuple(chance.sample(names, chance.randrange(1, 12)))
            rules.append(Rule(names=chosen, action=chance.choice(_RANDOM_ACTIONS), conditions=conditions))
        profile = profile_of(chance.choice(_RANDOM_ACTIONS), *rules)
        code = compile_profile(profile, "x86_64").code
        readings = [(architecture, Reading(profile, architecture)) for architecture in ("x86_64", "i386")]
        for _ in range(200):
            number = chance.randrange(LAST + 4)
            args = [chance.choice(_EDGES) for _ in range(6)]
            for architecture, expected in readings:
                assert run(code, AUDIT_ARCH[architecture], number, args) == expected(number, args)


def test_rules_with_conditions_are_tried_in_their_order() -> None:
    rules = (rule("read", error(2), when(0, Op.EQ, 5)), rule("read", ALLOW, when(0, Op.LE, 5)))
    code = compile_profile(profile_of(EPERM, *rules), "x86_64").code
    assert [run(code, X86_64, 0, (first,)) for first in (4, 5, 6)] == [ALLOW, error(2), EPERM]


def test_a_rule_without_conditions_decides_alone_and_the_first_of_them() -> None:
    rules = (
        rule("read", error(2), when(0, Op.EQ, 5)),
        rule("read", ALLOW),
        rule("read", error(3)),
        rule("read", error(4), when(0, Op.EQ, 6)),
    )
    code = compile_profile(profile_of(EPERM, *rules), "x86_64").code
    assert [run(code, X86_64, 0, (first,)) for first in (5, 6, 7)] == [ALLOW, ALLOW, ALLOW]


def test_a_forbidden_call_must_be_known() -> None:
    with pytest.raises(InvalidInput, match="not known: no_such_call"):
        compile_profile(profile_of(ALLOW, rule("no_such_call", EPERM)), "x86_64")
    for otherwise, action in ((EPERM, ALLOW), (error(38), EPERM), (KILL_PROCESS, LOG)):
        compile_profile(profile_of(otherwise, rule("no_such_call", action)), "x86_64")
    compile_profile(profile_of(ALLOW, rule("swapcontext", EPERM)), "x86_64")


def test_an_argument_must_be_there() -> None:
    with pytest.raises(InvalidInput, match="not 6"):
        compile_profile(profile_of(EPERM, rule("read", ALLOW, when(6, Op.EQ, 0))), "x86_64")


def test_a_filter_may_be_too_long() -> None:
    conditions = tuple(when(index, Op.EQ, 1) for index in range(6))
    rules = (rule(name, error(code), *conditions) for code, name in enumerate(numbers("x86_64")))
    with pytest.raises(InvalidInput, match="4096"):
        compile_profile(profile_of(EPERM, *rules), "x86_64")
