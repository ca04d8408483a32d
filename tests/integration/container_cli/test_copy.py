"""``cp``, ``diff``, ``commit`` and ``export`` against real containers, and what a container may try meanwhile."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from tests.integration.engine.support import IMAGE, Cli, until

from wherry.core.jsonio import loads


def start(cli: Cli, script: str = ":", *flags: str, name: str = "c") -> None:
    """Starts a container whose script has been run, and which then waits."""
    cli.run("run", "-d", "--name", name, *flags, IMAGE, "sh", "-c", f"{script}; echo ready; exec sleep 1000")
    until(lambda: "ready" in cli.run("logs", name).stdout)


@pytest.fixture(params=["running", "stopped"])
def made(request: pytest.FixtureRequest, cli: Cli) -> Cli:
    start(
        cli, "mkdir -p /src/sub /there; echo one > /src/one; echo two > /src/sub/two; ln -s one /src/link; echo f > /f"
    )
    if request.param == "stopped":
        cli.run("stop", "-t", "0", "c")
    return cli


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_dockers_rules_out_of_a_container(made: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    made.run("cp", "c:/src", f"{out}/new")  # not there: it becomes the source
    assert names(out / "new") == {"one", "link", "sub", "sub/two"}
    made.run("cp", "c:/src", f"{out}/new")  # there: it goes into it
    assert (out / "new/src/sub/two").read_text() == "two\n"
    made.run("cp", "c:/src/.", f"{out}/flat")
    made.run("cp", "c:/src/.", f"{out}/flat")  # its contents, also into what is there
    assert names(out / "flat") == {"one", "link", "sub", "sub/two"}
    made.run("cp", "c:/f", f"{out}/renamed")
    made.run("cp", "c:/f", f"{out}/renamed")
    assert (out / "renamed").read_text() == "f\n"
    made.run("cp", "c:/f", str(out))
    assert (out / "f").read_text() == "f\n"
    assert "no such directory" in made.run("cp", "c:/f", f"{out}/none/", status=3).stderr
    assert "no such directory" in made.run("cp", "c:/f", f"{out}/none/f", status=3).stderr
    assert "over a file" in made.run("cp", "c:/src", f"{out}/f", status=4).stderr
    assert "nothing is there" in made.run("cp", "c:/none", str(out), status=3).stderr
    assert "not a directory" in made.run("cp", "c:/f/.", str(out), status=5).stderr
    made.run("cp", "c:/src/link", f"{out}/as-link")
    assert os.readlink(out / "as-link") == "one"
    made.run("cp", "-L", "c:/src/link", f"{out}/as-file")
    assert (out / "as-file").read_text() == "one\n"


def test_dockers_rules_into_a_container(made: Cli, tmp_path: Path) -> None:
    source = tmp_path / "host"
    (source / "sub").mkdir(parents=True)
    (source / "x").write_text("x\n")
    (source / "sub/y").write_text("y\n")
    os.chown(source / "x", 1234, 1234)
    (source / "x").chmod(0o640)
    made.run("cp", str(source), "c:/new")
    made.run("cp", str(source), "c:/there")
    made.run("cp", f"{source}/.", "c:/there")
    made.run("cp", "-a", f"{source}/x", "c:/kept")
    made.run("cp", f"{source}/x", "c:/src/link")  # a link at the end is followed
    assert "over a file" in made.run("cp", str(source), "c:/f", status=4).stderr
    out = tmp_path / "back"
    made.run("cp", "-a", "c:/.", str(out))
    assert names(out / "new") == {"x", "sub", "sub/y"}
    assert names(out / "there") == {"host", "host/x", "host/sub", "host/sub/y", "x", "sub", "sub/y"}
    assert (out / "new/x").stat().st_uid == 0
    assert stat.S_IMODE((out / "new/x").stat().st_mode) == 0o640
    assert (out / "kept").stat().st_uid == 1234
    assert (out / "src/one").read_text() == "x\n"


def read_archive(cli: Cli, *args: str) -> dict[str, tarfile.TarInfo]:
    done = subprocess.run([*cli.prefix, *args], capture_output=True, check=True, env=cli.env)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        return {info.name: info for info in archive}


def test_archives_both_ways(made: Cli) -> None:
    found = read_archive(made, "cp", "c:/src", "-")
    assert set(found) == {"src", "src/one", "src/link", "src/sub", "src/sub/two"}
    assert found["src/link"].linkname == "one"
    assert set(read_archive(made, "cp", "c:/f", "-")) == {"f"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind, target in (
            ("dir", tarfile.DIRTYPE, ""),
            ("dir/file", tarfile.REGTYPE, ""),
            ("dir/hard", tarfile.LNKTYPE, "dir/file"),
            ("dir/soft", tarfile.SYMTYPE, "/etc"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode, info.uid = kind, target, 0o755, 77
            info.size = 3 if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"abc") if info.size else None)
    made.run("cp", "-", "c:/there", stdin=buffer.getvalue())
    back = read_archive(made, "cp", "c:/there/dir", "-")
    assert back["dir/file"].uid == 0
    assert back["dir/hard"].islnk() or back["dir/file"].islnk()
    assert back["dir/soft"].linkname == "/etc"
    assert "not a directory" in made.run("cp", "-", "c:/f", stdin=buffer.getvalue(), status=4).stderr
    assert "not a tar archive" in made.run("cp", "-", "c:/there", stdin=b"x" * 2000, status=5).stderr


def test_volumes_are_seen(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bound").mkdir()
    flags = ("-v", "vol:/data", "-v", f"{tmp_path}/bound:/bound", "-v", f"{tmp_path}/bound:/locked:ro")
    start(cli, "echo v > /data/v", *flags)
    (tmp_path / "file").write_text("f\n")
    for phase in ("running", "stopped"):
        cli.run("cp", f"{tmp_path}/file", f"c:/data/{phase}")
        cli.run("cp", f"{tmp_path}/file", f"c:/bound/{phase}")
        assert (cli.root / "volumes/vol/data" / phase).read_text() == "f\n"
        assert (tmp_path / "bound" / phase).read_text() == "f\n"
        assert "Read-only" in cli.run("cp", f"{tmp_path}/file", "c:/locked/x", status=10).stderr
        assert not (tmp_path / "bound/x").exists()
        if phase == "running":
            cli.run("stop", "-t", "0", "c")
    cli.run("cp", "c:/data/v", f"{tmp_path}/out")
    assert (tmp_path / "out").read_text() == "v\n"
    assert "A /data" not in cli.run("container", "diff", "c").stdout


def test_a_read_only_root_stays_so(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("f\n")
    cli.run("run", "-d", "--name", "c", "--read-only", IMAGE, "sleep", "1000")
    assert "Read-only" in cli.run("cp", f"{tmp_path}/file", "c:/x", status=10).stderr
    cli.run("stop", "-t", "0", "c")
    assert "Read-only" in cli.run("cp", f"{tmp_path}/file", "c:/x", status=10).stderr


def test_a_container_that_was_made_with_rm_and_copied_into_starts(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("f\n")
    cli.run("create", "--rm", "--name", "c", IMAGE, "cat", "/x")
    cli.run("cp", f"{tmp_path}/file", "c:/x")
    assert cli.run("start", "-a", "c").stdout == "f\n"


def test_etc_hosts_of_a_running_container_is_written_in_place(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1 mine\n")
    start(cli)
    cli.run("cp", f"{tmp_path}/hosts", "c:/etc/hosts")
    assert cli.run("exec", "c", "cat", "/etc/hosts").stdout == "127.0.0.1 mine\n"


def test_between_containers(cli: Cli) -> None:
    start(cli, "echo a > /a", name="one")
    start(cli, name="two")
    cli.run("cp", "one:/a", "two:/b")
    assert cli.run("exec", "two", "cat", "/b").stdout == "a\n"
    assert cli.run("cp", "/etc/passwd", "/tmp/x", status=2).stderr.count("CONTAINER:PATH") == 1


# --- attacks


@pytest.mark.parametrize("phase", ["running", "stopped"])
def test_links_lead_nowhere_outside(cli: Cli, tmp_path: Path, phase: str) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("of the host\n")
    (tmp_path / "mine").write_text("mine\n")
    outside = f"{'../' * 20}{str(secret).lstrip('/')}"
    start(
        cli,
        f"ln -s {secret} /absolute; ln -s {outside} /relative; ln -s {secret}/file /one;"
        f" mkdir /tree; ln -s {secret} /tree/inner; ln -s /proc/1/root/.. /magic; ln -s /proc/self/exe /exe",
    )
    if phase == "stopped":
        cli.run("stop", "-t", "0", "c")
    for path in ("/absolute/file", "/relative/file", "/absolute/.", "/relative/.", "/absolute/"):
        assert "nothing is there" in cli.run("cp", f"c:{path}", f"{tmp_path}/stolen", status=3).stderr
    assert "nothing is there" in cli.run("cp", "-L", "c:/one", f"{tmp_path}/stolen", status=3).stderr
    cli.run("cp", "c:/magic/etc/passwd", f"{tmp_path}/stolen", status=None)
    cli.run("cp", "-L", "c:/exe", f"{tmp_path}/stolen", status=None)
    assert not (tmp_path / "stolen").exists()
    for path in ("/absolute/planted", "/relative/planted", "/tree/inner/planted"):
        assert cli.run("cp", f"{tmp_path}/mine", f"c:{path}", status=None).status != 0
    (tmp_path / "merge/inner").mkdir(parents=True)
    (tmp_path / "merge/inner/planted").write_text("x")
    assert "over a file" in cli.run("cp", f"{tmp_path}/merge/.", "c:/tree", status=4).stderr
    assert sorted(os.listdir(secret)) == ["file"]
    assert (secret / "file").read_text() == "of the host\n"
    cli.run("cp", "c:/tree", f"{tmp_path}/copied")
    assert os.readlink(tmp_path / "copied/inner") == str(secret), "a link is copied as one"


def test_an_archive_cannot_leave_the_directory(cli: Cli, tmp_path: Path) -> None:
    start(cli, f"mkdir /in; ln -s {tmp_path} /in/out")

    def archive(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as made:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = kind, target, 0o6777
            made.addfile(info)
        return buffer.getvalue()

    before = sorted(os.listdir(tmp_path))
    assert "leads out" in cli.run("cp", "-", "c:/in", stdin=archive("../../x"), status=5).stderr
    cli.run("cp", "-", "c:/in", stdin=archive("out/planted"), status=None)
    cli.run("cp", "-", "c:/in", stdin=archive("/absolute"))
    assert cli.run("exec", "c", "ls", "/in/absolute").stdout == "/in/absolute\n"
    hard = archive("hard", tarfile.LNKTYPE, "../../../etc/shadow")
    assert "leads out" in cli.run("cp", "-", "c:/in", stdin=hard, status=5).stderr
    device = cli.run("cp", "-", "c:/in", stdin=archive("device", tarfile.BLKTYPE))
    assert "left out a device" in device.stderr
    assert sorted(os.listdir(tmp_path)) == before


def test_a_directory_that_turns_into_a_link_and_back(cli: Cli, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("of the host\n")
    (tmp_path / "tree/d").mkdir(parents=True)
    (tmp_path / "tree/d/planted").write_text("x\n")
    start(
        cli,
        f"mkdir -p /t/d /t/e; echo mine > /t/d/file; ln -s {secret} /t/link;"
        " (while :; do mv /t/d /t/x; mv /t/link /t/d; mv /t/d /t/link; mv /t/x /t/d; done) & :",
    )
    for number in range(15):
        cli.run("cp", "c:/t", f"{tmp_path}/out{number}", status=None)
        for path in (tmp_path / f"out{number}").rglob("file"):
            if not path.parent.is_symlink():
                assert path.read_text() == "mine\n"
        cli.run("cp", f"{tmp_path}/tree/.", "c:/t", status=None)
    assert sorted(os.listdir(secret)) == ["file"]


def test_what_is_no_file_is_left_out_and_nothing_waits_for_it(cli: Cli, tmp_path: Path) -> None:
    start(
        cli,
        "mkdir /d; cd /d; mkfifo fifo; mknod node c 1 3; truncate -s 1024G sparse; cp /bin/busybox su; chmod 6755 su",
        "--cap-add",
        "MKNOD",
    )
    done = cli.run("cp", "c:/d", f"{tmp_path}/out")
    assert "left out a device: /d/node" in done.stderr
    assert not (tmp_path / "out/node").exists()
    assert stat.S_ISFIFO((tmp_path / "out/fifo").stat().st_mode)
    assert (tmp_path / "out/sparse").stat().st_size == 1 << 40
    assert (tmp_path / "out/sparse").stat().st_blocks < 100
    assert stat.S_IMODE((tmp_path / "out/su").stat().st_mode) == 0o755, "no set-user-ID program of a container's making"
    for path in ("/proc/1/environ", "/sys/kernel/notes", "/proc"):
        assert "is not copied" in cli.run("cp", f"c:{path}", f"{tmp_path}/no", status=10).stderr
    cli.run("exec", "c", "ln", "-s", "/proc/sysrq-trigger", "/d/link")
    assert cli.run("cp", f"{tmp_path}/out/fifo", "c:/d/link", status=None).status != 0


def test_a_very_deep_tree_is_refused_and_can_be_removed(cli: Cli, tmp_path: Path) -> None:
    start(cli, "mkdir /deep; cd /deep; i=0; while [ $i -lt 300 ]; do mkdir d; cd d; i=$((i+1)); done")
    assert "deep" in cli.run("cp", "c:/deep", f"{tmp_path}/out", status=5).stderr
    assert "deep" in cli.run("container", "diff", "c", status=5).stderr


# --- diff, commit, export


def test_diff_shows_what_is_so(cli: Cli) -> None:
    start(
        cli,
        "echo new > /new; mkdir /dir; echo x > /dir/file; rm /etc/motd; echo more >> /etc/passwd; chmod 700 /home;"
        " rm -r /data; mkdir /data; echo again > /data/seed; mv /home/app /home/moved; touch /tmp/t; rm /tmp/t;"
        " echo gone > /short; rm /short; rm /bin/awk; mkdir /bin/awk",
    )
    wanted = {
        ("A", "/new"),
        ("A", "/dir"),
        ("A", "/dir/file"),
        ("C", "/etc"),
        ("D", "/etc/motd"),
        ("C", "/etc/passwd"),
        ("C", "/home"),
        ("D", "/home/app"),
        ("A", "/home/moved"),
        ("C", "/data"),
        ("C", "/data/seed"),
        ("D", "/data/inner"),
        ("C", "/tmp"),
        ("C", "/bin"),
        ("C", "/bin/awk"),
    }
    for _ in range(2):
        found = {tuple(line.split(" ", 1)) for line in cli.run("container", "diff", "c").stdout.splitlines()}
        assert found == wanted
        as_json = loads(cli.run("container", "diff", "--json", "c").stdout)
        assert {(item["kind"], item["path"]) for item in as_json} == wanted
        cli.run("stop", "-t", "0", "c")


def test_nothing_done_is_no_change(cli: Cli) -> None:
    start(cli)
    assert cli.run("container", "diff", "c").stdout == ""
    cli.run("create", "--name", "fresh", IMAGE, "true")
    assert cli.run("container", "diff", "fresh").stdout == ""


def test_a_commit_is_what_the_container_was(cli: Cli, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    store = cli.root / "store"
    origin = store.resolve()
    store.unlink()
    subprocess.run(["cp", "-a", str(origin), str(store)], check=True)
    start(
        cli,
        "echo new > /new; chown 1000:44 /new; rm /etc/motd; mv /data /moved; ln -s new /link; rm -r /home; mkdir /home",
        "-e",
        "A=b",
        "-l",
        "app=x",
        "-v",
        "vol:/tmp",
    )
    image = cli.run(
        "container", "commit", "-m", "done", "-a", "me", "-c", 'CMD ["cat","/new"]', "c", "test/new:2"
    ).stdout
    assert image.startswith("sha256:")
    assert cli.run("run", "--rm", "test/new:2").stdout == "new\n"
    script = "stat -c %u:%g /new; ls /moved; cat /moved/inner/file; ls /home /etc; readlink /link; echo $A"
    seen = cli.run("run", "--rm", "test/new:2", "sh", "-c", script).stdout
    assert seen.splitlines()[:4] == ["1000:44", "inner", "seed", "inner"]
    assert "motd" not in seen
    assert seen.endswith("new\nb\n")
    document = loads(cli.run("inspect", "--type", "image", "test/new:2").stdout)[0]
    assert document["Author"] == "me"
    assert document["Config"]["Labels"] == {"app": "x"}
    nameless = cli.run("container", "commit", "c").stdout.strip()
    assert loads(cli.run("inspect", "--type", "image", nameless).stdout)[0]["Id"] == nameless
    assert cli.inspect("c")["status"] == "running", "it was frozen and runs on"
    exported = read_archive(cli, "export", "c")
    assert exported["new"].uid == 1000
    assert "etc/motd" not in exported
    assert not [name for name in exported if name.startswith(("proc/", "sys/", "dev/null"))]


def test_export_is_not_written_to_a_terminal_and_leaves_no_half_file(cli: Cli, tmp_path: Path) -> None:
    start(cli, "echo x > /x")
    import pty

    leader, follower = pty.openpty()
    done = cli.start("export", "c", stdout=follower, stderr=subprocess.PIPE)
    _, error = done.communicate(timeout=30)
    os.close(leader)
    os.close(follower)
    assert done.returncode == 2
    assert b"terminal" in error
    cli.run("export", "-o", f"{tmp_path}/x.tar", "c")
    with tarfile.open(tmp_path / "x.tar") as archive:
        assert archive.extractfile("x").read() == b"x\n"  # type: ignore[union-attr]
    cli.run("export", "-o", f"{tmp_path}/none.tar", "nope", status=3)
    assert sorted(path.name for path in tmp_path.glob("*.tar*")) == ["x.tar"]


def test_a_copy_that_is_killed_leaves_no_mount_and_no_lock(cli: Cli) -> None:
    start(cli, "head -c 20000000 /dev/zero > /big")
    cli.run("stop", "-t", "0", "c")
    copying = cli.start("cp", "c:/big", "-")
    assert copying.stdout is not None
    assert copying.stdout.read(1000)
    children = Path(f"/proc/{copying.pid}/task/{copying.pid}/children").read_text().split()
    assert children, "the child that holds the mounts"
    copying.kill()
    copying.communicate()
    until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    cli.run("start", "c")
    assert cli.inspect("c")["status"] == "running"
