"""Input and output of ``wherry run`` as pipelines, scripts and full disks have them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pty
import select
import signal
import subprocess
import termios
from pathlib import Path

import pytest
from tests.integration.engine.support import IMAGE, Cli, until


def shell(cli: Cli, script: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in which ``wherry`` is the command under test."""
    words = " ".join(f"'{word}'" for word in cli.prefix)
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'wherry() {{ {words} "$@"; }}\n{script}'],
        capture_output=True,
        text=True,
        timeout=120,
        env=cli.env,
        check=False,
    )


def test_much_input_of_a_file_and_of_a_pipe_arrives(cli: Cli, tmp_path: Path) -> None:
    data = os.urandom(10_000_000)
    (tmp_path / "data").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    script = f"wherry run --rm -i {IMAGE} sha256sum"
    for line in (f"{script} <{tmp_path}/data", f"cat {tmp_path}/data | {script}"):
        done = shell(cli, line)
        assert (done.stdout.split()[:1], done.stderr, done.returncode) == ([digest], "", 0)


def test_input_that_nobody_reads_is_no_error(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(3_000_000))
    done = shell(cli, f"wherry run --rm -i {IMAGE} true <{tmp_path}/data")
    assert (done.stderr, done.returncode) == ("", 0)


def test_much_output_is_the_same_in_pipe_and_log(cli: Cli) -> None:
    line = "x" * 1000
    script = f"wherry run --name c {IMAGE} sh -c 'yes {line} | head -c 5000000' | sha256sum; wherry logs c | sha256sum"
    first, second = shell(cli, script).stdout.splitlines()
    assert first == second
    text = f"{line}\n".encode() * 5000
    assert first.split()[0] == hashlib.sha256(text[:5_000_000]).hexdigest()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors(cli: Cli, closed: str) -> None:
    # Asked by the shell itself, which opens nothing for that; 10 and up are its own.
    fds = "for fd in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/1/fd/$fd ] && echo $fd; done; true"
    done = shell(cli, f"wherry run --rm -i {IMAGE} sh -c 'cat; echo out; echo err >&2; {fds}' {closed}")
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
    if ">" not in closed:
        # 0, 1, 2: nothing of ours took the place of what was closed
        assert done.stdout == "out\n0\n1\n2\n"


def test_a_reader_that_goes_ends_the_command(cli: Cli) -> None:
    done = shell(
        cli, f"wherry run --rm {IMAGE} yes | head -n 1; wherry run --rm {IMAGE} sh -c 'yes >&2' 2>&1 | head -n 1"
    )
    assert done.stdout == "y\ny\n"
    assert cli.run("ps", "-aq").stdout == ""


def test_a_reader_of_attach_that_goes_leaves_the_container(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "c", IMAGE, "sh", "-c", "while true; do echo u; usleep 100000; done")
    done = shell(cli, "wherry container attach c | head -n 1")
    assert done.stdout == "u\n"
    assert done.returncode == 141
    until(lambda: "Up" in cli.run("ps", "--format", "{{.Status}}").stdout)


def test_a_full_disk_is_told(cli: Cli) -> None:
    done = shell(cli, f"wherry run --name c {IMAGE} echo lost >/dev/full")
    assert done.returncode == 125
    assert "not all that the command printed could be written: no space left" in done.stderr
    assert cli.run("logs", "c").stdout == "lost\n"


def test_ctrl_c_that_does_not_end_the_command_kills_it_at_the_third(cli: Cli) -> None:
    master, slave = pty.openpty()
    script = "trap 'echo got it' INT; echo ready; while true; do sleep 0.2; done"
    process = subprocess.Popen(
        [*cli.prefix, "run", "--rm", IMAGE, "sh", "-c", script],
        stdin=slave, stdout=slave, stderr=slave, env=cli.env, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(slave)
    shown = b""

    def shows(text: bytes) -> None:
        nonlocal shown
        while text not in shown:
            assert select.select([master], [], [], 30)[0], shown
            shown += os.read(master, 4096)

    shows(b"ready")
    os.write(master, b"\x03")
    shows(b"got it")
    os.write(master, b"\x03")
    shows(b"once more kills it")
    assert process.poll() is None
    os.write(master, b"\x03")
    assert process.wait(30) == 137
    os.close(master)


@pytest.mark.parametrize("command", ["logs -f c", "events", "stats"])
def test_ctrl_c_ends_what_goes_on_without_noise(cli: Cli, command: str) -> None:
    cli.run("run", "-d", "--name", "c", IMAGE, "sh", "-c", "while echo line; do sleep 1; done")
    process = cli.start(*command.split())
    if command == "events":
        cli.run("pause", "c")
        cli.run("unpause", "c")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, b"")


def test_an_archive_that_nobody_reads_to_its_end(cli: Cli) -> None:
    cli.run("create", "--name", "c", IMAGE, "true")
    for command in ("wherry export c", "wherry cp c:/bin -"):
        done = shell(cli, f"{command} | head -c 1000 | wc -c")
        assert (done.stdout.strip(), done.stderr) == ("1000", "")


def test_an_error_of_cp_tells_the_side(cli: Cli, tmp_path: Path) -> None:
    cli.run("create", "--name", "c", IMAGE, "true")
    (tmp_path / "file").write_text("")
    assert "no such directory: c:/none" in cli.run("cp", f"{tmp_path}/file", "c:/none/", status=3).stderr
    assert "nothing is there to copy: c:/none" in cli.run("cp", "c:/none", str(tmp_path), status=3).stderr
    assert f"to copy: {tmp_path}/none;" in cli.run("cp", f"{tmp_path}/none", "c:/", status=3).stderr.replace("\n", ";")


def test_a_working_directory_that_is_gone(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    done = shell(cli, f"cd {tmp_path}/gone; rmdir {tmp_path}/gone; wherry run --rm {IMAGE} echo here")
    assert (done.stdout, done.returncode) == ("here\n", 0)


def test_top_from_a_terminal(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "c", IMAGE, "sleep", "1234")
    for options in (["-o", "pid,args"], ["-ef"], ["aux"]):
        master, slave = pty.openpty()
        try:
            done = subprocess.run(
                [*cli.prefix, "top", "c", *options],
                stdin=slave, capture_output=True, text=True, check=True, env=cli.env, start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            )  # fmt: skip
        finally:
            os.close(slave)
            os.close(master)
        assert [line.split()[-2:] for line in done.stdout.splitlines()[1:]] == [["sleep", "1234"]]
