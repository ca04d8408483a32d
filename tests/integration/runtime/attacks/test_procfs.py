"""Settings below /proc reach the kernel, whatever another container that shares mounts has put over /proc.

Source: CVE-2019-16884, CVE-2019-19921, CVE-2025-52881.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from wherry.linux import procfs, x
from wherry.linux.mount import MS_BIND, MS_PRIVATE, MS_REC, mount
from wherry.linux.namespaces import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, clone

SYSCTL = "sys/net/ipv4/ip_default_ttl"


def in_namespaces(body: Callable[[], str]) -> str:
    """Returns what `body` returns in a process with mounts, pids and network of its own."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid, pidfd = clone(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET)
    if pid == 0:
        try:
            mount(None, "/", None, MS_REC | MS_PRIVATE)
            os.write(writer, body().encode())
        except BaseException as error:
            os.write(writer, f"{type(error).__name__} {errno.errorcode.get(getattr(error, 'errno', 0) or 0)}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.close(pidfd)
    with os.fdopen(reader) as file:
        out = file.read()
    os.waitpid(pid, 0)
    return out


def planted(kind: str, tmp_path: Path) -> None:
    """Puts something over the file that is written to."""
    fake = tmp_path / "fake"
    if kind == "file":
        fake.write_text("")
        mount(fake, f"/proc/{SYSCTL}", None, MS_BIND)
    elif kind == "another file of procfs":
        mount("/proc/self/sched", f"/proc/{SYSCTL}", None, MS_BIND)
    elif kind == "tmpfs":
        mount("fake", "/proc/sys", "tmpfs")
        Path(f"/proc/{SYSCTL}").parent.mkdir(parents=True)
        Path(f"/proc/{SYSCTL}").symlink_to("/proc/self/comm")
    elif kind == "all of it":
        (fake / SYSCTL).parent.mkdir(parents=True)
        (fake / SYSCTL).touch()
        mount(fake, "/proc", None, MS_BIND)


KINDS = ("file", "another file of procfs", "tmpfs", "all of it")


@pytest.mark.parametrize("kind", KINDS)
def test_a_setting_reaches_the_kernel(tmp_path: Path, kind: str) -> None:
    def careful() -> str:
        planted(kind, tmp_path)
        fd = procfs.open_procfs()
        procfs.write(fd, SYSCTL, b"65")
        return procfs.read(fd, SYSCTL).decode()

    def naive() -> str:
        before = procfs.open_procfs()
        planted(kind, tmp_path)
        Path(f"/proc/{SYSCTL}").write_text("65")
        return procfs.read(before, SYSCTL).decode()

    assert in_namespaces(careful) == "65\n"
    assert in_namespaces(naive) != "65\n"


@pytest.mark.parametrize(("kind", "refused"), [*((kind, "EXDEV") for kind in KINDS[:3]), (KINDS[3], "EIO")])
def test_without_a_procfs_of_its_own_it_is_refused(
    tmp_path: Path, kind: str, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careful() -> str:
        planted(kind, tmp_path)
        fd = procfs.open_procfs()
        procfs.write(fd, SYSCTL, b"65")
        return procfs.read(fd, SYSCTL).decode()

    def no_mount(*_: object, **__: object) -> int:
        raise OSError(errno.EPERM, "")

    monkeypatch.setattr(x, "new_mount", no_mount)
    assert in_namespaces(careful).endswith(refused)


def test_self_is_this_process_and_links_do_not_lead_away() -> None:
    def own() -> str:
        fd = procfs.open_procfs()
        procfs.write(fd, "self/oom_score_adj", b"500")
        said = [procfs.read(fd, "self/oom_score_adj").decode().strip(), procfs.read(fd, "self/stat").decode()[:2]]
        for path in ("self/root/etc/passwd", "self/exe", "../etc/passwd", "self/fd/0", "self/attr"):
            try:
                os.close(procfs.open_file(fd, path, os.O_RDONLY))
                said.append(path)
            except OSError:
                pass
        return " ".join(said)

    assert in_namespaces(own) == "500 1 "
