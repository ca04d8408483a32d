"""What strace wrote, read back."""

from __future__ import annotations

import pytest

from wherry.engine.pack.tracing import touched

ROOT = "/tmp/wherry-trace-x/root"


@pytest.mark.parametrize(
    ("line", "paths"),
    [
        ('12 execve("/usr/bin/app", ["app", "/etc/arg"], 0x7ff /* 3 vars */) = 0', ["/usr/bin/app"]),
        ('openat(AT_FDCWD</>, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 3</etc/passwd>', ["/etc/passwd"]),
        ('12 openat(AT_FDCWD</>, "/etc/gone", O_RDONLY) = -1 ENOENT (No such file or directory)', []),
        (f'12 openat(AT_FDCWD<{ROOT}/usr/share>, "a/../b", O_RDONLY) = 3<{ROOT}/usr/share/b>', ["/usr/share/b"]),
        (f'12 openat(4<{ROOT}>, "etc", O_RDONLY) = 5<{ROOT}/etc>', ["/etc"]),
        ('12 openat(AT_FDCWD, "relative", O_RDONLY) = 3', []),
        ('12 readlink("/etc/alt", "/usr/bin/target", 4096) = 15', ["/etc/alt"]),
        ('12 newfstatat(AT_FDCWD</>, "/a\\303\\244\\"b\\n", {st_mode=S_IFREG}, 0) = 0', ['/aä"b\n']),
        ('12 openat(AT_FDCWD</>, "/proc/self/maps", O_RDONLY) = 3', []),
        ('12 openat(AT_FDCWD</>, "/long"..., O_RDONLY) = 3', []),
        ('12 mkdir("/made", 0755) = 0', []),
        ('12 openat(AT_FDCWD</>, "/half", O_RDONLY <unfinished ...>', []),
        ("12 +++ exited with 0 +++", []),
        ("", []),
        ("\x00\xff garbage = (", []),
    ],
)
def test_lines(line: str, paths: list[str]) -> None:
    assert list(touched(line.encode(), ROOT)) == paths


def test_what_is_before_the_chroot_is_the_machines() -> None:
    log = "\n".join(
        [
            'execve("/usr/sbin/chroot", ["chroot"], 0x7ff /* 3 vars */) = 0',
            'openat(AT_FDCWD</>, "/etc/ld.so.cache", O_RDONLY|O_CLOEXEC) = 3</etc/ld.so.cache>',
            f'chroot("{ROOT}") = 0',
            'execve("/bin/app", ["app"], 0x7ff /* 3 vars */) = 0',
        ]
    )
    assert list(touched(log.encode(), ROOT)) == ["/bin/app"]
