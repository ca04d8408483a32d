"""What docker's users type that is not about one container alone: filters, networks in ``inspect``, names, prunes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.integration.engine.support import IMAGE, Cli, until

from wherry.core.jsonio import loads


def test_networks_in_inspect(cli: Cli) -> None:
    cli.run("network", "create", "--ipv6", "--label", "a=1", "back")
    cli.run(
        "create",
        "--name",
        "c",
        "--network",
        "bridge",
        "--network",
        "back",
        "--network-alias",
        "db",
        IMAGE,
        "sleep",
        "99",
    )
    before = cli.inspect("c")["NetworkSettings"]
    assert set(before["Networks"]) == {"bridge", "back"}
    assert before["Networks"]["back"]["IPAddress"] == ""
    cli.run("start", "c")
    found = cli.inspect("c")
    assert found["HostConfig"]["NetworkMode"] == "bridge"
    settings = found["NetworkSettings"]
    back = settings["Networks"]["back"]
    assert settings["IPAddress"] == settings["Networks"]["bridge"]["IPAddress"] != back["IPAddress"]
    assert settings["Gateway"]
    inside = cli.run("exec", "c", "ip", "addr").stdout
    assert f"{back['IPAddress']}/{back['IPPrefixLen']}" in inside
    assert f"{back['GlobalIPv6Address']}/{back['GlobalIPv6PrefixLen']}" in inside
    assert back["MacAddress"] in inside
    network = loads(cli.run("inspect", "--type", "network", "back").stdout)[0]
    assert network["Labels"] == {"a": "1"}
    assert network["EnableIPv6"]
    held = network["Containers"][found["Id"]]
    assert held["IPv4Address"] == f"{back['IPAddress']}/{back['IPPrefixLen']}"
    assert held["IPv6Address"] == f"{back['GlobalIPv6Address']}/{back['GlobalIPv6PrefixLen']}"
    assert network["Id"] == back["NetworkID"]
    gateways = cli.run("network", "inspect", "-f", "{{range .IPAM.Config}}{{.Gateway}} {{end}}", "back").stdout.split()
    assert gateways == [back["Gateway"], back["IPv6Gateway"]]
    assert cli.run("ps", "--format", "{{.Networks}}").stdout == "bridge,back\n"
    assert cli.run("ps", "-q", "-f", "network=back").stdout == cli.run("ps", "-q").stdout != ""
    assert cli.run("ps", "-q", "-f", "network=other").stdout == ""
    assert "no network 'other'" in cli.run("inspect", "--type", "network", "other", status=3).stderr


def test_a_new_name_is_found_by_others(cli: Cli) -> None:
    cli.run("network", "create", "back")
    for name in ("old", "other"):
        cli.run("run", "-d", "--name", name, "--network", "bridge", "--network", "back", IMAGE, "sleep", "99")
    hosts = ("exec", "other", "cat", "/etc/hosts")
    before = sum("old" in line.split() for line in cli.run(*hosts).stdout.splitlines())
    assert before >= 2
    cli.run("rename", "old", "new")
    lines = [line.split() for line in cli.run(*hosts).stdout.splitlines()]
    assert sum("new" in words for words in lines) == before
    assert not any("old" in words for words in lines)
    assert cli.run("exec", "other", "ping", "-c1", "new").stdout
    names = {item["name"] for item in loads(cli.run("network", "inspect", "back").stdout)[0]["containers"].values()}
    assert names == {"new", "other"}


def test_filters(cli: Cli) -> None:
    cli.run("run", "--name", "first", IMAGE, "sh", "-c", "exit 3", status=3)
    cli.run("run", "--name", "second", "-v", "data:/data", IMAGE, "true")

    def found(*filters: str) -> list[str]:
        words = [word for text in filters for word in ("-f", text)]
        return cli.run("ps", "-a", *words, "--format", "{{.Names}}").stdout.split()

    assert found("exited=3") == ["first"]
    assert found("since=first") == ["second"]
    assert found("before=second") == ["first"]
    assert found("volume=data") == found("volume=/data") == ["second"]
    assert cli.run("ps", "-q", "-f", "exited=0").stdout != ""
    assert "no container 'none'" in cli.run("ps", "-f", "since=none", status=3).stderr


def test_rm_with_docker_flags(cli: Cli) -> None:
    cli.run("create", "--name", "c", "-v", "/anonymous", IMAGE, "true")
    assert "without links" in cli.run("rm", "-l", "c", status=2).stderr
    cli.run("rm", "-v", "c")
    assert cli.run("volume", "ls", "-q").stdout == ""


def test_prunes(cli: Cli) -> None:
    cli.run("network", "create", "--label", "keep", "kept")
    cli.run("network", "create", "unused")
    cli.run("network", "create", "used")
    cli.run("create", "--name", "c", "--network", "used", IMAGE, "true")
    assert cli.run("network", "prune", "-f", "--filter", "label!=keep").stdout == "unused\n"
    done = loads(cli.run("system", "prune", "-f", "--json").stdout)
    assert len(done["containers"]) == 1
    assert set(done["networks"]) == {"kept", "used"}
    assert "Total reclaimed space" in cli.run("image", "prune", "-f").stdout
    assert IMAGE in cli.run("image", "ls", "--json").stdout


@pytest.mark.parametrize("group", ["network", "volume", "container", "image", "system"])
def test_prunes_ask_at_a_terminal_and_refuse_without_one(cli: Cli, group: str) -> None:
    cli.run("network", "create", "unused")
    cli.run("create", "--name", "c", "-v", "/anonymous", IMAGE, "true")
    refused = cli.run(group, "prune", status=2)
    assert refused.stderr == (
        "wherry: nothing was removed: standard input is no terminal to ask at; give --force (-f)\n"
    )
    assert _at_a_terminal(cli, group, b"n\n") == 0
    assert cli.run("network", "ls", "-q", "-f", "name=unused").stdout
    assert cli.run("ps", "-aq").stdout
    assert _at_a_terminal(cli, group, b"y\n") == 0
    gone = {"network": ("network", "ls", "-q", "-f", "name=unused"), "container": ("ps", "-aq")}
    if group in gone:
        assert cli.run(*gone[group]).stdout.strip() == ""


def _at_a_terminal(cli: Cli, group: str, answer: bytes) -> int:
    master, slave = os.openpty()
    try:
        process = cli.start(group, "prune", stdin=slave)
        os.write(master, answer)
        _, errors = process.communicate(timeout=60)
    finally:
        os.close(master)
        os.close(slave)
    assert errors.startswith(b"WARNING! This removes all ")
    assert b"Are you sure you want to continue? [y/N]" in errors
    return process.returncode


@pytest.mark.parametrize(
    "words",
    [
        ("ps", "-a"),
        ("volume", "ls"),
        ("network", "ls"),
        ("secret", "ls"),
        ("system", "df"),
        ("system", "info"),
        ("compose", "ls"),
        ("image", "ls"),
        ("stats", "--no-stream"),
        ("network", "inspect", "bridge"),
    ],
    ids=" ".join,
)
def test_looking_makes_nothing(tmp_path: Path, words: tuple[str, ...]) -> None:
    Cli(tmp_path / "root", tmp_path / "run").run(*words)
    assert list(tmp_path.iterdir()) == []


def test_events_are_seen_from_before_the_first_container(tmp_path: Path, store: Path) -> None:
    root = tmp_path / "root"
    cli = Cli(root, tmp_path / "run")
    watching = cli.start("events", "--format", "{{.Action}}")
    until((tmp_path / "run").exists)
    assert not root.exists()
    root.mkdir()
    (root / "store").symlink_to(store)
    cli.run("create", "--name", "c", IMAGE, "true")
    assert watching.stdout is not None
    assert watching.stdout.readline() == b"create\n"
    watching.terminate()
    watching.communicate(timeout=30)
    cli.remove_all()


def test_docker_words_are_answered(cli: Cli) -> None:
    for word, answer in (("info", "wherry system info"), ("version", "wherry --version")):
        assert answer in cli.run(word, "x", status=2).stderr
    assert cli.run("images").stdout == cli.run("image", "ls").stdout
    assert "no container, image, volume or network 'none'" in cli.run("inspect", "none", status=3).stderr
