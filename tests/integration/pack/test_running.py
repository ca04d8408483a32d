"""Packed apps where they run: in a tree without Wherry and Python, as root and not, ended and killed. Needs root."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fixtures.busybox import make_tree
from tests.integration.pack.support import ECHO, NOBODY, WORDS, Wherry, as_nobody, as_root, left_over, start, wait_until

from wherry.core.lock import file_lock
from wherry.core.proc import run

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to mount"),
    pytest.mark.skipif(shutil.which("mksquashfs") is None, reason="mksquashfs is not installed"),
]
needs_squashfuse = pytest.mark.skipif(shutil.which("squashfuse") is None, reason="squashfuse is not installed")
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
NO_BINFMT = 77
BINFMT = (
    'mount --bind "$1" /dev/fuse; mount -t binfmt_misc none /proc/sys/fs/binfmt_misc 2>/dev/null || exit 77; '
    'printf %s "$2" >/proc/sys/fs/binfmt_misc/register; shift 2; exec "$@"'
)
BINFMT_AARCH64 = (
    ":qemu-aarch64:M::\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00:"
    "\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff:"
    "/usr/bin/qemu-aarch64-static:F"
)
"""An entry as Debian's qemu-user-static makes it; the kernel reads the escapes (admin-guide/binfmt-misc.rst)."""
CACHE = Path("build/cache").absolute()

AS = [pytest.param(as_root, id="root"), pytest.param(as_nobody, id="nobody", marks=needs_squashfuse)]
ISOLATE = pytest.mark.parametrize("isolate", ["none", "chroot", "namespaces"])


@pytest.mark.parametrize("caller", AS)
@ISOLATE
def test_words_input_and_status(app: Path, caller: Callable[..., list[str]], isolate: str) -> None:
    done = start(caller(app, "-c", ECHO, "x", *WORDS), isolate, b"through the pipe")
    assert done.stderr == b""
    assert done.stdout.decode() == "".join(f"<{word}>" for word in WORDS) + "through the pipe"
    assert done.returncode == 7
    wait_until(lambda: not left_over(app))


@pytest.mark.parametrize("caller", AS)
@ISOLATE
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_it_leaves_nothing(
    app: Path, caller: Callable[..., list[str]], isolate: str, number: signal.Signals
) -> None:
    script = 'trap "echo told; exit 9" TERM; echo up; while :; do sleep 0.05; done'
    env = {**os.environ, "WHERRY_APP_ISOLATE": isolate}
    with subprocess.Popen(caller(app, "-c", script), stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert left_over(app)
        process.send_signal(number)
        rest = process.stdout.read()
        status = process.wait(timeout=10)
    assert (rest, status) == ((b"told\n", 9) if number == signal.SIGTERM else (b"", -9))
    wait_until(lambda: not left_over(app))


def test_what_it_sees(app: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    script = f"pwd; [ -e {marker} ] && echo machine; [ -e /usr/bin/env ] || echo own; echo $$ >{tmp_path}/pid"
    with subprocess.Popen(as_root(app, "-c", script), stdout=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.communicate()[0].decode().split() == [str(tmp_path), "machine", "own"]
    assert (tmp_path / "pid").read_text() == f"{process.pid}\n"
    script = f"[ -e {marker} ] || echo apart; set -- /proc/[0-9]*; echo $#; echo x >/tmp/a && echo tmp"
    assert start(as_root(app, "-c", script), "namespaces").stdout == b"apart\n2\ntmp\n"
    assert b"Read-only" in start(as_root(app, "-c", "echo x >/etc/new")).stderr


def test_environment_passes_and_nothing_of_the_script_with_it(app: Path) -> None:
    env = {"PATH": os.environ["PATH"], "place": "mine", "name": "x y", "WHERRY_APP_ISOLATE": "namespaces"}
    done = subprocess.run([app, "-c", "cat /proc/self/environ"], capture_output=True, env=env, check=True)
    got = dict(item.split("=", 1) for item in done.stdout.decode().split("\0") if item)
    assert {key: got.get(key) for key in ("place", "name")} == {"place": "mine", "name": "x y"}
    assert not [key for key in got if key.startswith("_w_") or key == "WHERRY_APP_ISOLATE"]


def test_on_a_machine_of_busybox_alone(app: Path, tmp_path: Path) -> None:
    applets = "sh mount umount unshare chroot losetup uname id env setpriv hostname ln cat printf true"
    host = make_tree(tmp_path / "host", applets, folders="tmp proc dev sys mnt")
    shutil.copy2(app, host / "app")
    script = (
        f'mount --bind {host} {host}; cd {host}; mount --rbind /dev dev; mount -t proc proc proc; exec chroot . "$@"'
    )
    for isolate in ("none", "namespaces"):
        inside = ["/bin/sh", "-c", 'exec env WHERRY_APP_ISOLATE="$0" /app "$@"', isolate, "-c", ECHO, "x", *WORDS]
        done = start(["unshare", "-m", "sh", "-c", script, "sh", *inside], stdin=b"in")
        assert done.stderr == b""
        assert done.stdout.decode() == "".join(f"<{word}>" for word in WORDS) + "in"
        assert done.returncode == 7
    wait_until(lambda: not left_over(host / "app"))


def without_fuse(command: list[str], tmp_path: Path) -> list[str]:
    """Has a command see a /dev/fuse that nobody may open but root."""
    node = tmp_path / "no-fuse"
    node.touch(mode=0o600)
    return ["unshare", "-m", "sh", "-c", 'mount --bind "$1" /dev/fuse; shift; exec "$@"', "sh", str(node), *command]


def test_without_rights_it_tells_what_was_tried(app: Path, tmp_path: Path) -> None:
    as_nobody(app)
    done = start(without_fuse([*NOBODY, str(app), "-c", ":"], tmp_path))
    assert done.returncode == 125
    assert b"the image cannot be mounted; tried:\n  loop device: only root can\n" in done.stderr
    assert b"squashfuse: " in done.stderr
    assert b"unpacking into memory: only with --wherry-allow-unpack" in done.stderr


@pytest.mark.skipif(shutil.which("unsquashfs") is None, reason="unsquashfs is not installed")
def test_unpacked_only_when_it_is_allowed(app: Path, tmp_path: Path) -> None:
    as_nobody(app)
    done = start(
        without_fuse([*NOBODY, str(app), "--wherry-allow-unpack", "-c", ECHO, "x", *WORDS], tmp_path), stdin=b"in"
    )
    assert done.stdout.decode() == "".join(f"<{word}>" for word in WORDS) + "in"
    assert done.returncode == 7
    assert done.stderr == b"sh: note: the image cannot be mounted here; it was unpacked into memory\n"


def test_root_of_a_user_namespace_tells_what_was_tried(app: Path, tmp_path: Path) -> None:
    done = start(["unshare", "-r", "-m", *without_fuse([str(app), "--wherry-mount=loop", "-c", ":"], tmp_path)])
    assert done.returncode == 125
    assert b"tried:\n  loop device: " in done.stderr


@pytest.mark.parametrize("kept", [9000, 200_000])
@pytest.mark.parametrize("format_", ["squashfs", "erofs"])
def test_cut_off(wherry: Wherry, tree: Path, tmp_path: Path, format_: str, kept: int) -> None:
    wherry("pack", tree, "sh", "--no-trace", "--format", format_, "-o", tmp_path / "app")
    bad = tmp_path / "bad"
    bad.write_bytes((tmp_path / "app").read_bytes()[:kept])
    bad.chmod(0o755)
    done = start([str(bad), "-c", "echo ran"])
    assert done.stdout == b""
    if kept > 100_000:
        assert done.returncode == 125
        assert b"this file is cut off: 200000 bytes instead of" in done.stderr
    else:
        assert done.returncode == 2  # the shell's own word: half a script
    wait_until(lambda: not left_over(bad))


@pytest.mark.parametrize("format_", ["squashfs", "erofs"])
def test_damaged(wherry: Wherry, tree: Path, tmp_path: Path, format_: str) -> None:
    app = tmp_path / "app"
    wherry("pack", tree, "sh", "--no-trace", "--format", format_, "-o", app)
    assert "whole; not signed" in wherry("pack", "verify", app)
    assert start([str(app), "--wherry-check"]).returncode == 0
    data = bytearray(app.read_bytes())
    offset = json.loads(wherry("pack", "show", app, "--json"))["offset"]
    data[offset : offset + 8192] = bytes(8192)
    app.write_bytes(data)
    assert "damaged" in wherry("pack", "verify", app, status=6)
    assert b"damaged: the image's SHA-256 is" in start([str(app), "--wherry-check"]).stderr
    done = start([str(app), "-c", "echo ran"])
    assert (done.returncode, done.stdout) == (125, b"")
    assert b"the image cannot be mounted; tried:" in done.stderr


def test_signed(wherry: Wherry, tree: Path, tmp_path: Path) -> None:
    wherry("key", "generate", tmp_path / "key")
    (tmp_path / "pub").write_text(wherry("key", "public", tmp_path / "key"))
    app = tmp_path / "app"
    wherry("pack", tree, "sh", "--no-trace", "-o", app, "--sign", tmp_path / "key")
    assert "signed by" in wherry("pack", "verify", app, "--key", tmp_path / "pub")
    assert start([str(app), "-c", "exit 3"]).returncode == 3
    assert json.loads(wherry("pack", "show", app, "--json"))["signedBy"] in (tmp_path / "pub").read_text()
    data = bytearray(app.read_bytes())
    data[20_000] ^= 1
    app.write_bytes(data)
    assert "not those that were signed" in wherry("pack", "verify", app, "--key", tmp_path / "pub", status=6)


@pytest.mark.parametrize("format_", ["squashfs", "erofs"])
def test_two_packs_are_equal_and_owners_are_kept(
    wherry: Wherry, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: str
) -> None:
    os.chown(tree / "bin/busybox", 12, 34)
    (tree / "bin/busybox").chmod(0o750)
    os.link(tree / "bin/busybox", tree / "bin/again")
    os.setxattr(tree / "bin/busybox", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    time.sleep(1.1)  # so that a time of the day would show
    for name in ("one", "two"):
        wherry("pack", tree, "sh", "--all", "--format", format_, "-o", tmp_path / name)
        time.sleep(1.1)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    for name in ("early", "late"):
        wherry("pack", tree, "sh", "--all", "--format", format_, "-o", tmp_path / name)
        for path in tree.rglob("*"):
            os.utime(path, (2e9, 2e9), follow_symlinks=False)
    assert (tmp_path / "early").read_bytes() == (tmp_path / "late").read_bytes()
    if format_ == "erofs":
        return
    offset = json.loads(wherry("pack", "show", tmp_path / "one", "--json"))["offset"]
    run(["unsquashfs", "-q", "-n", "-o", str(offset), "-d", str(tmp_path / "out"), str(tmp_path / "one")])
    info = (tmp_path / "out/bin/busybox").stat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode), info.st_nlink) == (12, 34, 0o750, 2)
    assert os.getxattr(tmp_path / "out/bin/busybox", "security.capability")


@needs_strace
def test_a_traced_program_of_debian(wherry: Wherry, tmp_path: Path) -> None:
    """This machine is the tree: Python opens far more than its ELF headers tell."""
    code = "import json, sys; print(json.dumps(sys.argv[1:])); sys.exit(6)"
    python = os.path.realpath("/usr/bin/python3")
    if not os.path.exists(python):
        pytest.skip("no /usr/bin/python3")
    wherry("pack", "/", python, "-o", tmp_path / "py", "--", "-I", "-c", code)
    done = start([str(tmp_path / "py"), *WORDS], "namespaces")
    assert (json.loads(done.stdout), done.returncode) == (WORDS, 6)
    listed = json.loads(wherry("pack", "files", "/", python, "--json", "--", "-I", "-c", code))
    whys = {item["why"] for item in listed["files"]}
    assert listed["traced"]
    assert "opened in the traced run" in whys
    assert len(listed["files"]) < 2000


@needs_strace
def test_a_traced_run_changes_nothing_and_is_ended(wherry: Wherry, tree: Path, tmp_path: Path) -> None:
    before = sorted(tree.rglob("*"))
    script = "echo x >/etc/made; echo x >/bin/busybox2; sleep 600"
    args = ["pack", tree, "sh", "--trace", "--trace-timeout", "1", "-o", tmp_path / "app", "--", "-c", script]
    began = time.monotonic()
    wherry(*args)
    assert time.monotonic() - began < 20
    assert sorted(tree.rglob("*")) == before
    assert not left_over(tree)


def test_an_image_of_the_store(wherry: Wherry, tree: Path, tmp_path: Path) -> None:
    wherry("image", "import", tree, "--name", "box:1", "--change", 'ENV GREETING="it\'s me"')
    wherry("pack", "box:1", "sh", "--no-trace", "-o", tmp_path / "app")
    done = start([str(tmp_path / "app"), "-c", 'echo "$GREETING"'])
    assert done.stdout == b"it's me\n"
    assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "wherry-pack-" in line]


def test_for_arm64(wherry: Wherry, tmp_path: Path) -> None:
    """Found by its headers alone; run where binfmt_misc has qemu, else refused with the way out."""
    root = CACHE / "hello-arm64"
    CACHE.mkdir(parents=True, exist_ok=True)
    with file_lock(CACHE / ".lock-hello-arm64"):
        if not root.exists():
            new = CACHE / ".hello-arm64.new"
            shutil.rmtree(new, ignore_errors=True)
            options = ["--variant=extract", "--mode=root", "--arch=arm64", "--include=hello"]
            stale = '--aptopt=Acquire::Check-Valid-Until "false"'
            run(["mmdebstrap", *options, stale, "bookworm", str(new)], env={"PATH": os.environ["PATH"]})
            new.rename(root)
    app = tmp_path / "hello"
    wherry("pack", root, "hello", "-o", app)
    assert json.loads(wherry("pack", "show", app, "--json"))["machine"] == "aarch64"
    listed = json.loads(wherry("pack", "files", root, "hello", "--json"))
    assert listed["missing"] == []
    assert "/lib/ld-linux-aarch64.so.1" in {item["path"] for item in listed["files"]}
    command = [str(app), "-g", "hi there"]
    if not any(Path("/proc/sys/fs/binfmt_misc").glob("qemu-aarch64*")) and os.uname().machine != "aarch64":
        refused = start(command)
        assert refused.returncode == 125
        assert b"is for aarch64" in refused.stderr
        assert b"qemu-user-static" in refused.stderr
        # A binfmt_misc of a user namespace's own (Linux 6.7) leaves this machine as it is.
        node = tmp_path / "fuse-node"
        run(["mknod", "-m", "666", str(node), "c", "10", "229"])
        command = ["unshare", "-r", "-m", "sh", "-c", BINFMT, "sh", str(node), BINFMT_AARCH64, *command]
    done = start(command)
    if done.returncode == NO_BINFMT:
        pytest.skip("this kernel has no binfmt_misc of a user namespace's own")
    assert (done.stderr, done.returncode, done.stdout) == (b"", 0, b"hi there\n")
