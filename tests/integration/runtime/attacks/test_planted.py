"""Images with something planted where the runtime mounts, makes or looks: nothing outside the root changes, or is seen.

Each way to plant is first shown to work against a runtime that looks paths up naively.
Source: CVE-2019-16884, CVE-2023-27561, CVE-2023-28642, CVE-2024-21626, CVE-2024-45310, CVE-2025-31133, CVE-2025-52565.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from tests.integration.runtime.attacks.naive import (
    SECRET,
    fingerprint,
    make_outside,
    resolve_by_path,
    take_null_from_the_container,
)
from tests.integration.runtime.containers import Runner, make_spec
from tests.integration.runtime.roots import ALL, REFUSED, Entered, bind, entered, spec_of

from wherry.core.errors import InvalidInput, WherryError
from wherry.linux.namespaces import CLONE_NEWNS, clone, setns
from wherry.runtime import rootfs as rootfs_module
from wherry.runtime.cgroup import hierarchies
from wherry.runtime.spec import Device, Mount, Process, Spec

Attack = Callable[[Path], Spec]
LOOK = "cat /link/secret /vol/link/secret /link/etc/secret /copied/secret /etc/made 2>/dev/null; cat /proc/mounts"


def _tmpfs(_: Path) -> Spec:
    return spec_of(Mount(destination="/link/new/place", type="tmpfs"))


def _folder(data: Path) -> Spec:
    return spec_of(bind(data, "/link/new"))


def _file(data: Path) -> Spec:
    return spec_of(bind(data / "file", "/link/file"))


def _dangling(data: Path) -> Spec:
    return spec_of(bind(data / "file", "/dangling"))


def _through_a_volume(data: Path) -> Spec:
    return spec_of(bind(data, "/vol"), bind(data / "file", "/vol/link/deep/file"))


def _node(_: Path) -> Spec:
    return spec_of(devices=(Device(path="/link/node", type="c", major=1, minor=3),))


def _working_directory(_: Path) -> Spec:
    return spec_of(process=Process(args=("sh",), cwd="/link/work/place"))


def _copied_up(_: Path) -> Spec:
    return spec_of(Mount(destination="/link", type="tmpfs", options=("tmpcopyup",)))


def _default_nodes(_: Path) -> Spec:
    return spec_of(Mount(destination="/proc", type="proc"), defaults=False, devices=())


ATTACKS: list[Attack] = [
    *(_tmpfs, _folder, _file, _dangling, _through_a_volume, _node, _working_directory, _copied_up, _default_nodes),
]
LINKS = {
    "absolute": "{outside}",
    "relative": "../../../../../../../../../..{outside}",
    "by another link": "/second",
    "by a folder": "etc/up",
}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    return make_outside(tmp_path / "outside")


def plant(tree: Path, data: Path, outside: Path, points_to: str) -> None:
    link = points_to.format(outside=outside)
    data.mkdir(exist_ok=True)
    (data / "file").write_text("of the volume")
    for place in (tree / "link", data / "link"):
        place.symlink_to(link)
    (tree / "second").symlink_to(outside)
    (tree / "etc/up").symlink_to("../" * 20 + str(outside).lstrip("/"))
    (tree / "dangling").symlink_to(f"{outside}/made")
    (tree / "dev").rmdir()
    (tree / "dev").symlink_to(link)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_links_at_the_place(rootfs: Path, tmp_path: Path, outside: Path, attack: Attack, link: str) -> None:
    data = tmp_path / "volume"
    plant(rootfs, data, outside, LINKS[link])
    before, names = fingerprint(outside), os.listdir(outside)
    seen = entered(rootfs, attack(data), LOOK)
    assert fingerprint(outside) == before, names
    assert SECRET not in seen.out
    assert str(outside) not in seen.out.replace(str(rootfs), "") or seen.status == REFUSED


@pytest.mark.parametrize("attack", ATTACKS)
def test_these_attacks_work_against_a_naive_runtime(
    rootfs: Path, tmp_path: Path, outside: Path, attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "volume"
    plant(rootfs, data, outside, LINKS["absolute"])
    if attack is not _default_nodes:  # a /dev for the others to come as far as the attack
        (rootfs / "dev").unlink()
        (rootfs / "dev").mkdir()
    before = fingerprint(outside)
    resolve_by_path(monkeypatch)

    # What is mounted over the outside, and what was copied from it, this look finds before the pivot.
    def look() -> None:
        if os.path.ismount(outside):
            raise RuntimeError(f"mounted outside: {os.listdir(outside)}")

    seen = entered(rootfs, attack(data), leave_host=look)
    assert fingerprint(outside) != before or "mounted outside" in seen.out, seen


@pytest.mark.parametrize("name", ["proc", "sys", "dev/pts", "dev/shm", "dev/mqueue", "sys/fs/cgroup"])
@pytest.mark.parametrize("to", ["/tmp", "/vol/proc", "{outside}", "/proc/self/root", "/link"])
def test_a_file_system_of_the_kernel_is_where_it_should_be_or_nowhere(
    rootfs: Path, tmp_path: Path, outside: Path, name: str, to: str
) -> None:
    data = tmp_path / "volume"
    plant(rootfs, data, outside, LINKS["absolute"])
    (rootfs / "dev").unlink()
    place = rootfs / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        place.rmdir()
    place.symlink_to(to.format(outside=outside))
    before = fingerprint(outside)
    seen = entered(rootfs, spec_of(bind(data, "/vol")), "stat -f -c %T /proc /sys /dev/pts; cat /proc/mounts")
    assert fingerprint(outside) == before
    if seen.status == REFUSED:
        assert "symbolic links" in seen.out
    else:
        kinds = {line.split()[1]: line.split()[2] for line in seen.out.splitlines() if line.count(" ") == len("sdtof")}
        assert kinds["/proc"] == "proc"
        assert kinds["/sys"] == "sysfs"
        assert kinds["/dev/pts"] == "devpts"
        assert "/vol/proc" not in kinds


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "folder", "loop"])
def test_something_else_in_the_place_of_a_file(rootfs: Path, tmp_path: Path, kind: str) -> None:
    place = rootfs / "etc/place"
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(place))
    elif kind == "device":
        os.mknod(place, stat.S_IFBLK | 0o666, os.makedev(7, 250))
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("place")
    file = tmp_path / "file"
    file.write_text("of the host\n")
    seen = entered(rootfs, spec_of(bind(file, "/etc/place")), "cat /etc/place")
    assert seen == (Entered(REFUSED, seen.out) if kind in ("folder", "loop") else (0, "of the host\n"))


@pytest.mark.parametrize("name", ["null", "console", "tty"])
def test_a_fifo_in_the_place_of_a_node(rootfs: Path, name: str) -> None:
    os.mkfifo(rootfs / "dev" / name)
    seen = entered(rootfs, spec_of(Mount(destination="/proc", type="proc"), defaults=False))
    assert seen.status == (0 if name == "console" else REFUSED)
    assert stat.S_ISFIFO((rootfs / "dev" / name).stat().st_mode)


@pytest.mark.parametrize("to", ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/etc/own"])
def test_masks_are_the_hosts_null_device(
    rootfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    dev = tmp_path / "dev"
    dev.mkdir()
    (rootfs / "etc/own").write_text("the image's")
    (dev / "null").symlink_to(to)
    spec = spec_of(bind(dev, "/dev"), masked_paths=("/proc/keys", "/etc/passwd"))
    look = "stat -c %F:%t:%T /proc/keys /etc/passwd"
    seen = entered(rootfs, spec, look)
    assert seen == (0, "character special file:1:3\n" * 2)
    take_null_from_the_container(monkeypatch)
    assert entered(rootfs, spec, look) != seen


def test_a_mask_covers_what_a_link_leads_to_in_the_root(rootfs: Path, outside: Path) -> None:
    (rootfs / "etc/real").write_text("x")
    (rootfs / "etc/link").symlink_to("/etc/real")
    (rootfs / "etc/out").symlink_to(outside)
    spec = spec_of(masked_paths=("/etc/link", "/etc/out/etc"), readonly_paths=("/etc/out", "/etc/out/secret"))
    assert entered(rootfs, spec, "stat -c %F /etc/real").out == "character special file\n"


@pytest.mark.parametrize("kind", ["volume", "tmpfs", "link", "file"])
def test_nothing_stands_for_proc(rootfs: Path, tmp_path: Path, kind: str) -> None:
    fake = tmp_path / "fake"
    (fake / "self/attr").mkdir(parents=True)
    (fake / "self/attr/exec").touch()
    (rootfs / "attr").symlink_to("/proc/self/attr")
    mounts = {
        "volume": bind(fake, "/proc"),
        "tmpfs": Mount(destination="/proc", type="tmpfs"),
        "link": bind(fake, "/attr"),
        "file": bind(fake / "self/attr/exec", "/proc/self/attr/exec"),
    }
    for defaults in (True, False) if kind in ("volume", "tmpfs") else (True,):
        seen = entered(rootfs, spec_of(mounts[kind], defaults=defaults))
        assert seen.status == REFUSED
        assert "/proc" in seen.out or "symbolic links" in seen.out


def test_files_that_only_tell_of_the_machine_may_be_covered(rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 1 kB\n")
    assert entered(rootfs, spec_of(bind(tmp_path / "meminfo", "/proc/meminfo")), "cat /proc/meminfo").out == (
        "MemTotal: 1 kB\n"
    )


@pytest.mark.parametrize("path", ["/a/../../../etc", "..", "/..", "/link/../x"])
def test_dots_in_a_destination_are_refused(path: str) -> None:
    with pytest.raises(InvalidInput, match=r"'\.\.'"):
        rootfs_module.plan(spec_of(Mount(destination=path, type="tmpfs")), ())


def test_huge_nesting(rootfs: Path) -> None:
    for path in ("/d" * 300, "/d" * 3000, "/" + "n" * 300):
        seen = entered(rootfs, spec_of(Mount(destination=path, type="tmpfs")))
        assert seen.status == REFUSED
        assert "at most 256 parts" in seen.out or "too long" in seen.out
    assert not (rootfs / "d").exists()
    for number in range(60):
        (rootfs / f"l{number}").symlink_to(f"l{number + 1}/x")
    assert "symbolic links" in entered(rootfs, spec_of(Mount(destination="/l0/y", type="tmpfs"))).out


@pytest.mark.parametrize("cwd", ["/proc/self/fd/3", "/proc/self/fd/7/..", "/proc/self/root", "/proc/self/cwd/x"])
def test_a_working_directory_by_a_magic_link(runner: Runner, rootfs: Path, cwd: str) -> None:
    with pytest.raises(WherryError):
        runner.run(make_spec("pwd", process={"cwd": cwd}), rootfs)


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_the_console(runner: Runner, rootfs: Path, tmp_path: Path, outside: Path, kind: str) -> None:
    dev = tmp_path / "dev"
    for name in ("pts", "shm", "mqueue"):
        (dev / name).mkdir(parents=True)
    console = dev / "console"
    if kind == "link":
        console.symlink_to(outside / "console")
    elif kind == "fifo":
        os.mkfifo(console)
    else:
        console.mkdir()
    before = fingerprint(outside)
    default = make_spec("true").mounts
    mounts = tuple(bind(dev, "/dev") if item.destination == "/dev" else item for item in default)
    spec = make_spec("true", mounts=mounts, process={"terminal": True})
    if kind == "folder":
        with pytest.raises(WherryError):
            runner.create(spec, rootfs)
    else:
        with suppress(WherryError) if kind == "link" else nullcontext():
            runner.create(spec, rootfs)
    assert fingerprint(outside) == before
    assert not os.path.ismount(console)


@pytest.mark.parametrize("pivot", [True, False])
def test_root_in_the_container_does_not_get_out_by_chroot_or_setns(rootfs: Path, pivot: bool) -> None:
    """With every capability: a chroot is left by a descriptor from before it, and a namespace's root is entered."""
    (rootfs / "jail").mkdir()
    reader, writer = os.pipe2(os.O_CLOEXEC)
    steps = rootfs_module.plan(spec_of(), hierarchies())
    pid, pidfd = clone(ALL)
    if pid == 0:
        try:
            rootfs_module.enter(str(rootfs), steps, pivot=pivot)
            seen = [sorted(os.listdir("/"))]
            before = os.open("/", os.O_RDONLY)
            os.chroot("/jail")
            os.fchdir(before)
            for _ in range(40):
                os.chdir("..")
            os.chroot(".")
            seen.append(sorted(os.listdir("/")))
            setns(os.open("/proc/self/ns/mnt", os.O_RDONLY), CLONE_NEWNS)
            seen.append(sorted(os.listdir("/")))
            os.write(writer, repr(seen).encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.close(pidfd)
    with os.fdopen(reader) as file:
        told = file.read()
    os.waitpid(pid, 0)
    assert told == repr([sorted(os.listdir(rootfs))] * 3)
