"""The header: read back, and its script under every shell that is here, with words of the worst kind."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from wherry.core.errors import InvalidInput, UsageError
from wherry.engine.pack.header import BLOCK_BYTES, Header, Isolate, parse, write

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
    "@WORDS@ @INSIDE@ @EXPORTS@",
    "'\"'\"'",
)


def header(**changed: object) -> Header:
    values: dict[str, object] = {"name": "app", "command": ("/bin/app",), "machine": "", "size": 8192}
    return Header(**{**values, **changed})  # type: ignore[arg-type]


def with_fakes(data: bytes, folder: Path) -> bytes:
    """Has a header call an ``unshare`` that prints the words behind ``sh -c SCRIPT NAME`` instead, as root.

    By its path: busybox' shell calls its own commands before those of PATH.
    """
    fake = folder / "unshare"
    fake.write_text(
        '#!/bin/sh\ncase $* in *--help*|"-m true") exit 0;; esac\n'
        'while [ "$1" != -c ]; do shift; done\nshift 3\nfor word; do printf "%s\\0" "$word"; done\n'
    )
    fake.chmod(0o755)
    return data.replace(b"$(id -u)", b"0").replace(b"unshare ", f"{fake} ".encode())


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_words_arrive_as_they_are(tmp_path: Path, shell: list[str]) -> None:
    app = tmp_path / "a p'p"
    data = with_fakes(write(header(command=("/bin/app", *NASTY))), tmp_path)
    app.write_bytes(data + b"\x00hsqs" * 1000)
    done = subprocess.run([*shell, str(app), *NASTY], capture_output=True, check=False)
    assert done.stderr == b""
    got = [word.decode() for word in done.stdout.split(b"\0")[:-1]]
    assert got == ["/bin/app", *NASTY, *NASTY]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_every_shell_can_read_both_scripts(tmp_path: Path, shell: list[str]) -> None:
    app = tmp_path / "app"
    data = write(header(env=(("A", "it's\n$x"),)))
    app.write_bytes(data)
    done = subprocess.run([*shell, "-n", str(app)], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    inside = data.split(b"_w_inside=", 1)[1]
    probe = tmp_path / "inside"
    probe.write_bytes(b"_w_inside=" + inside.split(b"\n_w_stay=", 1)[0] + b'\nprintf %s "$_w_inside"\n')
    text = subprocess.run([*shell, str(probe)], capture_output=True, check=True).stdout
    (tmp_path / "second").write_bytes(text)
    done = subprocess.run([*shell, "-n", str(tmp_path / "second")], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"export A='it'\"'\"'s\n$x'" in text


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
@pytest.mark.parametrize(
    ("changed", "env", "said"),
    [
        ({}, {"WHERRY_APP_ISOLATE": "vm"}, "none or namespaces, not vm"),
        ({"machine": "pdp11"}, {}, "is for pdp11"),
    ],
)
def test_refusals(tmp_path: Path, shell: list[str], changed: dict[str, object], env: dict[str, str], said: str) -> None:
    app = tmp_path / "app"
    app.write_bytes(with_fakes(write(header(**changed)), tmp_path))
    done = subprocess.run([*shell, str(app)], capture_output=True, env={**os.environ, **env}, check=False)
    assert done.returncode == 125
    assert said in done.stderr.decode()
    assert done.stdout == b""


def test_without_tools_it_says_which(tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.write_bytes(write(header()))
    done = subprocess.run(["/bin/sh", str(app)], capture_output=True, env={"PATH": str(tmp_path)}, check=False)
    assert done.returncode == 125
    assert b"app: needs unshare" in done.stderr


def test_round_trip() -> None:
    one = header(
        command=("/bin/app", *NASTY), isolate=Isolate.NAMESPACES, env=(("A", "1"), ("B", "")), machine="aarch64"
    )
    data = write(one)
    assert len(data) % BLOCK_BYTES == 0
    assert data.endswith(b"#\n")
    back = parse(data, where="app")
    assert back.offset == len(data)
    assert (back.command, back.isolate, back.env) == (one.command, one.isolate, one.env)
    assert write(back) == data == write(one)


def test_long_words_make_a_longer_header() -> None:
    data = write(header(command=("/bin/app", "x" * 9000)))
    assert parse(data, where="").offset == len(data) > 5 * BLOCK_BYTES


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
