"""The filter compiler, checked by running its programs in a small BPF machine and by a second reading of the rules."""

from __future__ import annotations

import errno
import random
import struct
from collections.abc import Sequence

import pytest

from wherry.core.errors import InvalidInput
from wherry.linux.seccomp import ALLOW, AUDIT_ARCH, KILL_PROCESS, Condition, Op, Profile, Rule, compile_profile, error
from wherry.linux.syscalls import LAST, known, numbers
from wherry.runtime import default

EPERM, ENOSYS = error(errno.EPERM), error(errno.ENOSYS)
X86_64 = AUDIT_ARCH["x86_64"]


def run(code: bytes, arch: int, number: int, args: Sequence[int] = ()) -> int:
    """A classic BPF machine with what seccomp allows: loads, jumps forward, AND, and return."""
    padded = [*args, *([0] * (6 - len(args)))]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, arch, 0, *padded)
    program = [struct.unpack_from("<HBBI", code, offset) for offset in range(0, len(code), 8)]
    accumulator, at = 0, 0
    while True:
        operation, true, false, k = program[at]
        at += 1
        if operation == 0x20:
            assert k % 4 == 0
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif operation == 0x05:
            at += k
        elif operation == 0x54:
            accumulator &= k
        elif operation == 0x06:
            return int(k)
        else:
            holds = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k}[operation]
            at += true if holds else false


def holds(condition: Condition, args: Sequence[int]) -> bool:
    value = args[condition.argument]
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
        case Op.MASKED_EQ:
            return value & condition.mask == condition.value


def expected(profile: Profile, architecture: str, number: int, args: Sequence[int]) -> int:
    name = next((name for name, known in numbers(architecture).items() if known == number), None)
    if name is not None:
        for rule in profile.rules:
            if name in rule.names and all(holds(condition, args) for condition in rule.conditions):
                return rule.action
    return profile.default_action if number <= LAST else ENOSYS


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "armv7l", "riscv64"])
@pytest.mark.parametrize("capabilities", [(), default.CAPABILITIES, ("CAP_SYS_ADMIN", "CAP_SYS_CHROOT")])
def test_default_profile_is_what_it_says_for_every_number(machine: str, capabilities: tuple[str, ...]) -> None:
    profile = default.seccomp_profile(capabilities)
    code = compile_profile(profile, machine).code
    assert len(code) // 8 < 4096
    for architecture in {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64", "armv7l")}.get(machine, (machine,)):
        for number in (*range(LAST + 40), 0xF0001, 0xF0002, 0xF0005, 0xF0006, 0x3FFFFFFF):
            for first in (0, 8, 16, 40, 0x20000000, 0x1_0000_0028, 0xFFFFFFFF):
                args = (first, 0, 0, 0, 0, 0)
                assert run(code, AUDIT_ARCH[architecture], number, args) == expected(
                    profile, architecture, number, args
                ), (architecture, number, first)


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


def test_x32_other_architectures_and_the_future_are_not_there() -> None:
    code = compile_profile(Profile(ALLOW, (Rule(("read",), EPERM),)), "x86_64").code
    assert run(code, X86_64, 0) == EPERM
    assert run(code, X86_64, 1) == ALLOW
    assert run(code, X86_64, 0x40000000) == ENOSYS
    assert run(code, X86_64, 0xFFFFFFFF) == ENOSYS
    assert run(code, X86_64, LAST + 1) == ENOSYS
    assert run(code, AUDIT_ARCH["aarch64"], 0) == ENOSYS
    assert run(code, AUDIT_ARCH["i386"], 3) == EPERM
    assert run(code, AUDIT_ARCH["i386"], 0) == ALLOW


def test_a_compat_call_has_its_own_numbers() -> None:
    code = compile_profile(Profile(EPERM, (Rule(("write",), ALLOW),)), "aarch64").code
    assert run(code, AUDIT_ARCH["aarch64"], 64) == ALLOW
    assert run(code, AUDIT_ARCH["armv7l"], 4) == ALLOW
    assert run(code, AUDIT_ARCH["armv7l"], 64) == EPERM


_EDGES = (0, 1, 2, 0xFFFFFFFE, 0xFFFFFFFF, 0x1_0000_0000, 0x1_0000_0001, 0x2_0000_0000, 2**64 - 2, 2**64 - 1)


@pytest.mark.parametrize("op", list(Op))
def test_comparisons_of_64_bits(op: Op) -> None:
    for value in _EDGES:
        mask = 0xFFFF_0000_0000_0001 if op is Op.MASKED_EQ else 2**64 - 1
        condition = Condition(3, op, value & mask, mask)
        code = compile_profile(Profile(EPERM, (Rule(("read",), ALLOW, (condition,)),)), "x86_64").code
        for argument in _EDGES:
            args = (7, 7, 7, argument, 7, 7)
            assert (run(code, X86_64, 0, args) == ALLOW) is holds(condition, args), (condition, argument)


def test_random_profiles() -> None:
    chance = random.Random(7)
    names = sorted(numbers("x86_64"))
    for _ in range(60):
        rules = []
        for _ in range(chance.randrange(1, 20)):
            conditions = tuple(
                Condition(chance.randrange(6), chance.choice(list(Op)), chance.choice(_EDGES), chance.choice(_EDGES))
                for _ in range(chance.choice((0, 0, 1, 2, 3)))
            )
            action = chance.choice((ALLOW, EPERM, KILL_PROCESS, error(22)))
            rules.append(Rule(tuple(chance.sample(names, chance.randrange(1, 12))), action, conditions))
        profile = Profile(chance.choice((ALLOW, EPERM)), tuple(rules))
        code = compile_profile(profile, "x86_64").code
        for _ in range(300):
            number = chance.randrange(LAST + 4)
            args = [chance.choice(_EDGES) for _ in range(6)]
            assert run(code, X86_64, number, args) == expected(profile, "x86_64", number, args)


def test_rules_are_tried_in_their_order() -> None:
    rules = (
        Rule(("read",), error(2), (Condition(0, Op.EQ, 5),)),
        Rule(("read",), ALLOW),
        Rule(("read",), error(3), (Condition(0, Op.EQ, 6),)),
    )
    code = compile_profile(Profile(EPERM, rules), "x86_64").code
    assert [run(code, X86_64, 0, (first,)) for first in (5, 6, 7)] == [error(2), ALLOW, ALLOW]


def test_a_forbidden_call_must_be_known() -> None:
    with pytest.raises(InvalidInput, match="not known: no_such_call"):
        compile_profile(Profile(ALLOW, (Rule(("no_such_call",), EPERM),)), "x86_64")
    compile_profile(Profile(EPERM, (Rule(("no_such_call",), ALLOW),)), "x86_64")


def test_an_argument_must_be_there() -> None:
    with pytest.raises(InvalidInput, match="not 6"):
        compile_profile(Profile(EPERM, (Rule(("read",), ALLOW, (Condition(6, Op.EQ, 0),)),)), "x86_64")


def test_a_filter_may_be_too_long() -> None:
    conditions = tuple(Condition(index, Op.EQ, 1) for index in range(6))
    rules = tuple(Rule((name,), error(code), conditions) for code, name in enumerate(numbers("x86_64")))
    with pytest.raises(InvalidInput, match="4096"):
        compile_profile(Profile(EPERM, rules), "x86_64")
