"""``exec``: keys that leave it, a reader that goes, descriptors that are handed down; ``run``'s, too."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.integration.engine.support import IMAGE, Cli, until


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """A terminal: the person's side, and the program's."""
    master, slave = os.openpty()
    try:
        yield master, slave
    finally:
        os.close(master)
        os.close(slave)


def start(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "c", "--network", "none", IMAGE, "sleep", "99")


def runs(cli: Cli, mark: str) -> bool:
    return mark in cli.run("top", "c", "-o", "pid,args").stdout


@pytest.mark.parametrize(
    ("flags", "keys"), [((), b"\x10\x11"), (("--detach-keys", "ctrl-a,d"), b"\x01d")], ids=["docker's", "own"]
)
def test_keys_leave_the_command_running(cli: Cli, flags: tuple[str, ...], keys: bytes) -> None:
    start(cli)
    with terminal() as (master, slave):
        script = "echo ready; until [ -e /go ]; do sleep 0.1; done; seq 1 20000; echo end > /ended"
        process = cli.start("exec", "-it", *flags, "c", "sh", "-c", script, stdin=slave, stdout=slave, stderr=slave)
        seen = b""
        while b"ready" not in seen:
            seen += os.read(master, 4096)
        os.write(master, keys)
        assert process.wait(timeout=20) == 0
        seen = b""
        while b"left sh running in c" not in seen:
            seen += os.read(master, 4096)
    assert runs(cli, "echo ready"), "nobody has hung it up"
    cli.run("exec", "c", "touch", "/go")  # it prints more than its terminal holds, so that somebody must read
    until(lambda: cli.run("exec", "c", "cat", "/ended", status=None).stdout == "end\n")


def test_other_keys_do_not_leave(cli: Cli) -> None:
    start(cli)
    with terminal() as (master, slave):
        words = ("exec", "-it", "--detach-keys", "ctrl-a,d", "c", "sh", "-c", "echo ready; cat")
        process = cli.start(*words, stdin=slave, stdout=slave, stderr=slave)
        seen = b""
        while b"ready" not in seen:
            seen += os.read(master, 4096)
        os.write(master, b"ctrl\x01x\n")
        seen = b""
        while b"x\r\n" not in seen:
            seen += os.read(master, 4096)
        os.write(master, b"\x04")
        assert process.wait(timeout=20) == 0


def test_wrong_keys(cli: Cli) -> None:
    start(cli)
    assert (
        "--detach-keys: not a key: 'ctrl-'" in cli.run("exec", "--detach-keys", "ctrl-", "c", "true", status=125).stderr
    )


def test_a_command_whose_terminal_nobody_reads_ends(cli: Cli) -> None:
    start(cli)
    process = cli.start("exec", "-t", "c", "sh", "-c", "while echo line; do :; done; sleep 987")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"line\r\n"
    process.stdout.close()
    assert process.wait(timeout=20) == 141
    assert process.stderr.read() == b""
    process.stderr.close()
    until(lambda: not runs(cli, "echo line") and not runs(cli, "sleep 987"))


def test_all_that_a_command_printed_before_its_end_is_shown(cli: Cli) -> None:
    start(cli)
    done = cli.run("exec", "-t", "c", "sh", "-c", "seq 1 5000; exit 3", status=3)
    assert done.stdout.split() == [str(number) for number in range(1, 5001)]


def handed_down(cli: Cli, file: Path, *words: str, status: int = 0) -> subprocess.CompletedProcess[bytes]:
    """Runs a command with a file as descriptor 3, a pipe's end as 4 and nothing as 5."""
    reader, writer = os.pipe()
    script = 'exec 3<"$0" 4>&"$1"; shift; exec "$@"'
    try:
        done = subprocess.run(
            ["bash", "-c", script, str(file), str(writer), *cli.prefix, *words],
            pass_fds=(writer,),
            env=cli.env,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done
        os.close(writer)
        writer = -1
        with open(reader, "rb", closefd=False) as pipe:
            return subprocess.CompletedProcess(words, done.returncode, pipe.read(), done.stderr)
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


COPY = ("sh", "-c", "cat <&3 >&4; ls /proc/self/fd >&4")


@pytest.mark.parametrize("word", ["exec", "exec -d", "exec -t", "run"])
def test_descriptors_reach_the_command(cli: Cli, tmp_path: Path, word: str) -> None:
    file = tmp_path / "file"
    file.write_text("from the host\n")
    start(cli)
    words: tuple[str, ...]
    if word == "run":
        words = ("run", "--rm", "--network", "none", "--preserve-fds", "2", IMAGE)
    else:
        words = (*word.split(), "--preserve-fds", "2", "c")
    found = handed_down(cli, file, *words, *COPY).stdout.decode().split("\n")
    assert found[0] == "from the host"
    # ls itself has opened the folder as 5
    assert found[1:-1] == ["0", "1", "2", "3", "4", "5"]


def test_descriptors_that_are_not_there(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    start(cli)
    for words in (("run", "--rm"), ("exec",)):
        name = IMAGE if words[0] == "run" else "c"
        done = handed_down(cli, file, *words, "--preserve-fds", "3", name, *COPY, status=125)
        assert b"--preserve-fds: descriptor 5 is not open" in done.stderr
    for flags in (("-d",), ("--restart", "always")):
        refused = cli.run("run", *flags, "--preserve-fds", "1", IMAGE, "true", status=125)
        assert "a descriptor lives no longer than this command" in refused.stderr
    assert cli.run("ps", "-aq").stdout.count("\n") == 1
