"""What a packed app is given by the machine: folder, identity, signals, volumes, memory; and odd places to start."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fixtures.busybox import make_tree
from tests.integration.pack.support import ECHO, WORDS, Wherry, as_nobody, as_root, left_over, start, wait_until

from wherry.core.proc import run

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to mount"),
    pytest.mark.skipif(shutil.which("mksquashfs") is None, reason="mksquashfs is not installed"),
]
needs_squashfuse = pytest.mark.skipif(shutil.which("squashfuse") is None, reason="squashfuse is not installed")
AS = [pytest.param(as_root, id="root"), pytest.param(as_nobody, id="nobody", marks=needs_squashfuse)]

Caller = Callable[..., list[str]]


def apart(script: str, *words: str) -> list[str]:
    """Returns a command in a mount namespace of its own, after a script of mounts."""
    return ["unshare", "-m", "sh", "-c", f'{script}; exec "$@"', "sh", *words]


@pytest.mark.parametrize("caller", AS)
def test_it_starts_where_it_is_called(app: Path, tmp_path: Path, caller: Caller) -> None:
    script = 'pwd; [ -e marker ] && echo seen; [ "$(pwd -P)" = "$PWD" ] && echo true'
    each = "mount -t tmpfs none $at; mkdir $at/a; touch $at/marker $at/a/marker"
    mounts = f"for at in /srv /opt /mnt /usr/share; do {each}; done"
    for folder, told in (
        ("/", "/"),
        (str(tmp_path), str(tmp_path)),
        ("/srv/a", "/srv/a"),
        ("/opt", "/opt"),
        ("/mnt/a", "/mnt/a"),
        ("/usr/share/a", "/.wherry/cwd"),
    ):
        (tmp_path / "marker").touch()
        done = start(apart(f"{mounts}; cd {folder}", *caller(app, "-c", script)))
        assert done.stderr == b""
        assert done.stdout.decode().split() == [told, *(["seen"] if folder != "/" else []), "true"]


@pytest.mark.parametrize(("caller", "uid"), [(as_root, 0), pytest.param(as_nobody, 65534, marks=needs_squashfuse)])
def test_it_is_who_calls_it(app: Path, tmp_path: Path, caller: Caller, uid: int) -> None:
    script = "id -u; id -g; echo x >made"
    folder = tmp_path / "own"
    folder.mkdir()
    os.chown(folder, uid, uid)
    done = start(apart(f"cd {folder}", *caller(app, "-c", script)))
    assert (done.stdout.split(), done.stderr) == ([str(uid).encode()] * 2, b"")
    assert (folder / "made").stat().st_uid == uid
    assert start(caller(app, "-c", "id -u"), "chroot").stdout == b"0\n"


@pytest.mark.parametrize("caller", AS)
@pytest.mark.parametrize("isolate", ["none", "chroot", "namespaces"])
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP, signal.SIGINT])
def test_signals_reach_it(app: Path, caller: Caller, isolate: str, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f'trap "echo told; exit 9" {name}; echo up; while :; do sleep 0.05; done'
    env = {**os.environ, "WHERRY_APP_ISOLATE": isolate}
    with subprocess.Popen(caller(app, "-c", script), stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(number)
        assert (process.stdout.read(), process.wait(timeout=10)) == (b"told\n", 9)
    wait_until(lambda: not left_over(app))


@pytest.mark.parametrize("caller", AS)
def test_volumes_and_memory(wherry: Wherry, tree: Path, tmp_path: Path, caller: Caller) -> None:
    app = tmp_path / "app"
    options = ["--tmpfs", "/var/log", "--mkdir", "/data", "--workdir", "/work", "--isolate", "chroot"]
    wherry("pack", tree, "sh", "--no-trace", "--add", "/bin/*", *options, "-o", app)
    folder = tmp_path / "a b"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    (folder / "here").write_text("of the machine\n")
    script = "pwd; cat /data/here; echo x >/var/log/a && cat /var/log/a; echo x >/data/new"
    volume = f"--wherry-volume={folder}:/data"
    done = start(caller(app, volume, "-c", script))
    assert (done.stdout, done.stderr) == (b"/work\nof the machine\nx\n", b"")
    assert (folder / "new").exists()
    done = start(caller(app, f"{volume}:ro", "-c", "echo x >/data/other || echo refused"))
    assert done.stdout == b"refused\n"
    assert not (folder / "other").exists()
    done = start(caller(app, f"--wherry-volume={folder}:/nowhere", "-c", "echo ran"))
    assert (done.returncode, done.stdout) == (125, b"")
    assert b"the app has no place for a volume: /nowhere" in done.stderr
    wait_until(lambda: not left_over(app))


def test_without_a_network(app: Path) -> None:
    """Its network namespace has nothing but a loopback that is down."""
    done = start(as_root(app, "--wherry-net=none", "-c", "cat /proc/net/dev"))
    assert [line.split(b":")[0].strip() for line in done.stdout.splitlines()[2:]] == [b"lo"]


@pytest.mark.parametrize("caller", AS)
def test_many_at_once(app: Path, caller: Caller) -> None:
    command = caller(app, "-c", 'exit "$0"')
    processes = [subprocess.Popen([*command, str(number)], stderr=subprocess.PIPE) for number in range(1, 13)]
    for number, process in enumerate(processes, start=1):
        assert (process.communicate(timeout=60)[1], process.returncode) == (b"", number)
    wait_until(lambda: not left_over(app))


@pytest.mark.parametrize("folders", ["srv", "usr/share"])
def test_where_a_machine_has_no_mnt(app: Path, tmp_path: Path, folders: str) -> None:
    host = make_tree(tmp_path / "host", "sh", folders=f"tmp proc dev sys {folders}")
    shutil.copy2(app, host / "app")
    script = f"mount --bind {host} {host}; cd {host}; mount --rbind /dev dev; mount -t proc proc proc"
    for isolate in ("none", "chroot", "namespaces"):
        inside = ["chroot", ".", "/app", f"--wherry-isolate={isolate}", "-c", ECHO, "x", *WORDS]
        done = start(apart(script, *inside), stdin=b"in")
        assert (done.stderr, done.returncode) == (b"", 7)
        assert done.stdout.decode() == "".join(f"<{word}>" for word in WORDS) + "in"
    wait_until(lambda: not left_over(host / "app"))


def test_where_nothing_can_be_written_or_run(app: Path, tmp_path: Path) -> None:
    """A read-only /tmp, and the app itself on a file system that is mounted noexec."""
    script = f"mount -t tmpfs -o noexec none /opt; cp {app} /opt/app; mount -t tmpfs -o ro none /tmp; cd /"
    done = start(apart(script, "sh", "/opt/app", "-c", "echo ran"))
    assert (done.stdout, done.stderr, done.returncode) == (b"ran\n", b"", 0)


def test_by_any_name(app: Path, tmp_path: Path) -> None:
    """A link to it, its name found in PATH, a name with spaces and commas."""
    odd = tmp_path / "it's, a b:c"
    shutil.copy2(app, odd)
    (tmp_path / "link").symlink_to(app)
    for command in ([str(odd)], [f"./{odd.name}"], ["./link"], ["env", f"PATH={tmp_path}:/usr/bin:/bin", "link"]):
        done = subprocess.run([*command, "-c", "echo ran"], capture_output=True, check=False, cwd=tmp_path)
        assert (done.stdout, done.stderr) == (b"ran\n", b"")
    done = subprocess.run(["sh", "app", "-c", "echo ran"], capture_output=True, check=False, cwd=tmp_path)
    assert done.stdout == b"ran\n"


def test_times_of_files_are_kept(wherry: Wherry, tree: Path, tmp_path: Path) -> None:
    """Python compares them with those in its compiled modules."""
    (tree / "data").write_text("x")
    os.utime(tree / "data", (1_234_567_890, 1_234_567_890))
    for format_ in ("squashfs", "erofs"):
        wherry("pack", tree, "sh", "--no-trace", "--add", "/bin/*", "--add", "/data", "--format", format_, "-o", "app")
        done = start([str(tmp_path / "app"), "-c", "busybox stat -c %Y /data"])
        assert done.stdout == b"1234567890\n"


def test_what_is_in_it(wherry: Wherry, tree: Path, tmp_path: Path) -> None:
    wherry("pack", tree, "sh", "--no-trace", "-o", "app")
    found = json.loads(wherry("pack", "show", "app", "--files", "--json"))["files"]
    assert {"/bin", "/bin/sh", "/bin/busybox", "/.wherry/none", "/dev/null"} <= set(found)
    assert "/bin/cat" not in found
    offset = json.loads(wherry("pack", "show", "app", "--json"))["offset"]
    run(["unsquashfs", "-q", "-n", "-o", str(offset), "-d", str(tmp_path / "out"), str(tmp_path / "app")])
    assert os.readlink(tmp_path / "out/bin/sh") == "busybox"
    wherry("pack", tree, "sh", "--compression", "lz4hc", "-o", "app", status=2)
    wherry("pack", tree, "sh", "--mkdir", "a b", "-o", "app", status=2)
