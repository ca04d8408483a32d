"""What can be wrong with a project and its machine: one line that says what, where and what to do; nothing is lost."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.project_cli.conftest import COMPOSE, Cli, head_of, one_line

_TYPOS = [  # (what stands in compose.yaml, in its place, exit status, what the error must say)
    ("command:", "comand:", 5, "services.web.comand: unknown key: compose.yaml:4:5; did you mean 'command'?"),
    ("services:", "servces:", 5, "servces: unknown key: compose.yaml:1:1; did you mean 'services'?"),
    ("ports:", "port:", 5, "services.web.port: unknown key: compose.yaml:7:5; did you mean 'ports'?"),
    ('"18080:8080"', '"18080:http"', 5, "services.web.ports[0]: not a port: 'http': compose.yaml:8:9; "),
    ('"18080:8080"', '"99999:80"', 5, "services.web.ports[0]: a port is a number from 1 to 65535, not 99999: compose"),
    (
        "    ports:",
        "    build: .\n    ports:",
        5,
        "services.web.build: Wherry does not support this key: compose.yaml:7:5; ",
    ),
    ("TZ: UTC", "TZ: ${TZ}", 5, "services.web.environment.TZ: variables are not filled in: compose.yaml:6:11; "),
    ("web:1.0", "web:9", 3, "no image 'web:9' on this machine: compose.yaml:3:12; import it: wherry image import FILE"),
    ("web:1.0", "Web:1.0", 5, "not the name of an image: 'Web:1.0': compose.yaml:3:12; "),
    (
        "  web:\n",
        "  webb:\n",
        5,
        "config/web/ belongs to no app of compose.yaml: config/web/index.html; the apps",
    ),
    (
        "TZ: UTC",
        "TZ: UTC\n      TZ: CET",
        5,
        "services.web.environment.TZ: key stands twice, first on line 6: compose.yaml:7:7",
    ),
    ("services:", "services: [", 5, "not YAML: "),
]


@pytest.mark.parametrize(("old", "new", "status", "message"), _TYPOS, ids=[typo[1][:30] for typo in _TYPOS])
def test_typos(good: Cli, old: str, new: str, status: int, message: str) -> None:
    before = head_of(good)
    (good.cwd / "compose.yaml").write_text(COMPOSE.replace(old, new, 1))
    assert one_line(good("commit", "-m", "bad", status=status).err).startswith(message)
    assert head_of(good) == before


def test_looking_works_while_a_file_is_wrong(good: Cli) -> None:
    (good.cwd / "compose.yaml").write_text(COMPOSE.replace("command", "comand"))
    assert "The next commit would fail: services.web.comand: unknown key" in good("status").out
    done = good("diff")
    assert done.out.startswith("compose.yaml: changed (+1 -1)\n")
    assert done.err.startswith("the apps cannot be compared: services.web.comand")
    (good.cwd / "compose.yaml").write_text(COMPOSE)
    assert good("status", "--json").json()["clean"]


def test_a_yaml_bomb(project: Cli) -> None:
    lines = ["x-0: &a0 {k0: v, k1: v, k2: v, k3: v, k4: v, k5: v, k6: v, k7: v, k8: v, k9: v}"]
    lines += [f"x-{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 8)]
    lines.append("services: {web: {image: web:1.0, environment: *a7}}")
    (project.cwd / "compose.yaml").write_text("\n".join(lines))
    assert "aliases make more than 20000 values" in one_line(project("commit", "-m", "bomb", status=5).err)


def test_a_key_that_others_can_read(project: Cli) -> None:
    (project.cwd / ".wherry/key").chmod(0o640)
    message = one_line(project("commit", "-m", "first", status=10).err)
    assert message.startswith("others can read this private key (mode 0640): ")
    assert message.endswith(f"; make it yours alone: chmod 600 {project.cwd}/.wherry/key")


def test_a_key_that_is_gone(project: Cli) -> None:
    (project.cwd / ".wherry/key").unlink()
    message = one_line(project("commit", "-m", "first", status=3).err)
    assert message.startswith("no key to sign with: ")
    assert "wherry key generate" in message


def test_outside_of_a_project(cli: Cli) -> None:
    for word in (
        ("status",),
        ("log",),
        ("add", "x"),
        ("commit", "-m", "x"),
        ("diff",),
        ("show",),
        ("push",),
        ("remote",),
    ):
        assert one_line(cli(*word, status=3).err) == f"not in a project folder: {cli.cwd}; make one with `wherry init`"


def test_before_the_first_commit(project: Cli) -> None:
    for word in (("log",), ("show",), ("push",)):
        if word == ("push",):
            project("remote", "add", "origin", "http://127.0.0.1:1")
        assert one_line(project(*word, status=3).err).startswith("there is no revision yet; make one")
    assert one_line(project("commit", status=2).err).startswith("no message given")
    assert "the message is empty" in one_line(project("commit", "-m", " ", status=5).err)


@pytest.mark.parametrize("rev", ["HEAD~5", "HEAD^^^", "deadbeef", "nowhere", "HEAD~x", "../../etc/passwd"])
def test_revisions_that_are_not(good: Cli, rev: str) -> None:
    assert one_line(good("show", rev, status=3).err).startswith("no such revision: ")


@pytest.mark.parametrize(
    ("file", "content", "status", "message"),
    [
        ("index", "{", 5, "damaged: not JSON"),
        ("HEAD", "nonsense", 5, "damaged: "),
        ("remotes", "[]", 5, "damaged: "),
        ("format", "9\n", 11, "a workspace of format '9'"),
        ("store/config", "[core]\nmode=strange\n", 11, "a repository of mode 'strange'"),
        ("store/refs/heads/revision/kiosk", "zz\n", 5, "not a SHA-256 checksum"),
    ],
)
def test_a_damaged_workspace(good: Cli, file: str, content: str, status: int, message: str) -> None:
    path = good.cwd / ".wherry" / file
    before = path.read_bytes() if path.exists() else None
    path.write_text(content)
    word = ("remote",) if file == "remotes" else ("status",)
    assert message in one_line(good(*word, status=status).err)
    path.write_bytes(before) if before is not None else path.unlink()
    good(*word)


def test_a_changed_object_is_noticed(good: Cli) -> None:
    commit = head_of(good)
    path = good.cwd / ".wherry/store/objects" / commit[:2] / f"{commit[2:]}.commit"
    path.write_bytes(path.read_bytes().replace(b"first", b"FIRST"))
    message = one_line(good("log", status=6).err)
    assert message == f"the commit's bytes do not have its checksum: revision {commit[:12]}"


def test_two_commits_at_once(project: Cli) -> None:
    slow = project.with_env(WHERRY_TRACE="revision.commit.staged=sleep:1.5")
    first = slow.start("commit", "-m", "one")
    second = slow.start("commit", "-m", "two")
    ends = [(*process.communicate(timeout=60), process.returncode) for process in (first, second)]
    assert sorted(end[2] for end in ends) == [0, 1], ends
    log = project("log", "--json").json()
    assert len(log) == 1
    assert project("status", "--json").json()["clean"]


def test_a_clock_in_1970(good: Cli) -> None:
    project = good
    time_s = project("log", "--json").json()[0]["time_s"]
    (project.cwd / "config/web/index.html").write_text("later\n")
    early = Cli(machine=project.machine, cwd=project.cwd, prefix=("faketime", "-f", "1970-01-02 00:00:00"))
    done = early("commit", "-m", "in 1970")
    assert "the clock stands wrong" in done.err
    log = project("log", "--json").json()
    assert [entry["time_s"] for entry in log] == [time_s, time_s]


def test_a_first_commit_in_1970(project: Cli) -> None:
    early = Cli(machine=project.machine, cwd=project.cwd, prefix=("faketime", "-f", "1970-01-02 00:00:00"))
    assert "the clock stands wrong" in early("commit", "-m", "in 1970").err
    (project.cwd / "config/web/index.html").write_text("later\n")
    project("commit", "-m", "now")
    assert len(project("log", "--json").json()) == 2


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk(cli: Cli, tiny_disk: Path) -> None:
    on_disk = cli.at(tiny_disk)
    on_disk("init", "kiosk")
    project = cli.at(tiny_disk / "kiosk")
    first = project("commit", "-m", "empty", "--json").json()["commit"]
    (project.cwd / "compose.yaml").write_text(COMPOSE)  # its image has two megabytes
    message = one_line(project("commit", "-m", "too large", status=9).err)
    assert "space" in message
    assert project("log", "--json").json()[0]["commit"] == first
    (project.cwd / "compose.yaml").write_text("services: {}\n")
    (tiny_disk / "filler").write_bytes(bytes(1))
    project("commit", "-a", "-m", "small again")
    assert not list((project.cwd / ".wherry/store/tmp").glob("staging-*"))


_POINTS = [
    "revision.commit.staged",
    "store.transaction.staged",
    "store.transaction.synced",
    "store.transaction.publishing",
    "store.transaction.published",
    "store.commit.written",
    "revision.commit.written",
    "store.transaction.ref",
    "revision.commit.done",
]


@pytest.mark.parametrize("point", _POINTS)
def test_power_fails_in_a_commit(good: Cli, point: str) -> None:
    first = head_of(good)
    (good.cwd / "compose.yaml").write_text(COMPOSE.replace("1.0", "1.1"))
    good.with_env(WHERRY_TRACE=f"{point}=kill")("commit", "-m", "second", status=-signal.SIGKILL)
    if head_of(good) == first:
        good("commit", "-m", "second")
    log = good("log", "--json").json()
    assert [entry["subject"] for entry in log] == ["second", "first"]
    assert all(entry["signed_by"] for entry in log)
    assert good("status", "--json").json()["clean"]
    checked = subprocess.run(
        ["ostree", "fsck", f"--repo={good.cwd}/.wherry/store"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
