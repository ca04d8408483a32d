"""The seccomp section of a config.json: every word, and every refusal by its path."""

from __future__ import annotations

from typing import Any

import pytest

from wherry.core.errors import InvalidInput
from wherry.linux import seccomp_profile as words
from wherry.linux.seccomp_profile import ALLOW, ARCHITECTURES, FLAGS, OPS, Condition, Op, Profile, Rule, error, trace
from wherry.runtime import default
from wherry.runtime.config_seccomp import parse, serialize


def section(**changes: Any) -> dict[str, Any]:
    return {"defaultAction": "SCMP_ACT_ALLOW", **changes}


def syscall(**changes: Any) -> dict[str, Any]:
    return section(syscalls=[{"names": ["read"], "action": "SCMP_ACT_ERRNO", **changes}])


@pytest.mark.parametrize(
    ("word", "action"),
    [
        ("KILL", words.KILL_THREAD),
        ("KILL_THREAD", words.KILL_THREAD),
        ("KILL_PROCESS", words.KILL_PROCESS),
        ("TRAP", words.TRAP),
        ("ERRNO", error(1)),
        ("TRACE", trace(1)),
        ("LOG", words.LOG),
        ("ALLOW", ALLOW),
    ],
)
def test_actions(word: str, action: int) -> None:
    assert parse(section(defaultAction=f"SCMP_ACT_{word}")).default_action == action
    (rule,) = parse(syscall(action=f"SCMP_ACT_{word}")).rules
    assert rule == Rule(names=("read",), action=action)


def test_an_errno_or_a_message_goes_with_an_action() -> None:
    assert parse(section(defaultAction="SCMP_ACT_ERRNO", defaultErrnoRet=38)).default_action == error(38)
    assert parse(syscall(errnoRet=0)).rules[0].action == error(0)
    assert parse(syscall(action="SCMP_ACT_TRACE", errnoRet=0xFFFF)).rules[0].action == trace(0xFFFF)


def test_a_listener_with_metadata() -> None:
    value = {**syscall(action="SCMP_ACT_NOTIFY"), "listenerPath": "/run/x.sock", "listenerMetadata": "m"}
    profile = parse(value)
    assert profile.rules[0].action == words.NOTIFY
    assert (profile.listener_path, profile.listener_metadata) == ("/run/x.sock", "m")
    assert parse(serialize(profile)) == profile


@pytest.mark.parametrize("op", OPS)
def test_comparisons(op: str) -> None:
    (rule,) = parse(syscall(args=[{"index": 5, "value": 2**64 - 1, "valueTwo": 3, "op": op}])).rules
    value, mask = (3, 2**64 - 1) if op == Op.MASKED_EQ else (2**64 - 1, 2**64 - 1)
    assert rule.conditions == (Condition(argument=5, op=op, value=value, mask=mask),)


def test_conditions_on_different_arguments_are_one_rule_and_on_the_same_a_choice() -> None:
    first, second = {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 2, "op": "SCMP_CMP_GT"}
    assert [len(rule.conditions) for rule in parse(syscall(args=[first, second])).rules] == [2]
    split = parse(syscall(args=[first, second, first])).rules
    assert [(rule.action, len(rule.conditions)) for rule in split] == [(error(1), 1)] * 3


def test_every_architecture_and_flag_survives() -> None:
    profile = Profile(default_action=ALLOW, architectures=tuple(ARCHITECTURES), flags=tuple(FLAGS))
    assert parse(serialize(profile)) == profile


@pytest.mark.parametrize("capabilities", [(), default.CAPABILITIES, ("CAP_SYS_ADMIN",)])
def test_the_default_filter_survives(capabilities: tuple[str, ...]) -> None:
    profile = default.seccomp_profile(capabilities)
    assert parse(serialize(profile)) == profile


def test_a_range_is_not_written_as_the_choice_that_others_would_read() -> None:
    conditions = tuple(Condition(argument=0, op=op, value=5) for op in (Op.GE, Op.LE))
    profile = Profile(default_action=error(1), rules=(Rule(names=("read",), action=ALLOW, conditions=conditions),))
    with pytest.raises(InvalidInput, match="read has two conditions on one argument"):
        serialize(profile)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ([], r"linux\.seccomp: must be an object"),
        ({}, r"seccomp\.defaultAction: not an action: None"),
        (section(defaultAction="SCMP_ACT_NOTIFY"), "would stop the container's setup"),
        (section(defaultErrnoRet=1), r"defaultErrnoRet: means nothing with SCMP_ACT_ALLOW"),
        (section(architectures=["SCMP_ARCH_Z80"]), r"architectures\[0\]: not known: 'SCMP_ARCH_Z80'"),
        (section(architectures="SCMP_ARCH_X86"), "architectures: must be a list"),
        (section(flags=["SECCOMP_FILTER_FLAG_LOG", 1]), r"flags\[1\]: not known: 1"),
        (section(flags=["SECCOMP_FILTER_FLAG_NEW_LISTENER"]), r"flags\[0\]"),
        (section(listenerMetadata="x"), "listenerMetadata: means nothing without listenerPath"),
        (section(listenerPath=1), "listenerPath: must be a string"),
        (section(syscalls=[1]), r"syscalls\[0\]: must be an object"),
        (section(syscalls=[{}] * 4097), "4097 rules, at most 4096"),
        (section(other=None), r"seccomp\.other: there is no such key"),
        (syscall(other=1), r"syscalls\[0\]\.other: there is no such key"),
        (syscall(names=[]), r"syscalls\[0\]\.names"),
        (syscall(names=[""]), r"syscalls\[0\]\.names"),
        (syscall(names=["read", 2]), r"syscalls\[0\]\.names"),
        (syscall(action="SCMP_ACT_MAYBE"), r"syscalls\[0\]\.action: not an action: 'SCMP_ACT_MAYBE'"),
        (syscall(action=["SCMP_ACT_KILL"]), r"syscalls\[0\]\.action"),
        (syscall(errnoRet=4096), r"syscalls\[0\]\.errnoRet: must be a number of at most 4095"),
        (syscall(errnoRet=True), r"syscalls\[0\]\.errnoRet"),
        (syscall(errnoRet=-1), r"syscalls\[0\]\.errnoRet"),
        (syscall(action="SCMP_ACT_TRACE", errnoRet=0x10000), r"errnoRet: must be a number of at most 65535"),
        (syscall(action="SCMP_ACT_KILL", errnoRet=1), r"errnoRet: means nothing with SCMP_ACT_KILL"),
        (syscall(action="SCMP_ACT_NOTIFY"), r"listenerPath: must be given with SCMP_ACT_NOTIFY"),
        (
            {**syscall(action="SCMP_ACT_NOTIFY", names=["sendmsg"]), "listenerPath": "/x"},
            "SCMP_ACT_NOTIFY for sendmsg",
        ),
        (syscall(args=[{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]), r"args\[0\]\.index: .* 0 to 5"),
        (syscall(args=[{"index": 0, "value": 2**64, "op": "SCMP_CMP_EQ"}]), r"args\[0\]\.value"),
        (syscall(args=[{"index": 0, "value": 0, "op": "SCMP_CMP_IN"}]), r"args\[0\]\.op: not a comparison"),
        (syscall(args=[{"index": 0, "value": 0, "op": "SCMP_CMP_EQ", "x": 1}]), r"args\[0\]\.x"),
    ],
)
def test_refusals_name_the_rule(value: object, what: str) -> None:
    with pytest.raises(InvalidInput, match=what) as found:
        parse(value, where="config.json")
    assert found.value.where == "config.json"
