"""RUN beside others and against its will: pruned meanwhile, interrupted, with mounts that are written to, limited."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.integration.build.conftest import Place

from wherry.store.care.fsck import fsck

HEAD = "FROM busybox:1\n"
COMMAND = [sys.executable, "-m", "wherry"]


def begin(place: Place, dockerfile: str, *flags: str, until: bytes) -> subprocess.Popen[bytes]:
    """Starts a build, and returns when its output has a line."""
    place.write({"Dockerfile": dockerfile})
    command = [*COMMAND, "--root", str(place.root), "--run-root", f"{place.root}-run", "build", "-t", "app:1", *flags]
    process = subprocess.Popen([*command, str(place.context)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    for line in process.stderr:
        if line.strip() == until:
            return process
    raise AssertionError("it ended early")


def nothing_is_left(place: Place) -> None:
    assert json.loads(place("ps", "-a", "--json")) == []
    assert not place.repo().refs("build-step")
    tops = [place.root / "build-cache/tmp", *Path(f"{place.root}-run").glob("*/build")]
    assert not [path for top in tops if top.is_dir() for path in top.iterdir()]
    assert str(place.root) not in Path("/proc/self/mountinfo").read_text()


def test_a_prune_at_the_same_time_takes_nothing_that_is_needed(place: Place) -> None:
    place.write({"a": "a", "later": "only copied after the prune"})
    text = (
        "FROM busybox:1 AS other\nCOPY --chown=7:7 a /of-another-stage\nFROM busybox:1\nCOPY a /\n"
        "RUN echo started; while test ! -e /shared/go; do true; done\n"
        "COPY later /\nCOPY --from=other /of-another-stage /\n"
    ).replace("RUN ", "RUN --mount=type=cache,target=/shared ")
    process = begin(place, text, until=b"started")
    try:
        begun = time.monotonic()
        place("store", "prune")
        assert time.monotonic() - begun < 30, "it does not wait for the command"
        (folder,) = (path for path in (place.root / "build-cache/mounts").iterdir() if path.is_dir())
        (folder / "go").touch()
        assert process.wait(60) == 0, process.stderr.read() if process.stderr else ""
    finally:
        process.kill()
        process.communicate()
    files = place.files()
    assert files["later"][3] == "only copied after the prune"
    assert files["of-another-stage"][1:] == (7, 7, "a")
    assert fsck(place.repo()).ok
    nothing_is_left(place)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_command_and_leaves_nothing(place: Place, number: int) -> None:
    text = (
        HEAD + "RUN --mount=type=bind,target=/b --mount=type=tmpfs,target=/t echo started; cat /dev/zero >/dev/null\n"
    )
    process = begin(place, text, until=b"started")
    process.send_signal(number)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    assert process.wait(30) == 130
    process.stderr.close()
    assert "interrupted" in said
    assert not [ref for ref in place.repo().refs() if "app" in ref]
    nothing_is_left(place)


def test_killed_with_mounts_the_next_build_clears_up(place: Place) -> None:
    secret = place.context.parent / "secret"
    secret.write_text("s3cret")
    text = HEAD + ("RUN --mount=type=secret,id=s --mount=type=bind,target=/b echo started; cat /dev/zero > /dev/null\n")
    process = begin(place, text, "--secret", f"id=s,src={secret}", until=b"started")
    process.kill()
    process.communicate()
    place.build(HEAD + "RUN true\n")
    nothing_is_left(place)
    tops = (place.root, Path(f"{place.root}-run"))
    assert not [path for top in tops for path in top.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]


def test_what_is_written_to_a_mount_stays_there(place: Place) -> None:
    place.write({"f": "as it was"})
    text = HEAD + (
        "RUN --mount=type=bind,target=/b,rw echo changed > /b/f; echo new > /b/new; cat /b/f > /seen\n"
        "COPY f /\n"
        "RUN --mount=type=bind,target=/b sh -c 'echo x > /b/f' && echo written > /no || true\n"
        "RUN --mount=type=bind,from=busybox:1,source=/etc/passwd,target=/p cat /p > /passwd\n"
    )
    place.build(text)
    files = place.files()
    assert (files["seen"][3], files["f"][3]) == ("changed\n", "as it was")
    assert "no" not in files
    assert files["passwd"][3].startswith("root:x:0:0")
    assert (place.context / "f").read_text() == "as it was"
    assert not (place.context / "new").exists()
    assert fsck(place.repo()).ok


def test_cache_mounts(place: Place) -> None:
    place.write({"seed/a": "seeded"})
    first = "RUN --mount=type=cache,target=/c,from=busybox:1,source=/etc cat /c/group > /g; echo x >> /c/count\n"
    second = "RUN --mount=type=cache,target=/c,from=busybox:1,source=/etc cat /c/count > /count\n"
    owned = "RUN --mount=type=cache,target=/d,uid=1000,gid=5,mode=0700 stat -c '%a %u %g' /d > /d-is\n"
    place.build(HEAD + first + second + owned)
    files = place.files()
    assert files["g"][3].startswith("root:x:0:")
    assert (files["count"][3], files["d-is"][3]) == ("x\n", "700 1000 5\n")
    place("builder", "prune", "-f")
    assert not [path for path in (place.root / "build-cache/mounts").iterdir() if path.is_dir()]
    missing = HEAD + "RUN --mount=type=cache,target=/c,from=busybox:1,source=/none true\n"
    assert "no such file or directory" in place.build(missing, status=3)


def test_a_cache_in_use_is_not_pruned(place: Place) -> None:
    text = (
        HEAD + "RUN --mount=type=cache,target=/c echo started; while test ! -e /c/go; do true; done; cat /c/go >/go\n"
    )
    process = begin(place, text, until=b"started")
    try:
        place("builder", "prune", "-f")
        (folder,) = (path for path in (place.root / "build-cache/mounts").iterdir() if path.is_dir())
        (folder / "go").write_text("on")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
    assert place.files()["go"][3] == "on"


def test_an_ssh_agent(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "agent"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        text = HEAD + (
            "RUN --mount=type=ssh test -S $SSH_AUTH_SOCK && echo $SSH_AUTH_SOCK > /where\n"
            'RUN test -z "$SSH_AUTH_SOCK" && ls -d /run > /run-is || true\n'
        )
        place.build(text, "--ssh", f"default={path}")
    files = place.files()
    assert files["where"][3] == "/run/buildkit/ssh_agent.0\n"
    assert "run/buildkit" not in files


def test_networks_and_hosts_are_part_of_what_is_known(place: Place) -> None:
    text = HEAD + "RUN ls /sys/class/net | cat > /net; cat /etc/hosts > /seen\n"
    place.build(text, "--add-host", "near:192.0.2.9")
    assert "192.0.2.9\tnear" in place.files()["seen"][3]
    place.build(text, "--network", "none")
    assert "CACHED" not in place.said
    assert place.files()["net"][3] == "lo\n"
    assert "192.0.2.9" not in place.files()["seen"][3]
    place.build(HEAD + "RUN --network=none ls /sys/class/net > /net\n", "--network", "host")
    assert place.files()["net"][3] == "lo\n"


def test_limits_and_rights(place: Place) -> None:
    text = HEAD + (
        "RUN ulimit -n > /n; cat /proc/self/status > /status; cat /sys/fs/cgroup/memory.max > /m 2>/dev/null || true\n"
    )
    place.build(text, "--ulimit", "nofile=123:456", "--memory", "64m", "--shm-size", "1m")
    files = place.files()
    assert files["n"][3] == "123\n"
    status = dict(line.split(":", 1) for line in files["status"][3].splitlines())
    assert status["Seccomp"].strip() == "2", "the filter of `run`"
    assert status["NoNewPrivs"].strip() == "0", "sudo works"
    assert status["CapEff"].strip() == "00000000a80425fb", "docker's"
    assert "m" not in files or files["m"][3] in ("67108864\n", "")


def test_two_builds_at_once(place: Place) -> None:
    place.write({"a": "a"})
    text = HEAD + "COPY a /\nRUN --mount=type=bind,target=/b cat /b/a > /x; echo done\n"
    place.write({"Dockerfile": text})
    failed: list[str] = []

    def build(name: str) -> None:
        command = [*COMMAND, "--root", str(place.root), "--run-root", f"{place.root}-run", "build", "--no-cache"]
        done = subprocess.run([*command, "-t", name, str(place.context)], capture_output=True, check=False, timeout=120)
        if done.returncode:
            failed.append(done.stderr.decode())

    threads = [threading.Thread(target=build, args=(f"app:{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert {place("image", "inspect", "-f", "{{.Id}}", f"app:{number}") for number in range(3)} == {
        place("image", "inspect", "-f", "{{.Id}}", "app:0")
    }
    assert fsck(place.repo()).ok
    nothing_is_left(place)


def test_a_full_disk_leaves_no_half_image(place: Place, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(small)], check=True)
    try:
        base = ["--root", str(small / "root"), "--run-root", str(small / "run")]
        done = subprocess.run(
            [*COMMAND, *base, "image", "import", str(tmp_path / "tree"), "--name", "busybox:1"], check=False
        )
        assert done.returncode == 0
        place.write({"Dockerfile": HEAD + "RUN cat /dev/zero > /big\n"})
        build = [*COMMAND, *base, "build", "-t", "app:1", str(place.context)]
        done = subprocess.run(build, capture_output=True, check=False, timeout=120)
        assert done.returncode == 13, done.stderr.decode()
        (place.context / "big").write_bytes(os.urandom(16 * 1024 * 1024))
        place.write({"Dockerfile": HEAD + "COPY big /\n"})
        done = subprocess.run(build, capture_output=True, check=False, timeout=120)
        assert done.returncode == 9, done.stderr.decode()
        assert done.stderr.decode().count("\n") < 8
        done = subprocess.run([*COMMAND, *base, "image", "ls", "-q"], capture_output=True, check=True)
        assert len(done.stdout.split()) == 1
        done = subprocess.run([*COMMAND, *base, "ps", "-aq"], capture_output=True, check=True)
        assert done.stdout == b""
    finally:
        subprocess.run(["umount", str(small)], check=True)
