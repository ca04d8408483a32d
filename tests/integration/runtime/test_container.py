"""Containers, for real: what a process sees, what it may do, how it ends, and what is left of it."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.runtime.containers import (
    CONTROLLERS_V1,
    DEFAULT_CAPABILITIES,
    Result,
    Runner,
    exit_status,
    make_spec,
    status_fields,
)

from wherry.core.errors import CannotInvoke, CommandNotFound, Conflict, InvalidInput, NotFound, Unsupported, WherryError
from wherry.linux import capabilities, x
from wherry.linux.libc import number as libc_number
from wherry.runtime import container, default
from wherry.runtime.spec import Capabilities, Device, Mount, Namespace, Rlimit
from wherry.runtime.state import Status, load_state

Shell = Callable[..., Result]


def test_it_is_alone(sh: Shell) -> None:
    seen = sh("echo $$; hostname; ps -o pid | wc -l; for f in /proc/self/ns/*; do readlink $f; done")
    pid, host, processes, *spaces = seen.out.split()
    assert (seen.status, pid, host) == (0, "1", "box")
    assert int(processes) <= 4  # a heading, sh, ps, wc
    own = {name: os.readlink(f"/proc/self/ns/{name}") for name in ("cgroup", "ipc", "mnt", "net", "pid", "uts")}
    for name, link in own.items():
        assert link not in spaces, name


def test_its_file_systems(sh: Shell) -> None:
    seen = sh("cat /proc/self/mounts; ls /dev; for d in null zero full random urandom tty; do test -c /dev/$d; done")
    mounts = {line.split()[1]: line.split() for line in seen.out.splitlines() if line.count(" ") == 5}
    assert mounts["/proc"][2] == "proc"
    assert mounts["/dev"][2] == "tmpfs"
    assert mounts["/dev/pts"][2] == "devpts"
    assert mounts["/dev/shm"][2] == "tmpfs"
    assert mounts["/dev/mqueue"][2] == "mqueue"
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(mounts["/sys"][3].split(","))
    assert {"nosuid", "nodev", "noexec"} <= set(mounts["/proc"][3].split(","))
    groups = "/sys/fs/cgroup/memory" if CONTROLLERS_V1 else "/sys/fs/cgroup"
    for path in ("/proc/sys", "/proc/bus", "/proc/irq", groups):
        assert "ro" in mounts[path][3].split(","), path
    # Nothing of the host can be seen.
    assert not [target for target in mounts if target.startswith(("/work", "/run", "/mnt", "/boot"))]


def test_masked_and_read_only_paths(sh: Shell) -> None:
    seen = sh(
        "wc -c < /proc/keys; ls -A /sys/firmware /proc/acpi | grep -v :; "
        "echo 1 > /proc/sys/kernel/panic; echo b > /proc/sysrq-trigger; echo x > /proc/keys && echo masked; "
        "mkdir /sys/fs/cgroup/memory/x /sys/fs/cgroup/x; touch /sys/x"
    )
    lines = [line for line in seen.out.splitlines() if line]
    assert lines[0] == "0"
    assert "can't create /proc/sys/kernel/panic: Read-only file system" in seen.out
    assert "sysrq-trigger: Read-only file system" in seen.out or "sysrq-trigger: nonexistent" in seen.out
    assert "masked" in seen.out
    assert seen.out.count("Read-only file system") >= 3


def test_privileges_are_dockers_default(runner: Runner, busybox_tree: Path) -> None:
    fields = status_fields(runner.run(make_spec("cat", "/proc/self/status"), busybox_tree).out)
    assert capabilities.mask(default.CAPABILITIES) == 0xA80425FB
    expected = f"{DEFAULT_CAPABILITIES:016x}"
    assert [fields[key] for key in ("CapPrm", "CapEff", "CapBnd")] == [expected] * 3
    assert [fields[key] for key in ("CapInh", "CapAmb")] == ["0" * 16] * 2
    assert (fields["Seccomp"], fields["NoNewPrivs"]) == ("2", "1")
    assert (fields["SigBlk"], fields["SigIgn"]) == ("0" * 16, "0" * 16)


def test_signals_that_the_caller_ignores_are_not_ignored(runner: Runner, busybox_tree: Path) -> None:
    """Those of the C library too, as a program has that make(1) started."""
    old = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    ignore = (ctypes.c_ulong * 8)(1)  # struct sigaction with SIG_IGN
    libc = ctypes.CDLL(None, use_errno=True)
    number = libc_number("rt_sigaction")
    try:
        assert libc.syscall(number, 32, ignore, None, 8) == 0
        fields = status_fields(runner.run(make_spec("cat", "/proc/self/status"), busybox_tree).out)
    finally:
        libc.syscall(number, 32, (ctypes.c_ulong * 8)(), None, 8)
        signal.signal(signal.SIGUSR1, old)
    assert fields["SigIgn"] == "0" * 16


def test_another_user(sh: Shell) -> None:
    user = {"uid": 1000, "gid": 1001, "additional_gids": (1002, 1003), "umask": 0o027, "cwd": "/tmp"}
    seen = sh("id -u; id -g; id -G; pwd; umask; cat /proc/self/status; cat /root/x; touch /x", process=user)
    lines = seen.out.splitlines()
    assert lines[:5] == ["1000", "1001", "1001 1002 1003", "/tmp", "0027"]
    fields = status_fields(seen.out)
    assert fields["CapEff"] == fields["CapPrm"] == "0" * 16
    assert fields["CapBnd"] == f"{DEFAULT_CAPABILITIES:016x}"
    assert "Permission denied" in seen.out


def test_ambient_capabilities_reach_a_user(sh: Shell) -> None:
    names = ("CAP_NET_BIND_SERVICE",)
    sets = Capabilities(bounding=names, effective=names, permitted=names, inheritable=names, ambient=names)
    fields = status_fields(sh("cat /proc/self/status", process={"uid": 1000, "capabilities": sets}).out)
    assert {fields[key] for key in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb")} == {"0000000000000400"}


def test_a_user_can_open_its_standard_output_again(sh: Shell) -> None:
    assert sh("echo hello > /dev/stdout", process={"uid": 1000, "gid": 1000}).out == "hello\n"


@pytest.mark.parametrize("new_privileges", [True, False])
def test_forbidden_calls(sh: Shell, new_privileges: bool) -> None:
    forbidden = ("unshare -m true", "mount -t tmpfs x /tmp", "umount /proc", "hostname other", "date -s 2001-01-01")
    script = "; ".join(f"{command} && echo done" for command in forbidden[:-1]) + f"; {forbidden[-1]}"
    seen = sh(script, process={"no_new_privileges": not new_privileges})
    assert "done" not in seen.out
    assert seen.out.count("Operation not permitted") >= 3
    assert "can't set date: Operation not permitted" in seen.out


def test_without_a_filter_more_is_refused_by_capabilities_alone(sh: Shell) -> None:
    seen = sh("cat /proc/self/status; mount -t tmpfs x /tmp", seccomp=None)
    assert status_fields(seen.out)["Seccomp"] == "0"
    assert seen.status != 0


def test_only_standard_descriptors_are_open(sh: Shell, tmp_path: Path) -> None:
    held = [os.open(tmp_path, os.O_RDONLY) for _ in range(30)]  # the last of them far above any that setup uses
    for fd in held:
        os.set_inheritable(fd, True)
    try:
        # ls itself has the directory open as 3.
        assert sh("ls /proc/self/fd").out.split() == ["0", "1", "2", "3"]
    finally:
        for fd in held:
            os.close(fd)


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_exit_statuses(sh: Shell, status: int) -> None:
    assert sh(f"exit {status}").status == status


def test_a_signal_is_seen(runner: Runner, busybox_tree: Path) -> None:
    created = runner.start(make_spec("sleep", "1000"), busybox_tree)
    container.kill(created.state_dir, signal.SIGTERM)  # pid 1 without a handler: ignored, as with every runtime
    container.kill(created.state_dir, signal.SIGKILL)
    assert exit_status(created.pid) == 128 + signal.SIGKILL
    with pytest.raises(Conflict, match="does not run"):
        container.kill(created.state_dir, signal.SIGTERM)


def test_a_handler_gets_the_signal(runner: Runner, busybox_tree: Path) -> None:
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done"
    created = runner.start(make_spec("sh", "-c", script), busybox_tree, out_fd=write_end)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as reader:
        assert reader.readline() == b"ready\n"
    container.kill(created.state_dir, signal.SIGTERM)
    assert exit_status(created.pid) == 9


def test_a_missing_command(runner: Runner, busybox_tree: Path) -> None:
    for command in ("no-such-command", "/bin/no-such-command", ""):
        created = runner.create(make_spec(command), busybox_tree)
        with pytest.raises(CommandNotFound) as found:
            container.start(created)
        assert found.value.exit_code == 127
        assert exit_status(created.pid) == 1
        container.delete(created.state_dir)


def test_a_command_that_is_no_program(runner: Runner, rootfs: Path) -> None:
    (rootfs / "bin/text").write_text("not a program\n")
    (rootfs / "bin/text").chmod(0o755)
    (rootfs / "bin/plain").write_text("#!/bin/sh\n")
    (rootfs / "bin/nowhere").write_text("#!/bin/absent\n")
    (rootfs / "bin/nowhere").chmod(0o755)
    for command, kind in (
        ("text", CannotInvoke),
        ("plain", CannotInvoke),
        ("/etc", CannotInvoke),
        ("/etc/passwd/x", CommandNotFound),
        ("nowhere", CommandNotFound),  # as the shell says it too: the interpreter is what is not found
    ):
        created = runner.create(make_spec(command), rootfs)
        with pytest.raises(CannotInvoke) as found:
            container.start(created)
        assert type(found.value) is kind, command
        exit_status(created.pid)
        container.delete(created.state_dir)


def test_the_first_on_the_path_that_can_be_executed_wins(runner: Runner, rootfs: Path) -> None:
    for folder, mode in (("a", 0o644), ("b", 0o755), ("c", 0o755)):
        (rootfs / folder).mkdir()
        (rootfs / folder / "tool").write_text(f"#!/bin/sh\necho {folder}\n")
        (rootfs / folder / "tool").chmod(mode)
    spec = make_spec("tool", process={"env": ("PATH=/none:/a:/b:/c",)})
    assert runner.run(spec, rootfs) == Result(0, "b\n")


def test_the_environment_is_what_was_asked_for(runner: Runner, busybox_tree: Path) -> None:
    spec = make_spec("env", process={"env": ("PATH=/bin", "A=b=c", "EMPTY=", "UML=äöü")})
    assert set(runner.run(spec, busybox_tree).out.splitlines()) == {"PATH=/bin", "A=b=c", "EMPTY=", "UML=äöü"}


def test_a_read_only_root(sh: Shell, rootfs: Path) -> None:
    seen = sh("touch /x; touch /tmp/y; touch /dev/shm/z && echo writable", tree=rootfs, root_read_only=True)
    assert seen.out.count("Read-only file system") == 2
    assert "writable" in seen.out
    assert not (rootfs / "x").exists()


def test_bind_mounts(sh: Shell, rootfs: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "file").write_text("of the host\n")
    mounts = (
        *default.mounts(),
        Mount(destination="/data", type="bind", source=str(data), options=("rbind", "ro")),
        Mount(destination="/deep/down/here", type="bind", source=str(data), options=("rbind",)),
        Mount(destination="/etc/one-file", type="bind", source=str(data / "file"), options=("bind", "ro")),
        Mount(destination="/scratch", type="tmpfs", source="tmpfs", options=("size=64k", "mode=700", "noexec")),
    )
    seen = sh(
        "cat /data/file /etc/one-file; touch /data/x; echo y > /etc/one-file; echo new > /deep/down/here/new; "
        "head -c 100000 /dev/zero > /scratch/big; wc -c < /scratch/big; stat -c %a /scratch",
        tree=rootfs,
        mounts=mounts,
    )
    assert seen.out.count("of the host") == 2
    assert seen.out.count("Read-only file system") == 2
    assert seen.out.splitlines()[-2:] == ["65536", "700"]
    assert (data / "new").read_text() == "new\n"


@pytest.mark.parametrize("kernel", ["this", "Linux 5.10, without mount_setattr"])
def test_read_only_with_all_below_it(
    sh: Shell, rootfs: Path, tmp_path: Path, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel != "this":
        monkeypatch.setattr(x, "mount_setattr", no_such_call)
    below = tmp_path / "data" / "below"
    below.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", below], check=True)
    try:
        for option, expected in (("ro", "written"), ("rro", "Read-only file system")):
            mounts = (
                *default.mounts(),
                Mount(destination="/data", type="bind", source=str(tmp_path / "data"), options=("rbind", option)),
            )
            seen = sh("touch /data/x; touch /data/below/x && echo written", tree=rootfs, mounts=mounts)
            assert expected in seen.out
            assert "/data/x: Read-only" in seen.out
    finally:
        subprocess.run(["umount", below], check=True)


def no_such_call(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def test_an_older_kernels_read_only_root(sh: Shell, rootfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(x, "mount_setattr", no_such_call)
    seen = sh("touch /x; cat /proc/self/mounts; echo 1 > /proc/sys/kernel/panic", tree=rootfs, root_read_only=True)
    assert seen.out.count("Read-only file system") == 2
    assert "proc /proc/sys proc ro,nosuid,nodev,noexec" in seen.out


def test_a_strict_umask_of_the_caller_does_not_matter(sh: Shell, rootfs: Path) -> None:
    old = os.umask(0o077)
    try:
        seen = sh("stat -c %a /srv/app /dev/null; umask", tree=rootfs, process={"cwd": "/srv/app", "uid": 1000})
    finally:
        os.umask(old)
    assert seen.out.split() == ["755", "666", "0022"]


def test_links_in_an_image_do_not_lead_outside(runner: Runner, rootfs: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    data = tmp_path / "data"
    data.mkdir()
    (rootfs / "absolute").symlink_to(outside)
    (rootfs / "relative").symlink_to("../" * 20 + str(outside))
    (rootfs / "file").symlink_to(outside / "made")
    (rootfs / "etc/loop").symlink_to("loop")
    (data / "x").write_text("x")
    for target, source in (
        ("/absolute/new", data),
        ("/relative/new", data),
        ("/absolute", data),
        ("/file", data / "x"),
        ("/absolute/deep/er", data / "x"),
    ):
        mounts = (*default.mounts(), Mount(destination=target, type="bind", source=str(source), options=("bind",)))
        assert runner.run(make_spec("true", mounts=mounts), rootfs).status == 0, target
        assert list(outside.iterdir()) == [], target
    loop = Mount(destination="/etc/loop/x", type="bind", source=str(data), options=("bind",))
    with pytest.raises(WherryError, match="symbolic links"):
        runner.create(make_spec("true", mounts=(*default.mounts(), loop)), rootfs)
    # A working directory that is made follows the same rule.
    assert runner.run(make_spec("pwd", process={"cwd": "/absolute/work"}), rootfs).status == 0
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_an_image_cannot_have_proc_put_elsewhere(runner: Runner, rootfs: Path, name: str) -> None:
    (rootfs / name).rmdir()
    (rootfs / name).symlink_to("tmp")
    with pytest.raises(WherryError, match=f"symbolic links: mount -t {name}"):
        runner.create(make_spec("true"), rootfs)


def test_nothing_is_mounted_inside_proc(runner: Runner, rootfs: Path, tmp_path: Path) -> None:
    (rootfs / "link").symlink_to("/proc/self/attr")
    for target in ("/proc/sys", "/link", "/proc/1/attr/current"):
        inside = Mount(destination=target, type="bind", source=str(tmp_path), options=("bind",))
        with pytest.raises(WherryError):
            runner.create(make_spec("true", mounts=(*default.mounts(), inside)), rootfs)


def test_the_hosts_interpreter_cannot_be_executed(runner: Runner, rootfs: Path) -> None:
    (rootfs / "bin/trick").write_text("#!/proc/self/exe\n")
    (rootfs / "bin/second").write_text("#!/bin/trick\n")
    for name in ("trick", "second"):
        (rootfs / "bin" / name).chmod(0o755)
    (rootfs / "bin/link").symlink_to("/proc/self/exe")
    (rootfs / "bin/by-link").write_text("#!/bin/link\n")
    (rootfs / "bin/by-link").chmod(0o755)
    for command in ("/proc/self/exe", "trick", "second", "link", "by-link"):
        created = runner.create(make_spec(command), rootfs)
        with pytest.raises(CannotInvoke):
            container.start(created)
        exit_status(created.pid)


def test_limits_of_the_process(sh: Shell) -> None:
    limits = (Rlimit(type="RLIMIT_NOFILE", soft=100, hard=200), Rlimit(type="RLIMIT_CORE", soft=0, hard=0))
    seen = sh("ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj", process={"rlimits": limits, "oom_score_adj": 500})
    assert seen.out.split() == ["100", "200", "500"]


def test_a_limit_that_cannot_be_raised_names_itself(runner: Runner, busybox_tree: Path) -> None:
    limits = (Rlimit(type="RLIMIT_NOFILE", soft=100, hard=2**40),)
    created = runner.create(make_spec("true", process={"rlimits": limits}), busybox_tree)
    with pytest.raises(WherryError, match=r"setting resource limits.*RLIMIT_NOFILE"):
        container.start(created)


def test_sysctls_of_its_own_namespaces(sh: Shell) -> None:
    seen = sh(
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced",
        sysctl={"net.ipv4.ip_unprivileged_port_start": "0", "kernel.shm_rmid_forced": "1"},
    )
    assert seen.out.split() == ["0", "1"]


@pytest.mark.parametrize("key", ["kernel.panic", "vm.swappiness", "net/../kernel/panic", "fs.file-max"])
def test_sysctls_of_the_host_are_refused(runner: Runner, busybox_tree: Path, key: str) -> None:
    with pytest.raises(InvalidInput, match="sysctl"):
        runner.create(make_spec("true", sysctl={key: "1"}), busybox_tree)


def test_a_shared_network_namespace(sh: Shell) -> None:
    spaces = {name: path for name, path in default.NAMESPACES.items() if name is not Namespace.NETWORK}
    assert sh("readlink /proc/self/ns/net", namespaces=spaces).out.strip() == os.readlink("/proc/self/ns/net")


def test_joining_a_network_namespace(runner: Runner, busybox_tree: Path) -> None:
    first = runner.start(make_spec("sleep", "1000"), busybox_tree)
    path = f"/proc/{first.pid}/ns/net"
    spec = make_spec("readlink", "/proc/self/ns/net", namespaces={**default.NAMESPACES, Namespace.NETWORK: path})
    assert runner.run(spec, busybox_tree).out.strip() == os.readlink(path)


def test_devices(sh: Shell) -> None:
    ram = Device(path="/dev/ram-of-the-host", type="b", major=1, minor=0, file_mode=0o660, gid=7)
    seen = sh(
        "stat -c '%a %g %t:%T' /dev/ram-of-the-host; cat /dev/ram-of-the-host; echo x > /dev/null", devices=(ram,)
    )
    assert seen.out.splitlines()[0] == "660 7 1:0"
    if "devices" in CONTROLLERS_V1:  # a device that is given to a container needs a rule too
        assert "Operation not permitted" in seen.out


def test_devices_of_its_own_making(sh: Shell) -> None:
    seen = sh(
        "cd /tmp; mknod block b 1 0 && cat block; mknod null c 1 3 && echo x > null && echo made; rm -f block null"
    )
    if "devices" in CONTROLLERS_V1:
        assert "can't open 'block': Operation not permitted" in seen.out
        assert "made" in seen.out
    else:
        assert seen.out.count("mknod: ") == seen.out.count("Operation not permitted") == 2


def test_device_nodes_of_an_image_without_a_devices_list(sh: Shell, rootfs: Path) -> None:
    os.mknod(rootfs / "zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    seen = sh("head -c 1 /zero | wc -c; grep ' / ' /proc/self/mounts", tree=rootfs)
    if "devices" in CONTROLLERS_V1:
        assert seen.out.splitlines()[0] == "1"
    else:
        assert "Permission denied" in seen.out
        assert "nodev" in seen.out


def test_created_started_stopped_deleted(runner: Runner, busybox_tree: Path) -> None:
    created = runner.create(make_spec("sleep", "1000"), busybox_tree)
    assert load_state(created.state_dir).status is Status.CREATED
    assert Path(f"/proc/{created.pid}/root/dev/null").exists()
    container.start(created)
    assert load_state(created.state_dir).status is Status.RUNNING
    with pytest.raises(Conflict, match="started already"):
        container.start(created)
    with pytest.raises(Conflict, match="there is a container"):
        container.create(
            make_spec("true"),
            container_id="other",
            state_dir=created.state_dir,
            rootfs=busybox_tree,
            stdio=container.Stdio(stdin_fd=0, stdout_fd=1, stderr_fd=2),
        )
    os.kill(created.pid, signal.SIGKILL)
    exit_status(created.pid)
    assert load_state(created.state_dir).status is Status.STOPPED
    groups = load_state(created.state_dir).cgroup.groups
    assert groups
    assert all(Path(group.path).is_dir() for group in groups)
    container.delete(created.state_dir)
    container.delete(created.state_dir)
    assert not any(Path(group.path).exists() for group in groups)
    with pytest.raises(NotFound):
        load_state(created.state_dir)


def test_delete_kills(runner: Runner, busybox_tree: Path) -> None:
    created = runner.start(make_spec("sh", "-c", "for i in 1 2 3; do sleep 1000 & done; wait"), busybox_tree)
    container.delete(created.state_dir)
    assert exit_status(created.pid) == 128 + signal.SIGKILL


def test_a_container_may_be_abandoned(runner: Runner, busybox_tree: Path) -> None:
    created = runner.create(make_spec("true"), busybox_tree)
    groups = load_state(created.state_dir).cgroup.groups
    container.abandon(created)
    assert not Path(f"/proc/{created.pid}").exists()
    assert not any(Path(group.path).exists() for group in groups)


def test_a_failed_setup_leaves_nothing(runner: Runner, busybox_tree: Path) -> None:
    bad = Mount(destination="/data", type="bind", source="/no/such/source", options=("bind",))
    before = set(Path("/sys/fs/cgroup").rglob("*wherry*"))
    with pytest.raises(WherryError, match="No such file or directory: mount --bind /no/such/source /data"):
        runner.create(make_spec("true", mounts=(*default.mounts(), bad)), busybox_tree)
    assert set(Path("/sys/fs/cgroup").rglob("*wherry*")) == before
    assert not (runner.states[-1] / "runtime.json").exists()


def test_a_bad_option_names_the_file_systems_word(runner: Runner, busybox_tree: Path) -> None:
    bad = Mount(destination="/data", type="tmpfs", source="tmpfs", options=("wrong=1",))
    with pytest.raises(WherryError, match="Unknown parameter 'wrong'"):
        runner.create(make_spec("true", mounts=(*default.mounts(), bad)), busybox_tree)


_PARENT = """
import os, sys, time
from pathlib import Path
from tests.integration.runtime.containers import make_spec, status_fields
from wherry.runtime import container
created = container.create(make_spec("sleep", "1000"), container_id=sys.argv[1], state_dir=Path(sys.argv[2]),
    rootfs=Path(sys.argv[3]), stdio=container.Stdio(stdin_fd=0, stdout_fd=1, stderr_fd=2))
print(created.pid, flush=True)
time.sleep(1000)
"""


def test_the_parents_death_before_the_start_ends_it(busybox_tree: Path, tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, f"orphan-{os.getpid()}", state_dir, busybox_tree], stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while load_state(state_dir).status is not Status.STOPPED:
        assert time.monotonic() < deadline, f"{pid} lives on"
        time.sleep(0.01)
    groups = load_state(state_dir).cgroup.groups
    container.delete(state_dir)
    assert not any(Path(group.path).exists() for group in groups)


def test_several_threads_are_refused(busybox_tree: Path, tmp_path: Path) -> None:
    import threading

    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    try:
        with pytest.raises(Unsupported, match="several threads"):
            container.create(
                make_spec("true"),
                container_id="threads",
                state_dir=tmp_path / "state",
                rootfs=busybox_tree,
                stdio=container.Stdio(stdin_fd=0, stdout_fd=1, stderr_fd=2),
            )
    finally:
        event.set()
        thread.join()
