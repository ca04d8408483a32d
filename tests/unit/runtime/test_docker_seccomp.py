"""Docker's profiles of system calls: which rules hold where."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wherry.core.errors import InvalidInput
from wherry.linux.seccomp_profile import ALLOW, Condition, Op, Rule, error
from wherry.runtime.docker_seccomp import kernel_version, parse

ALLOWED = {"action": "SCMP_ACT_ALLOW"}


def profile(*calls: object, **more: Any) -> bytes:
    return json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": calls, **more}).encode()


def names(
    *calls: object, capabilities: tuple[str, ...] = (), kernel: tuple[int, int] = (6, 1), machine: str = "x86_64"
) -> list[str]:
    found = parse(profile(*calls), capabilities=capabilities, kernel=kernel, machine=machine)
    return [name for rule in found.rules for name in rule.names]


def test_a_rule_as_docker_writes_it() -> None:
    found = parse(
        profile(
            {
                **ALLOWED,
                "names": ["clone"],
                "args": [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}],
                "comment": "no namespaces",
                "includes": {},
                "excludes": {"caps": ["CAP_SYS_ADMIN"]},
            },
            {"name": "read", "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            defaultErrnoRet=2,
        ),
        capabilities=(),
        kernel=(6, 1),
        machine="x86_64",
    )
    assert found.default_action == error(2)
    flags = Condition(argument=0, op=Op.MASKED_EQ, value=0, mask=0x7E020000)
    assert found.rules == (
        Rule(names=("clone",), action=ALLOW, conditions=(flags,)),
        Rule(names=("read",), action=error(38)),
    )


def test_podmans_errnos_by_name() -> None:
    call = {"names": ["x"], "action": "SCMP_ACT_ERRNO", "errno": "ENOSYS", "errnoRet": 1}
    found = parse(profile(call, defaultErrno="EACCES"), capabilities=(), kernel=(6, 1), machine="x86_64")
    assert (found.default_action, found.rules[0].action) == (error(13), error(38))


def test_includes_must_all_be_so() -> None:
    both = {**ALLOWED, "names": ["bpf"], "includes": {"caps": ["CAP_BPF", "CAP_PERFMON"]}}
    assert names(both, capabilities=("CAP_BPF", "CAP_PERFMON")) == ["bpf"]
    assert names(both, capabilities=("CAP_BPF",)) == []
    arch = {**ALLOWED, "names": ["arch_prctl"], "includes": {"arches": ["amd64", "x32"]}}
    assert names(arch) == ["arch_prctl"]
    assert names(arch, machine="aarch64") == []


def test_excludes_must_none_be_so() -> None:
    call = {**ALLOWED, "names": ["x"], "excludes": {"caps": ["CAP_A", "CAP_B"], "arches": ["arm64"]}}
    assert names(call) == ["x"]
    assert names(call, capabilities=("CAP_B",)) == []
    assert names(call, machine="aarch64") == []


@pytest.mark.parametrize(("kernel", "there"), [((4, 7), False), ((4, 8), True), ((4, 19), True), ((5, 0), True)])
def test_a_kernel_may_be_asked_for(kernel: tuple[int, int], there: bool) -> None:
    least = {"minKernel": "4.8"}
    assert names({**ALLOWED, "names": ["ptrace"], "includes": least}, kernel=kernel) == ["ptrace"] * there
    assert names({**ALLOWED, "names": ["ptrace"], "excludes": least}, kernel=kernel) == ["ptrace"] * (not there)


def test_architectures_are_those_of_this_machines_group() -> None:
    groups = [
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": None},
    ]
    found = {
        machine: parse(profile(archMap=groups), capabilities=(), kernel=(6, 1), machine=machine).architectures
        for machine in ("aarch64", "riscv64", "x86_64")
    }
    assert found == {
        "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
        "riscv64": ("SCMP_ARCH_RISCV64",),
        "x86_64": (),
    }


@pytest.mark.parametrize(
    ("release", "version"), [("6.1.0-13-amd64", (6, 1)), ("4.19", (4, 19)), ("6.18.44-fc", (6, 18)), ("7-rc1", (7, 0))]
)
def test_a_kernels_release(release: str, version: tuple[int, int]) -> None:
    assert kernel_version(release) == version


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"[]", "must be an object"),
        (profile(archMap=[1]), r"archMap\[0\]"),
        (profile(archMap=[{"architecture": "SCMP_ARCH_X86"}], architectures=["SCMP_ARCH_X86"]), "use one of them"),
        (profile({}, {"names": ["x"]}), r"profile\.syscalls\[0\]\.action"),
        (profile({**ALLOWED, "names": ["x"], "name": "x"}), r"syscalls\[0\]: use one of name and names"),
        (profile({**ALLOWED, "names": ["x"], "includes": {"os": 1}}), r"includes: takes caps, arches and minKernel"),
        (profile({**ALLOWED, "names": ["x"], "excludes": {"minKernel": "4"}}), r"excludes\.minKernel"),
        (profile({**ALLOWED, "names": ["x"], "excludes": {"caps": "CAP_X"}}), "must be lists"),
        (profile({**ALLOWED, "names": ["x"], "other": 1}), r"syscalls\[0\]\.other"),
        (profile(defaultErrno="EWHAT"), "profile.defaultErrno: not an errno: 'EWHAT'"),
        (profile({"names": ["x"], "action": "SCMP_ACT_ERRNO", "errno": 1}), r"syscalls\[0\]\.errno: not an errno"),
        (b" " * (1024 * 1024 + 1), "longer than the limit"),
    ],
)
def test_refusals(data: bytes, what: str) -> None:
    with pytest.raises(InvalidInput, match=what) as found:
        parse(data, capabilities=(), kernel=(6, 1), machine="x86_64", where="profile.json")
    assert found.value.where == "profile.json"
