"""What a process is given beside its user: limits, scheduling, priorities, personality, ambient capabilities, names."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.runtime.containers import Result, Runner, make_spec, status_fields

from wherry.core.errors import InvalidInput, NotPermitted, Unsupported, WherryError
from wherry.linux.attributes import has_apparmor, has_selinux
from wherry.runtime import container
from wherry.runtime.spec import Capabilities, IoPriority, Personality, Rlimit, Scheduler


def test_every_limit_by_its_name(sh: Callable[..., Result]) -> None:
    limits = tuple(
        Rlimit(type=name, soft=value, hard=value + 1)
        for name, value in (
            *(("RLIMIT_CORE", 1000), ("RLIMIT_NOFILE", 200), ("RLIMIT_NPROC", 300), ("RLIMIT_MSGQUEUE", 400)),
            *(("RLIMIT_SIGPENDING", 500), ("RLIMIT_FSIZE", 600), ("RLIMIT_STACK", 8_000_000), ("RLIMIT_RTTIME", 700)),
        )
    )
    found = sh("cat /proc/self/limits", process={"rlimits": limits})
    lines = {line[:26].strip(): line[26:].split()[:2] for line in found.out.splitlines()}
    assert lines["Max open files"] == ["200", "201"]
    assert lines["Max processes"] == ["300", "301"]
    assert lines["Max msgqueue size"] == ["400", "401"]
    assert lines["Max pending signals"] == ["500", "501"]
    assert lines["Max file size"] == ["600", "601"]
    assert lines["Max realtime timeout"] == ["700", "701"]


def test_a_limit_that_cannot_be_raised_says_what_it_takes(runner: Runner, busybox_tree: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limits = (Rlimit(type="RLIMIT_NOFILE", soft=hard + 1, hard=hard + 1),)
    spec = make_spec("true", process={"rlimits": limits, "capabilities": Capabilities()})
    with open("/proc/self/status", encoding="ascii") as file:
        may = int(status_fields(file.read())["CapEff"], 16) >> 24 & 1
    if may:
        runner.start(spec, busybox_tree)
        return
    with pytest.raises(NotPermitted, match=f"RLIMIT_NOFILE: raising it above {hard} takes CAP_SYS_RESOURCE"):
        runner.start(spec, busybox_tree)


def test_limits_that_cannot_be_are_refused(runner: Runner, busybox_tree: Path) -> None:
    for limit in (Rlimit(type="RLIMIT_X", soft=1, hard=1), Rlimit(type="RLIMIT_CORE", soft=2, hard=1)):
        with pytest.raises(InvalidInput):
            runner.create(make_spec("true", process={"rlimits": (limit,)}), busybox_tree)


def test_scheduling_and_priorities(sh: Callable[..., Result]) -> None:
    wanted = {
        "scheduler": Scheduler(policy="SCHED_BATCH", nice=5),
        "io_priority": IoPriority(io_class="IOPRIO_CLASS_IDLE"),
    }
    found = sh("cat /proc/self/stat", process=wanted)
    fields = found.out.rpartition(")")[2].split()
    nice, policy = int(fields[16]), int(fields[38])
    assert (nice, policy) == (5, 3)


def test_a_machine_of_32_bits(sh: Callable[..., Result], busybox_tree: Path) -> None:
    script = "cat /proc/self/personality"
    assert sh(script, personality=Personality(domain="LINUX32")).out.strip() == "00000008"
    assert sh(script, personality=Personality(domain="LINUX")).out.strip() == "00000000"


def test_ambient_capabilities_stay_with_a_user(sh: Callable[..., Result]) -> None:
    names = ("CAP_NET_RAW", "CAP_CHOWN")
    sets = Capabilities(bounding=names, effective=names, permitted=names, inheritable=names, ambient=names)
    found = status_fields(sh("cat /proc/self/status", process={"capabilities": sets, "uid": 1000}).out)
    assert {found[key] for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0000000000002001"}


def test_what_is_lacking_is_left_out_and_told(runner: Runner, busybox_tree: Path) -> None:
    names = ("CAP_CHOWN", "CAP_SYS_RESOURCE")
    sets = Capabilities(bounding=names, effective=names, permitted=names, inheritable=("CAP_CHOWN",), ambient=names)
    told: list[str] = []
    with open("/proc/self/status", encoding="ascii") as file:
        own = int(status_fields(file.read())["CapPrm"], 16)

    created = runner.create(make_spec("true", process={"capabilities": sets}), busybox_tree)
    container.start(created, warn=told.append)
    if own >> 24 & 1:
        assert told == []
    else:
        assert told == ["capabilities that this user does not have are left out: CAP_SYS_RESOURCE"]


def test_oom_score_is_set_or_says_what_it_takes(sh: Callable[..., Result], runner: Runner, busybox_tree: Path) -> None:
    assert sh("cat /proc/self/oom_score_adj", process={"oom_score_adj": 500}).out == "500\n"
    with open("/proc/self/status", encoding="ascii") as file:
        may = int(status_fields(file.read())["CapEff"], 16) >> 24 & 1
    if may:
        assert sh("cat /proc/self/oom_score_adj", process={"oom_score_adj": -1000}).out == "-1000\n"
        return
    with pytest.raises(NotPermitted, match="lowering it to -1000 takes CAP_SYS_RESOURCE"):
        runner.start(make_spec("true", process={"oom_score_adj": -1000}), busybox_tree)


@pytest.mark.parametrize(("field", "there"), [("apparmor_profile", has_apparmor()), ("selinux_label", has_selinux())])
def test_labels_are_refused_without_their_module(runner: Runner, busybox_tree: Path, field: str, there: bool) -> None:
    spec = make_spec("true", process={field: "nothing-of-this-name"})
    with pytest.raises(WherryError if there else Unsupported):
        runner.start(spec, busybox_tree)


def test_a_user_by_name_with_groups_and_home(runner: Runner, rootfs: Path) -> None:
    (rootfs / "etc").mkdir(exist_ok=True)
    (rootfs / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nada:x:1234:1235::/home/ada:/bin/sh\n")
    (rootfs / "etc/group").write_text("ada:x:1235:\naudio:x:29:ada\nvideo:x:44:bob\n")
    script = "id -u; id -g; id -G; echo $HOME"
    env = ("PATH=/bin",)
    found = runner.run(make_spec("sh", "-c", script, process={"user": "ada", "env": env}), rootfs)
    assert found.out.splitlines() == ["1234", "1235", "1235 29", "/home/ada"]
    found = runner.run(make_spec("sh", "-c", script, process={"user": "ada:video", "env": env}), rootfs)
    assert found.out.splitlines() == ["1234", "44", "44", "/home/ada"]
    found = runner.run(make_spec("sh", "-c", script, process={"user": "77:88", "env": env}), rootfs)
    assert found.out.splitlines() == ["77", "88", "88", "/"]
    with pytest.raises(WherryError, match="no user 'eve'"):
        runner.start(make_spec("true", process={"user": "eve"}), rootfs)


def test_a_passwd_file_that_leads_out_is_the_containers_own(runner: Runner, rootfs: Path) -> None:
    (rootfs / "etc").mkdir(exist_ok=True)
    (rootfs / "etc/passwd").unlink(missing_ok=True)
    (rootfs / "etc/passwd").symlink_to("../../../../../../etc/other")
    (rootfs / "etc/other").write_text("ada:x:1234:1235::/home/ada:/bin/sh\n")
    assert runner.run(make_spec("id", "-u", process={"user": "ada"}), rootfs).out == "1234\n"


def test_a_further_process_by_name_on_its_processors(runner: Runner, busybox_tree: Path) -> None:
    created = runner.start(make_spec("sleep", "1000"), busybox_tree)
    cpu = min(os.sched_getaffinity(0))
    process = make_spec(
        "sh",
        "-c",
        "id -u; grep Cpus_allowed_list /proc/self/status",
        process={"user": "web", "cpu_affinity_initial": str(cpu), "cpu_affinity_final": str(cpu)},
    ).process
    assert runner.exec(created.state_dir, process).out.split() == ["1000", "Cpus_allowed_list:", str(cpu)]


def test_no_new_privileges_is_seen(sh: Callable[..., Result]) -> None:
    for wanted in (True, False):
        found = sh("grep NoNewPrivs /proc/self/status", process={"no_new_privileges": wanted})
        assert found.out.split()[1] == str(int(wanted))
