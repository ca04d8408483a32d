"""What is run in the guest of test_fs_verity.py: mounts that the kernel checks, on an ext4 that can (/disk).

A plain script: nothing but Wherry's store and the standard library is there. The last line says that all is well.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from wherry.core.digest import Checksum, Ref
from wherry.core.errors import IntegrityError, Unsupported
from wherry.linux import fsverity
from wherry.store.format.objects import Mode, ObjectType
from wherry.store.mount import verity
from wherry.store.mount.composefs import DIGEST_KEY, digest_of_tree
from wherry.store.mount.mounting import unmount
from wherry.store.mount.trees import Verity, enable_verity, mount_commit
from wherry.store.repository import Repository
from wherry.store.tree.commit import commit_directory, commit_tree

DISK = Path("/disk")
MNT = Path("/mnt")
SIZES = (0, 1, 4095, 4096, 4097, 128 * 4096, 128 * 4096 + 1, 3_000_000)
FIBMAP = 1


def fails_with(number: int, call: Callable[[], object]) -> None:
    found = 0
    try:
        call()
    except OSError as error:
        found = error.errno or 0
    assert found == number, (found, number)


def drop_caches() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def make_tree(top: Path) -> None:
    (top / "usr").mkdir(parents=True)
    for size in SIZES:
        (top / f"usr/{size}").write_bytes(os.urandom(size))
    (top / "usr/link").symlink_to("4096")


def object_of(repo: Repository, path: str, commit: Checksum) -> Path:
    from wherry.store.tree.walk import lookup

    found = lookup(repo, commit, path)
    assert isinstance(found, str)
    return repo.object_path(ObjectType.FILE, found)


def test_digests() -> None:
    """The kernel measures what is computed."""
    for size in SIZES:
        path = DISK / f"measured-{size}"
        path.write_bytes(os.urandom(size))
        with open(path, "rb", buffering=0) as file:
            assert fsverity.measure(file.fileno()) is None
            assert fsverity.enable(file.fileno())
            assert fsverity.enable(file.fileno())
            assert fsverity.measure(file.fileno()) == verity.digest_file(file), size
        fails_with(errno.EPERM, functools.partial(path.write_bytes, b"x"))
    with open("/tmp/elsewhere", "wb"):
        pass
    assert not fsverity.enable_path("/tmp/elsewhere")


def test_mounts(mode: Mode) -> None:
    repo = Repository.init(DISK / f"repo-{mode}", mode)
    make_tree(DISK / f"tree-{mode}")
    commit = commit_directory(repo, DISK / f"tree-{mode}", timestamp_s=0, ref=Ref("x"), canonical_permissions=True)
    done = mount_commit(repo, commit, MNT, check=Verity.REQUIRE)
    assert done.verity
    assert done.how == "composefs"
    assert enable_verity(repo, commit) == 0
    for size in SIZES:
        assert (MNT / f"usr/{size}").read_bytes() == (DISK / f"tree-{mode}/usr/{size}").read_bytes()
    unmount(MNT)

    again = mount_commit(repo, commit, MNT, check=Verity.MAYBE, in_memory=True)
    assert again.verity
    (MNT / "usr/4096").write_text("changed")
    unmount(MNT)
    assert done.image is not None
    with open(done.image, "rb") as file:
        assert fsverity.measure(file.fileno()) == verity.digest_pieces((done.image.read_bytes(),))

    # Another file in an object's place, of the same length: refused when it is read, and at the next mount.
    mount_commit(repo, commit, MNT, check=Verity.REQUIRE)
    replace_object(object_of(repo, "usr/4097", commit), bytes(4097))
    drop_caches()
    fails_with(errno.EIO, lambda: (MNT / "usr/4097").read_bytes())
    assert len((MNT / "usr/4096").read_bytes()) == 4096
    unmount(MNT)
    try:
        mount_commit(repo, commit, MNT, check=Verity.REQUIRE)
    except IntegrityError:
        pass
    else:
        raise AssertionError("a changed object was taken")
    mount_commit(repo, commit, MNT, check=Verity.NO)
    assert (MNT / "usr/4097").read_bytes() == bytes(4097)  # without verity nobody notices
    unmount(MNT)


def replace_object(path: Path, content: bytes) -> None:
    """Puts a file with the same owner, mode and attributes in an object's place."""
    status = path.stat()
    attributes = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    path.unlink()
    path.write_bytes(content)
    path.chmod(status.st_mode)
    os.chown(path, status.st_uid, status.st_gid)
    for name, value in attributes.items():
        os.setxattr(path, name, value)


def test_a_flipped_bit() -> None:
    """On the disk, below the file system: that read fails, all others go on."""
    repo = Repository.init(DISK / "repo-flip", Mode.BARE_USER)
    make_tree(DISK / "tree-flip")
    commit = commit_directory(repo, DISK / "tree-flip", timestamp_s=0, ref=Ref("x"))
    mount_commit(repo, commit, MNT, check=Verity.REQUIRE)
    path = object_of(repo, "usr/3000000", commit)
    with open(path, "rb") as file:
        block = struct.unpack("i", fcntl.ioctl(file.fileno(), FIBMAP, struct.pack("i", 100)))[0]
    drop_caches()
    with open("/dev/vda", "r+b", buffering=0) as disk:
        disk.seek(block * 4096)
        data = bytearray(disk.read(4096))
        data[1234] ^= 1
        disk.seek(block * 4096)
        disk.write(data)
        os.fsync(disk.fileno())
    drop_caches()
    with open(MNT / "usr/3000000", "rb") as file:
        assert file.read(4096) == (DISK / "tree-flip/usr/3000000").read_bytes()[:4096]
        file.seek(100 * 4096)
        fails_with(errno.EIO, lambda: file.read(1))
    unmount(MNT)


def test_a_commit_with_its_digest() -> None:
    repo = Repository.init(DISK / "repo-digest", Mode.BARE_USER)
    make_tree(DISK / "tree-digest")
    plain = repo.load_commit(commit_directory(repo, DISK / "tree-digest", timestamp_s=0))
    digest = digest_of_tree(repo, plain.tree, plain.meta)

    def committed(value: bytes) -> Checksum:
        return commit_tree(repo, plain.tree, plain.meta, timestamp_s=0, metadata={DIGEST_KEY: value})

    done = mount_commit(repo, committed(digest), MNT, check=Verity.REQUIRE)
    assert sorted(os.listdir(MNT)) == ["boot", "etc", "sysroot", "usr", "var"]
    assert done.image is not None
    with open(done.image, "rb") as file:
        assert fsverity.measure(file.fileno()) == digest
    unmount(MNT)
    for check in (Verity.REQUIRE, Verity.MAYBE):
        try:
            mount_commit(repo, committed(bytes(32)), MNT, check=check)
        except IntegrityError:
            pass
        else:
            raise AssertionError("an image with another digest was mounted")


def test_where_there_is_none() -> None:
    """/tmp is no file system with verity: required, it is refused; else the mount is a plain one."""
    repo = Repository.init(Path("/tmp/repo"), Mode.BARE_USER)
    make_tree(Path("/tmp/tree"))
    commit = commit_directory(repo, Path("/tmp/tree"), timestamp_s=0)
    try:
        mount_commit(repo, commit, MNT, check=Verity.REQUIRE)
    except Unsupported:
        pass
    else:
        raise AssertionError("verity without verity")
    assert not mount_commit(repo, commit, MNT, check=Verity.MAYBE).verity
    unmount(MNT)
    repo.config.set("ex-integrity", "fsverity", "yes")
    try:
        mount_commit(repo, commit, MNT)
    except Unsupported:
        pass
    else:
        raise AssertionError("the config was not asked")


def main() -> None:
    subprocess.run(["mount", "-t", "ext4", "/dev/vda", str(DISK)], check=True)
    tests: list[Callable[[], None]] = [test_digests]
    tests += [functools.partial(test_mounts, mode) for mode in (Mode.BARE_USER, Mode.BARE, Mode.BARE_USER_ONLY)]
    tests += [test_a_flipped_bit, test_a_commit_with_its_digest, test_where_there_is_none]
    for test in tests:
        begin = time.monotonic()
        test()
        print(f"ok {test} {time.monotonic() - begin:.1f} s", flush=True)
    print(f"all is well on Linux {os.uname().release}", flush=True)


main()
