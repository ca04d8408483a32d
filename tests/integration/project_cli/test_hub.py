"""Pushing to and cloning from a real hub process."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
from tests.integration.project_cli.conftest import COMPOSE, Cli, Hub, one_line


@pytest.fixture
def pushed(project: Cli, hub: Hub) -> Cli:
    project("remote", "add", "origin", hub.url)
    project("commit", "-m", "first")
    project("push")
    return project


def test_push_and_clone(project: Cli, hub: Hub, tmp_path: Path) -> None:
    project("remote", "add", "origin", hub.url)
    commit = project("commit", "-m", "first", "--json").json()["commit"]
    done = project("push")
    assert f"(new) -> {commit[:12]} revision/kiosk" in done.out
    assert "sent 1" in done.out
    assert project("push").out == f"{commit[:12]} is on origin already\n"
    assert project("log", "--json").json()[0]["names"] == ["HEAD", "origin"]
    (project.cwd / "config/web/index.html").write_text("more\n")
    project("commit", "-m", "second")
    second = project("push", "--json").json()
    assert second["old"] == commit
    assert second["bytes_sent"] < 5000
    fsck = subprocess.run(["ostree", "fsck", f"--repo={hub.folder}/repo"], capture_output=True, text=True, check=False)
    assert fsck.returncode == 0, fsck.stderr
    assert project("fleet", "revisions", "--json").json()[0]["subject"] == "second"

    other = Cli(machine=tmp_path / "other-machine", cwd=tmp_path, env={"WHERRY_TOKEN": _token(project)})
    done = other("clone", f"{hub.url}/kiosk", "copy", "--trust", str(project.cwd / ".wherry/key.pub"))
    assert "(verified)" in done.err
    copy = other.at(tmp_path / "copy")
    assert [entry["subject"] for entry in copy("log", "--json").json()] == ["second", "first"]
    assert copy("status", "--json").json()["clean"]
    (copy.cwd / "config/web/index.html").write_text("from another machine\n")
    assert "no key to sign with" in one_line(copy("commit", "-m", "third", status=3).err)
    copy("commit", "-m", "third", "--key", str(project.cwd / ".wherry/key"))
    copy("push")

    (project.cwd / "config/web/index.html").write_text("meanwhile\n")
    project("commit", "-m", "meanwhile")
    message = one_line(project("push", status=4).err)
    assert message.startswith("the hub has revisions that you do not have")
    assert message.endswith("clone the project anew, make your changes there, and push again")


def test_a_push_that_is_killed_goes_on(project: Cli, hub: Hub) -> None:
    project("remote", "add", "origin", hub.url)
    project("commit", "-m", "first")
    whole = len(list((project.cwd / ".wherry/store/objects").rglob("*.*")))
    project.with_env(WHERRY_TRACE="revision.push.sent=kill")("push", status=-signal.SIGKILL)
    assert project("fleet", "revisions", "--json").json() == []
    rest = project("push", "--json").json()
    assert rest["objects_sent"] < whole
    assert len(project("fleet", "revisions", "--json").json()) == 1


def test_trust(pushed: Cli, hub: Hub, tmp_path: Path) -> None:
    pushed("key", "generate", str(tmp_path / "stranger"))
    cli = pushed.at(tmp_path)
    address = f"{hub.url}/kiosk"
    message = one_line(cli("clone", address, "copy", "--trust", str(tmp_path / "stranger.pub"), status=7).err)
    assert message.startswith("not signed by a trusted key")
    assert not (tmp_path / "copy").exists()
    assert "public key is asked for" in one_line(
        cli("clone", address, "--trust", str(tmp_path / "stranger"), status=5).err
    )
    assert "(not verified: no --trust was given)" in cli("clone", address, "copy").err
    assert "no project 'other'" in one_line(cli("clone", f"{hub.url}/other", status=3).err)
    assert "there and not empty" in one_line(cli("clone", address, "copy", status=4).err)


def test_a_hub_that_does_not_know_me(pushed: Cli, hub: Hub) -> None:
    (pushed.cwd / "compose.yaml").write_text(COMPOSE.replace("UTC", "CET"))
    pushed("commit", "-m", "second")
    message = one_line(pushed.with_env(WHERRY_TOKEN="wrong")("push", status=10).err)
    assert message == f"the hub asks for a login: {hub.url}; run `wherry fleet login {hub.url}`"
    file = pushed.machine / "home/.config/wherry/credentials.json"
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    assert "chmod 600" in one_line(pushed("push", status=10).err)


def test_a_hub_that_is_down(pushed: Cli, hub: Hub) -> None:
    hub.stop()
    (pushed.cwd / "compose.yaml").write_text(COMPOSE.replace("UTC", "CET"))
    commit = pushed("commit", "-m", "second", "--json").json()["commit"]
    assert one_line(pushed("push", status=8).err).startswith("no answer: ")
    assert pushed("log", "--json").json()[0]["commit"] == commit


def test_a_project_on_two_hubs_of_one_name(pushed: Cli, hub: Hub, tmp_path: Path) -> None:
    cli = pushed.at(tmp_path)
    cli("init", "other", "--name", "kiosk")
    other = cli.at(tmp_path / "other")
    other("remote", "add", "origin", hub.url)
    other("commit", "-m", "of another project")
    assert "revisions that you do not have" in one_line(other("push", status=4).err)


def _token(cli: Cli) -> str:
    file = cli.machine / "home/.config/wherry/credentials.json"
    (login,) = json.loads(file.read_text())["hubs"].values()
    return str(login["token"])
