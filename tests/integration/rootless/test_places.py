"""Where a user's containers are, whose folders are trusted, and what is there without subordinate ids."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.rootless.user import IMAGE, UID, User


@pytest.fixture
def fallback(user: User) -> Iterator[Path]:
    """Gives the folder below /tmp that is used without XDG_RUNTIME_DIR, as it is seen from outside."""
    place = user.base / "tmp-seen"
    place.mkdir()
    os.symlink(f"/proc/{user.pid}/root/tmp", user.base / "inner-tmp")
    yield Path(f"/proc/{user.pid}/root/tmp/wherry-{UID}")
    (user.base / "inner-tmp").unlink()
    place.rmdir()


def test_folders_are_the_users_own(user: User) -> None:
    user.ok("run", "--rm", "--network", "none", IMAGE, "true")
    for place in (user.home / ".local/share/wherry/containers", user.runtime / "wherry"):
        assert place.stat().st_uid == UID
    assert (user.runtime / "wherry").stat().st_mode & 0o777 == 0o700


def test_without_a_runtime_directory_there_is_one_below_tmp(user: User, fallback: Path) -> None:
    done = user.wherry("run", "--rm", "--network", "none", IMAGE, "echo", "well", runtime_dir=False)
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr
    found = fallback.lstat()
    assert (found.st_uid, found.st_mode & 0o7777) == (UID, 0o700)
    user.run("rm", "-rf", f"/tmp/wherry-{UID}")


@pytest.mark.parametrize("attack", ["link", "foreign", "open", "file"])
def test_a_folder_that_somebody_planted_is_refused(user: User, fallback: Path, attack: str) -> None:
    if attack == "link":
        fallback.symlink_to(user.runtime)
    elif attack == "file":
        fallback.write_text("")
    else:
        fallback.mkdir()
        if attack == "open":
            os.chown(fallback, UID, UID)
            fallback.chmod(0o777)
    try:
        done = user.wherry("ps", runtime_dir=False)
        assert done.returncode != 0
        assert "folder for state" in done.stderr
        if fallback.is_dir() and not fallback.is_symlink():
            assert list(fallback.iterdir()) == []
    finally:
        if fallback.is_dir() and not fallback.is_symlink():
            fallback.rmdir()
        else:
            fallback.unlink()


def test_a_set_id_file_gives_nothing_on_the_host(user: User) -> None:
    share = user.home / "planted"
    share.mkdir()
    os.chown(share, UID, UID)
    script = "cp /bin/busybox /share/su && chmod 4755 /share/su"
    user.ok("run", "--rm", "--network", "none", "-v", f"{share}:/share", IMAGE, "sh", "-c", script)
    assert (share / "su").stat().st_uid == UID  # set-id to themselves


def test_only_the_own_id_without_ranges(single: User) -> None:
    script = "cat /proc/self/uid_map; stat -c '%u' /data/seed; touch /data/more; rm -r /data; mkdir /data; ls -A /data"
    lines = single.ok("run", "--rm", "--network", "none", IMAGE, "sh", "-c", script).splitlines()
    assert lines[0].split() == ["0", str(UID), "1"]
    assert lines[1:] == ["0"]


def test_life_without_ranges(single: User) -> None:
    single.ok("run", "-d", "--name", "one", "-v", "kept:/data", IMAGE, "sh", "-c", "echo up; exec sleep 1000")
    assert single.ok("exec", "one", "cat", "/data/seed") == "seed"
    assert "tap0" in single.ok("exec", "one", "ip", "link")
    done = single.wherry("exec", "-u", "app", "one", "true")
    assert done.returncode == 125
    assert single.ok("logs", "one") == "up"
    single.ok("rm", "-f", "one")
    single.ok("volume", "rm", "kept")


def test_the_doctor_says_what_a_user_lacks(user: User, single: User) -> None:
    well, lacking = (item.wherry("doctor").stdout for item in (user, single))
    for name in ("user namespaces", "subordinate ids", "slirp4netns"):
        assert name in well
    assert "usermod --add-subuids" in lacking
    assert "usermod --add-subuids" not in well
