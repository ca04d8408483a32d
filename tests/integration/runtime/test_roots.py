"""A container's file systems, and images that mean ill: mounts, read-only roots, links that lead outside."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.runtime.containers import (
    Result,
    Runner,
    exit_status,
    make_spec,
)

from wherry.core.errors import CannotInvoke, WherryError
from wherry.linux import x
from wherry.runtime import container, default
from wherry.runtime.spec import Mount

Shell = Callable[..., Result]


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


def test_the_hosts_cgroup_namespace_shows_own_groups_alone(sh: Shell, rootfs: Path) -> None:
    spaces = {name: path for name, path in default.NAMESPACES.items() if name != "cgroup"}
    group = "memory" if os.path.isdir("/sys/fs/cgroup/memory") else "."
    seen = sh(f"cat /sys/fs/cgroup/{group}/cgroup.procs; ls /sys/fs/cgroup/{group}", tree=rootfs, namespaces=spaces)
    assert seen.out.splitlines()[0] == "1"  # of this pid namespace: the shell itself, or its first child
    assert "wherry" not in seen.out.split()


def test_settings_of_a_namespace(sh: Shell, rootfs: Path) -> None:
    sysctl = {"net.ipv4.ip_default_ttl": "77", "kernel/msgmax": "4096", "net/ipv4/conf/lo/forwarding": "1"}
    script = "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax /proc/sys/net/ipv4/conf/lo/forwarding"
    assert sh(script, tree=rootfs, sysctl=sysctl).out == "77\n4096\n1\n"
