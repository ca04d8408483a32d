"""The daily commands by a real user without root."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from tests.integration.rootless.user import FIRST_ID, IMAGE, TIMEOUT_S, UID, User

LOOP = 'trap "echo bye; exit 3" TERM; echo up; while :; do sleep 0.05; done'


def test_runs_in_the_foreground_as_root_of_its_own(user: User) -> None:
    text = user.ok("run", "--rm", "--network", "none", IMAGE, "sh", "-c", "id -u; cat /proc/self/uid_map; echo x > /x")
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["0"]
    assert lines[1:] == [["0", str(UID), "1"], ["1", str(FIRST_ID), "65536"]]


def test_exit_status_and_streams(user: User) -> None:
    done = user.wherry("run", "--rm", "-i", "--network", "none", IMAGE, "sh", "-c", "cat; exit 7", stdin=b"in\n")
    assert (done.returncode, done.stdout) == (7, "in\n")
    assert user.wherry("run", "--rm", "--network", "none", IMAGE, "nothing-such").returncode == 127


def test_root_in_it_is_nobody_on_the_host(user: User) -> None:
    secret = user.base / "of-root"
    secret.write_text("secret")
    secret.chmod(0o600)
    done = user.wherry("run", "--rm", "--network", "none", "-v", f"{user.base}:/base", IMAGE, "cat", "/base/of-root")
    assert done.returncode == 1
    assert "Permission denied" in done.stderr
    done = user.wherry("run", "--rm", "--network", "none", "--privileged", IMAGE, "mknod", "/disk", "b", "8", "0")
    assert done.returncode == 1


def test_a_directory_is_written_over(user: User) -> None:
    share = user.home / "share-under-a-layer"
    share.mkdir()
    os.chown(share, UID, UID)
    (share / "file").write_text("kept")
    script = "rm /over/file; mkdir /over/d; stat -c %u /over; ls /over"
    words = ("run", "--rm", "--network", "none", "-v", f"{share}:/over:O", IMAGE, "sh", "-c", script)
    assert user.ok(*words) == "0\nd"
    assert os.listdir(share) == ["file"]


def test_files_belong_to_ids_of_the_ranges(user: User) -> None:
    share = user.home / "share"
    share.mkdir()
    os.chown(share, UID, UID)
    script = "touch /share/root; touch /share/app; chown app /share/app; su app -c id"
    text = user.ok("run", "--rm", "--network", "none", "-v", f"{share}:/share", IMAGE, "sh", "-c", script)
    assert text.startswith("uid=1000(app)")
    assert (share / "root").stat().st_uid == UID
    assert (share / "app").stat().st_uid == FIRST_ID + 999


def test_detached_life(user: User) -> None:
    user.ok("run", "-d", "--name", "life", "--network", "none", IMAGE, "sh", "-c", LOOP)
    assert user.ok("ps", "--format", "{{.Names}}") == "life"
    assert user.ok("exec", "life", "sh", "-c", "id -u; hostname > /tmp/h; sleep 0") == "0"
    assert user.ok("exec", "-u", "app", "life", "id", "-u") == "1000"
    assert user.wherry("exec", "life", "sh", "-c", "exit 9").returncode == 9
    user.ok("exec", "-d", "life", "sleep", "1000")
    assert "sleep 1000" in user.ok("top", "life")
    _await(lambda: user.ok("logs", "life") == "up")
    usage = user.ok("stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", "life").split()
    assert int(usage[0]) >= 2
    assert not usage[1].startswith("0B")
    assert user.ok("inspect", "-f", "{{.State.Status}}", "life") == "running"
    user.ok("stop", "life")
    assert user.ok("inspect", "-f", "{{.State.ExitCode}}", "life") == "3"
    assert user.ok("logs", "life") == "up\nbye"
    user.ok("start", "life")
    user.ok("kill", "life")
    assert user.ok("inspect", "-f", "{{.State.ExitCode}}", "life") == "137"
    user.ok("rm", "life")
    assert user.ok("ps", "-aq") == ""


def test_containers_are_met_after_a_supervisor_died(user: User) -> None:
    user.ok("run", "-d", "--name", "one", "--network", "none", IMAGE, "sh", "-c", LOOP)
    user.kill("engine.supervisor")
    user.ok("exec", "one", "true")
    user.ok("run", "-d", "--name", "two", "--network", "none", IMAGE, "sh", "-c", LOOP)
    user.ok("exec", "two", "true")
    user.ok("rm", "-f", "one", "two")


def test_killed_command_leaves_nothing(user: User) -> None:
    command = user.command(*user.program(), "run", "--rm", "--name", "gone", IMAGE, "sh", "-c", "echo up; sleep 1000")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.kill()
    user.ok("ps", "-a")
    user.wait_for_nobody()
    assert user.ok("ps", "-aq") == ""


def test_copy_diff_commit_and_export(user: User) -> None:
    user.ok("run", "-d", "--name", "c", "--network", "none", IMAGE, "sh", "-c", LOOP)
    (user.home / "in.txt").write_text("content\n")
    user.ok("cp", "in.txt", "c:/tmp/in.txt")
    assert user.ok("exec", "c", "cat", "/tmp/in.txt") == "content"
    user.ok("exec", "c", "sh", "-c", "rm -r /data && mkdir /data && touch /data/new && rm /etc/motd && touch /app-file")
    changes = user.ok("container", "diff", "c").splitlines()
    assert {"A /app-file", "D /etc/motd", "D /data/seed", "A /data/new", "A /tmp/in.txt"} <= set(changes)
    user.ok("container", "commit", "c", "test/changed:1")
    script = "ls /data; ls /etc/motd 2>/dev/null; ls /app-file"
    assert user.ok("run", "--rm", "--network", "none", "test/changed:1", "sh", "-c", script) == "new\n/app-file"
    user.ok("cp", "c:/tmp/in.txt", "out.txt")
    assert (user.home / "out.txt").read_text() == "content\n"
    user.ok("stop", "c")
    user.ok("cp", "c:/tmp/in.txt", "again.txt")
    assert (user.home / "again.txt").stat().st_uid == UID


def test_volumes_are_filled_and_stay(user: User) -> None:
    user.ok("run", "--rm", "--network", "none", "-v", "kept:/data", IMAGE, "sh", "-c", "echo more > /data/more")
    text = user.ok("run", "--rm", "--network", "none", "-v", "kept:/data", IMAGE, "cat", "/data/seed", "/data/more")
    assert text == "seed\nmore"
    user.ok("volume", "rm", "kept")


def test_image_from_an_archive(user: User) -> None:
    subprocess.run(["tar", "-C", str(user.tree), "-cf", str(user.home / "root.tar"), "."], check=True)
    user.ok("image", "import", "root.tar", "--name", "test/tar:1")
    script = "stat -c '%u %g' /data/seed /bin/busybox"
    assert user.ok("run", "--rm", "--network", "none", "test/tar:1", "sh", "-c", script) == "1000 1000\n0 0"


def test_a_tree_of_somebody_else_is_roots_in_the_image(user: User) -> None:
    done = user.wherry("image", "import", f"dir:{user.tree}", "--name", "test/foreign:1")
    assert "neither this user's" in done.stderr
    script = "stat -c '%u %g' /data/seed /bin/busybox"
    assert user.ok("run", "--rm", "--network", "none", "test/foreign:1", "sh", "-c", script) == "0 0\n0 0"


def test_health_check_and_restart(user: User) -> None:
    flags = ("--network", "none", "--restart", "on-failure:2")
    user.ok("run", "-d", "--name", "again", *flags, IMAGE, "sh", "-c", "echo run; exit 1")
    user.ok("wait", "again")
    assert user.ok("logs", "again") == "run\nrun\nrun"
    health = ("--health-cmd", "test -e /tmp/well", "--health-interval", "100ms", "--health-retries", "1")
    user.ok("run", "-d", "--name", "sick", "--network", "none", *health, IMAGE, "sh", "-c", LOOP)
    _await(lambda: user.ok("inspect", "-f", "{{.State.Health.Status}}", "sick") == "unhealthy")
    user.ok("exec", "sick", "touch", "/tmp/well")
    _await(lambda: user.ok("inspect", "-f", "{{.State.Health.Status}}", "sick") == "healthy")


def test_shares_namespaces_of_another_container(user: User) -> None:
    user.ok("run", "-d", "--name", "first", "--network", "none", IMAGE, "sh", "-c", LOOP)
    join = ("--pid", "container:first", "--ipc", "container:first", "--network", "container:first")
    text = user.ok("run", "--rm", *join, IMAGE, "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '")
    assert "while :" in text


def test_root_directory_of_the_users_own(user: User) -> None:
    user.run("cp", "-r", str(user.tree), "mine")
    assert user.ok("run", "--rm", "--network", "none", "--rootfs", "mine", "cat", "/etc/motd") == "from the image"
    assert not list(Path(user.home / "mine").glob("x"))


def _await(done: object) -> None:
    assert callable(done)
    deadline = time.monotonic() + TIMEOUT_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)
