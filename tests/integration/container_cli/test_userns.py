"""``run --userns`` and ``--uidmap``: images with other owners, seen from inside and from the host."""

from __future__ import annotations

import io
import os
import signal
import tarfile
from pathlib import Path

import pytest
from tests.integration.engine.support import IMAGE, Cli, objects_checksum, supervisors, until

QUICK = ("run", "--rm", "--network", "none")
FIRST = 1_000_000_000
MAP = f"0:{FIRST}:65536"
STAY = ("sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait")


def owners_outside(cli: Cli, name: str) -> tuple[int, int]:
    status = os.stat(f"/proc/{cli.inspect(name)['pid']}")
    return status.st_uid, status.st_gid


def upper(cli: Cli, name: str) -> Path:
    return cli.root / "containers" / str(cli.inspect(name)["id"]) / "upper"


def start(cli: Cli, name: str, *flags: str) -> None:
    cli.run("run", "-d", "--network", "none", "--name", name, "--uidmap", MAP, *flags, IMAGE, *STAY)


@pytest.mark.parametrize(
    ("flags", "script", "says"),
    [
        ((), "id -u; cat /proc/self/uid_map | tr -s ' '", f"0\n 0 {FIRST} 65536"),
        ((), "stat -c %u:%g / /bin/busybox /data/seed /etc/hosts /dev /dev/shm", "0:0\n0:0\n1000:1000\n0:0\n0:0\n0:0"),
        ((), "touch /new && chown app:video /new && stat -c %u:%g /new", "1000:44"),
        ((), "echo x >>/etc/motd && tail -1 /etc/motd && stat -c %u /etc/motd", "x\n0"),
        (
            (),
            "mknod /n c 1 3 2>/dev/null || echo refused; echo x >/dev/null && head -c 3 /dev/zero | wc -c",
            "refused\n3",
        ),
        (("-u", "app"), "id -un; id -G; touch /tmp/x && stat -c %U /tmp/x", "app\n1000 44\napp"),
        (("--tmpfs", "/t:uid=5"), "stat -c %u /t", "5"),
        (("--privileged",), "grep CapEff /proc/self/status | grep -c 1ff", "1"),
        (("--read-only",), "touch /x 2>/dev/null || echo read-only", "read-only"),
        (("--gidmap", f"0:{FIRST + 5}:100"), "id -g; stat -c %u:%g /bin /data/seed", "0\n0:0\n1000:65534"),
        (("--device", "/dev/null:/dev/other"), "echo x >/dev/other && echo done", "done"),
    ],
)
def test_inside(cli: Cli, flags: tuple[str, ...], script: str, says: str) -> None:
    assert cli.run(*QUICK, "--uidmap", MAP, *flags, IMAGE, "sh", "-c", script).stdout.strip("\n") == says


def test_outside(cli: Cli, store: Path) -> None:
    before = objects_checksum(store)
    start(cli, "c")
    assert owners_outside(cli, "c") == (FIRST, FIRST)
    assert cli.run("exec", "-u", "app", "c", "sh", "-c", "touch /tmp/mine; id -u").stdout == "1000\n"
    assert cli.run("exec", "c", "sh", "-c", "echo more >>/data/seed; stat -c %u:%g /data/seed").stdout == "1000:1000\n"
    # on the disk they have the owners that they have in the image
    made = upper(cli, "c")
    assert (made / "tmp/mine").stat().st_uid == 1000
    assert (made / "data/seed").stat().st_uid == 1000
    assert objects_checksum(store) == before
    assert str(FIRST) in cli.run("top", "c").stdout
    cli.run("stop", "-t", "2", "c")


def test_set_user_id(cli: Cli) -> None:
    script = "cp /bin/busybox /id && chown app /id && chmod 4755 /id && /id"
    found = cli.run(*QUICK, "--uidmap", MAP, "--security-opt", "no-new-privileges=false", IMAGE, "sh", "-c", script)
    assert "euid=1000(app)" in found.stdout


def test_containers_of_their_own_ids_share_an_image(cli: Cli) -> None:
    for name in ("one", "two"):
        cli.run("run", "-d", "--network", "none", "--name", name, "--userns", "auto", IMAGE, *STAY)
    first, second = owners_outside(cli, "one")[0], owners_outside(cli, "two")[0]
    assert min(first, second) > 0
    assert abs(first - second) >= 65536
    for name in ("one", "two"):
        assert cli.run("exec", name, "stat", "-c", "%u:%g", "/data/seed").stdout == "1000:1000\n"
    assert len(list((cli.root / "images").glob("*.erofs"))) == 1
    assert not [path for path in (cli.root / "images").iterdir() if path.is_dir()]
    cli.run("restart", "-t", "2", "one")
    assert owners_outside(cli, "one")[0] == first
    cli.run("rm", "-f", "one")
    cli.run("run", "-d", "--network", "none", "--name", "three", "--userns", "auto:size=70000", IMAGE, *STAY)
    third = owners_outside(cli, "three")[0]
    assert third >= second + 65536 or third + 70000 <= second


def test_volumes_and_binds(cli: Cli, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "file").write_text("x")
    script = "stat -c %u /v/seed /s/file /m/file; touch /v/made /m/yes; touch /s/no 2>/dev/null || echo no"
    flags = ("-v", "vol:/v", "-v", f"{shared}:/s", "-v", f"{shared}:/m:idmap")
    cli.run("run", "--rm", "--network", "none", "-v", "vol:/data", IMAGE, "true")
    found = cli.run(*QUICK, "--uidmap", MAP, *flags, IMAGE, "sh", "-c", script).stdout.split()
    assert found == ["1000", "65534", "0", "no"]
    assert (shared / "yes").stat().st_uid == 0
    again = cli.run(*QUICK, "--userns", "auto", *flags, IMAGE, "stat", "-c", "%u", "/v/made").stdout
    assert again == "0\n"


def test_secret(cli: Cli) -> None:
    cli.run("secret", "create", "word", "-", stdin=b"hidden")
    assert cli.run(*QUICK, "--uidmap", MAP, "--secret", "word", IMAGE, "cat", "/run/secrets/word").stdout == "hidden"
    read = cli.run(
        *QUICK, "--uidmap", MAP, "-u", "app", "--secret", "word", IMAGE, "cat", "/run/secrets/word", status=1
    )
    assert not read.stdout


def test_what_others_do_with_its_root(cli: Cli, tmp_path: Path) -> None:
    start(cli, "c")
    cli.run("exec", "c", "sh", "-c", "echo hello >/made; chown app:video /made")
    (tmp_path / "in").write_text("in\n")
    os.chown(tmp_path / "in", 44, 44)
    cli.run("cp", str(tmp_path / "in"), "c:/in")
    cli.run("cp", "-a", str(tmp_path / "in"), "c:/kept")
    assert cli.run("exec", "c", "stat", "-c", "%u:%g", "/in", "/kept").stdout == "0:0\n44:44\n"
    cli.run("cp", "-a", "c:/made", str(tmp_path / "out"))
    assert ((tmp_path / "out").read_text(), (tmp_path / "out").stat().st_uid) == ("hello\n", 1000)
    assert "A /made" in cli.run("container", "diff", "c").stdout
    archive = tmp_path / "root.tar"
    cli.run("container", "export", "-o", str(archive), "c")
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as tar:
        assert (tar.getmember("made").uid, tar.getmember("made").gid) == (1000, 44)
        assert tar.getmember("data/seed").uid == 1000
    cli.run("container", "commit", "c", "test/made:1")
    assert cli.run(*QUICK, "test/made:1", "stat", "-c", "%u:%g", "/made", "/in").stdout == "1000:44\n0:0\n"
    cli.run("image", "rm", "test/made:1", status=None)
    cli.run("stop", "-t", "2", "c")
    cli.run("cp", str(tmp_path / "in"), "c:/later")
    cli.run("start", "c")
    assert cli.run("exec", "c", "stat", "-c", "%u:%g", "/later", "/made").stdout == "0:0\n1000:44\n"


def test_a_supervisor_that_is_killed(cli: Cli) -> None:
    start(cli, "c", "--restart", "always")
    pid = cli.inspect("c")["pid"]
    supervisor = max(supervisors(cli.run_root), key=int)
    os.kill(int(supervisor), signal.SIGKILL)
    until(lambda: supervisor not in supervisors(cli.run_root) and len(supervisors(cli.run_root)) == 2)
    assert cli.inspect("c")["pid"] == pid
    assert cli.run("exec", "c", "id", "-u").stdout == "0\n"
    os.kill(pid, signal.SIGKILL)
    until(lambda: cli.inspect("c")["pid"] not in (0, None, pid))
    assert owners_outside(cli, "c") == (FIRST, FIRST)


def test_root_directory(cli: Cli, tmp_path: Path, store: Path) -> None:
    tree = store.parent / "tree"
    found = cli.run(*QUICK, "--uidmap", MAP, "--rootfs", str(tree), "sh", "-c", "touch /x; stat -c %u /x /data/seed")
    assert found.stdout == "0\n1000\n"
    assert not (tree / "x").exists()
    refused = cli.run(*QUICK, "--uidmap", MAP, "--rootfs", "/", "/bin/true", status=None)
    assert "owners" in refused.stderr


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--userns", "keep-id"), "keep-id"),
        (("--userns", "private"), "needs ranges"),
        (("--userns", "auto", "--pid", "host"), "--pid host"),
        (("--uidmap", "1:1000:5"), "nobody is root"),
        (("--uidmap", "0:1000:5", "--uidmap", "3:5000:5"), "overlap at 3"),
        (("--subuidname", "nobody-at-all"), "/etc/subuid"),
    ],
)
def test_refused(cli: Cli, flags: tuple[str, ...], says: str) -> None:
    refused = cli.run(*QUICK, *flags, IMAGE, "true", status=None)
    assert refused.status
    assert says in refused.stderr
    assert not cli.run("ps", "-aq").stdout


def test_network(cli: Cli) -> None:
    assert "kernel" in cli.run("run", "--rm", "--net", "host", "--uidmap", MAP, IMAGE, "ls", "/sys").stdout
    script = "ip -o -4 addr show eth0 | wc -l; cat /proc/sys/net/ipv4/ip_unprivileged_port_start"
    assert cli.run("run", "--rm", "--uidmap", MAP, IMAGE, "sh", "-c", script).stdout == "1\n0\n"
