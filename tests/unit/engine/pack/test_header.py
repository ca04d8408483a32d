"""The header: read back, and its script under every shell that is here, with words of the worst kind."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from wherry.core.errors import InvalidInput, UsageError
from wherry.engine.pack.header import BLOCK_BYTES, Format, Header, Isolate, parse, tables, write

SHELLS = [shell for shell in (["dash"], ["busybox", "sh"], ["bash", "--posix"]) if shutil.which(shell[0])]
NASTY = (
    "plain",
    "",
    "a b",
    "it's",
    '"q"',
    "$HOME `id` $(id)",
    "\\ \\n \\\\",
    "new\nline",
    "*",
    "-o",
    "--",
    "ünïcödé",
    "!x",
    "@WORDS@ --wherry-inside",
    "'\"'\"'",
)


def header(**changed: object) -> Header:
    values: dict[str, object] = {"name": "app", "command": ("/bin/app",), "machine": "", "size": 8192}
    return Header(**{**values, **changed})  # type: ignore[arg-type]


def with_fakes(data: bytes, folder: Path) -> bytes:
    """Has a header find only an ``unshare`` that prints the words that the app would have got, each with a NUL."""
    fake = folder / "unshare"
    fake.write_text(
        '#!/bin/sh\nwhile [ "$1" != --wherry-inside ]; do [ $# -gt 0 ] || exit 0; shift; done\nshift 10\n'
        'for word; do printf "%s\\0" "$word"; done\n'
    )
    fake.chmod(0o755)
    folders = b"/usr/bin /bin /usr/sbin /sbin"
    assert folders in data
    return data.replace(folders, str(folder).encode())


def words_of(shell: list[str], app: Path, *words: str, **env: str) -> list[str]:
    done = subprocess.run([*shell, str(app), *words], capture_output=True, check=False, env={**os.environ, **env})
    assert done.stderr == b""
    return [word.decode() for word in done.stdout.split(b"\0")[:-1]]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_words_arrive_as_they_are(tmp_path: Path, shell: list[str]) -> None:
    app = tmp_path / "a p'p"
    data = with_fakes(write(header(command=("/bin/app", *NASTY))), tmp_path)
    app.write_bytes(data + b"\x00hsqs" * 1000)
    assert words_of(shell, app, *NASTY) == ["/bin/app", *NASTY, *NASTY]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_words_for_the_launcher_are_taken_from_the_front_alone(tmp_path: Path, shell: list[str]) -> None:
    app = tmp_path / "app"
    app.write_bytes(with_fakes(write(header()), tmp_path))
    leading = ("--wherry-isolate=chroot", "--wherry-mount=loop", "--wherry-allow-unpack", "--wherry-net=none")
    assert words_of(shell, app, *leading, "a", "--wherry-info") == ["/bin/app", "a", "--wherry-info"]
    assert words_of(shell, app, "--wherry-", "--wherry-info", "--") == ["/bin/app", "--wherry-info", "--"]
    assert words_of(shell, app, "--appimage-help", "--help") == ["/bin/app", "--appimage-help", "--help"]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_every_shell_can_read_the_script(tmp_path: Path, shell: list[str]) -> None:
    app = tmp_path / "app"
    data = write(header(env=(("A", "it's\n$x"),)))
    app.write_bytes(data)
    done = subprocess.run([*shell, "-n", str(app)], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"export A='it'\"'\"'s\n$x'" in data


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_what_it_says_of_itself(tmp_path: Path, shell: list[str]) -> None:
    app = tmp_path / "app"
    app.write_bytes(write(header(machine="pdp11", sha256="0" * 64)))
    done = subprocess.run([*shell, str(app), "--wherry-info"], capture_output=True, check=True)
    assert done.stdout.decode().splitlines()[:2] == ["name: app", "machine: pdp11"]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
@pytest.mark.parametrize(
    ("changed", "env", "said"),
    [
        ({}, {"WHERRY_APP_ISOLATE": "vm"}, "none, chroot or namespaces, not vm"),
        ({}, {"WHERRY_APP_MOUNT": "magic"}, "auto, loop, fuse or unpack, not magic"),
        ({"machine": "pdp11"}, {}, "is for pdp11"),
        ({"words": ("--wherry-volume=a:b",)}, {}, "not known: --wherry-volume=a:b"),
        ({"words": ("--wherry-nonsense", "x")}, {}, "not known: --wherry-nonsense"),
    ],
)
def test_refusals(tmp_path: Path, shell: list[str], changed: dict[str, object], env: dict[str, str], said: str) -> None:
    app = tmp_path / "app"
    words = [str(word) for word in changed.get("words", ())]  # type: ignore[attr-defined]
    changed = {key: value for key, value in changed.items() if key != "words"}
    app.write_bytes(with_fakes(write(header(**changed)), tmp_path))
    done = subprocess.run([*shell, str(app), *words], capture_output=True, env={**os.environ, **env}, check=False)
    assert done.returncode == 125
    assert said in done.stderr.decode()
    assert done.stdout == b""


def test_without_tools_it_says_which(tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.write_bytes(write(header()).replace(b"/usr/bin /bin /usr/sbin /sbin", str(tmp_path).encode()))
    done = subprocess.run(["/bin/sh", str(app)], capture_output=True, env={"PATH": str(tmp_path)}, check=False)
    assert done.returncode == 125
    assert b"app: this machine has no unshare" in done.stderr


def test_the_tables_are_what_mount_reads() -> None:
    made = tables(header(binds=("/dev", "/data"), memory=("/var/log",)))
    assert sorted(made) == ["/.wherry/chroot", "/.wherry/namespaces", "/.wherry/none"]
    assert made["/.wherry/none"].splitlines() == [
        "/dev /mnt/dev none rbind,nofail 0 0",
        "/data /mnt/data none rbind,nofail 0 0",
        "tmpfs /mnt/var/log tmpfs nosuid,nodev,mode=1777 0 0",
    ]
    assert all(len(line.split()) == 6 for text in made.values() for line in text.splitlines())
    assert "/proc /mnt/proc" not in made["/.wherry/namespaces"]


def test_round_trip() -> None:
    one = header(
        command=("/bin/app", *NASTY),
        isolate=Isolate.NAMESPACES,
        env=(("A", "1"), ("B", "")),
        machine="aarch64",
        memory=("/var/log",),
        spare=("/opt",),
        workdir="/srv",
        format=Format.EROFS,
        sha256="ab",
    )
    data = write(one)
    assert len(data) % BLOCK_BYTES == 0
    assert data.endswith(b"#\n")
    back = parse(data, where="app")
    assert back.offset == len(data)
    assert back == replace(one, offset=len(data))
    assert write(back) == data == write(one)


def test_long_words_make_a_longer_header() -> None:
    data = write(header(command=("/bin/app", "x" * 9000)))
    assert parse(data, where="").offset == len(data) > 7 * BLOCK_BYTES


@pytest.mark.parametrize(
    "changed",
    [
        {"command": ()},
        {"command": ("/bin/app", "a\0b")},
        {"command": ("/bin/app", "\udcff")},
        {"command": ("/bin/app", "x" * 200_000)},
        {"env": (("a-b", "1"),)},
        {"env": (("A;id", "1"),)},
        {"binds": ("/a b",)},
        {"binds": ("/a$(id)",)},
        {"binds": ("/",)},
        {"binds": ("/a/../b",)},
        {"binds": ("etc",)},
        {"memory": ("/a b",)},
        {"workdir": "a"},
    ],
)
def test_what_no_header_can_say(changed: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        write(header(**changed))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: data[:20],
        lambda data: data.replace(b"#!/bin/sh", b"#!/bin/bash", 1),
        lambda data: data.replace(b'"version":1', b'"version":2', 1),
        lambda data: data.replace(b'"offset":', b'"offzet":', 1),
        lambda data: data.replace(b'"offset":', b'"offset":1', 1),
        lambda data: data.replace(b'"size":8192', b'"size":true', 1),
        lambda data: data.replace(b'"size":8192', b'"size":-1', 1),
        lambda data: data.replace(b'"isolate":"none"', b'"isolate":"some"', 1),
        lambda data: data.replace(b'"format":"squashfs"', b'"format":"fat"', 1),
        lambda data: data.replace(b'"command":["/bin/app"]', b'"command":[1]', 1),
        lambda data: data.replace(b"# wherry-app {", b"# wherry-app [", 1),
    ],
)
def test_malformed_headers(change: object) -> None:
    data = write(header())
    assert callable(change)
    changed = change(data)
    assert changed != data
    with pytest.raises(InvalidInput):
        parse(changed, where="app")
