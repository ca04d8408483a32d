"""Kills between any two steps, and two commands at once: the next ``up`` repairs it, ``down`` removes everything."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.compose.support import Compose

TEXT = """
services:
  db: {IMAGE, command: [sleep, "1000"], environment: {A: VALUE}, volumes: [/anon, named:/named], secrets: [pw]}
  web: {IMAGE, command: [sleep, "1000"], depends_on: [db]}
volumes: {named: }
secrets: {pw: {environment: A}}
"""
REPLACING = ("made", "stopped", "volumes-taken", "volumes-given", "removed", "renamed")
KILLED = -9


def armed(compose: Compose, point: str) -> dict[str, str]:
    return {**compose.cli.env, "A": "1", "WHERRY_TRACE": f"{point}=kill"}


def prepared(compose: Compose) -> None:
    compose.write(TEXT.replace("VALUE", "one"))
    compose.run("up", "-d", env={**compose.cli.env, "A": "1"})
    compose.run("exec", "-T", "db", "touch", "/anon/kept")
    compose.write(TEXT.replace("VALUE", "two"))


@pytest.mark.parametrize("step", REPLACING)
def test_a_kill_while_a_container_is_replaced(compose: Compose, step: str) -> None:
    prepared(compose)
    compose.run("up", "-d", env=armed(compose, f"compose.replace.{step}"), status=KILLED)
    compose.run("up", "-d", env={**compose.cli.env, "A": "1"})
    assert {name: item["State"] for name, item in compose.ps().items()} == {
        "shop-db-1": "running",
        "shop-web-1": "running",
    }
    assert compose.run("exec", "-T", "db", "sh", "-c", "echo $A; ls /anon").stdout.split() == ["two", "kept"]
    labels = compose.cli.inspect("shop-db-1")["labels"]
    assert "com.docker.compose.replace" not in labels
    before = compose.ids()
    compose.run("up", "-d", env={**compose.cli.env, "A": "1"})
    assert compose.ids() == before, "it is as it should be"
    compose.run("down", "-v")
    assert compose.left() == []


@pytest.mark.parametrize("step", REPLACING)
def test_down_after_such_a_kill_leaves_nothing(compose: Compose, step: str) -> None:
    prepared(compose)
    compose.run("up", "-d", env=armed(compose, f"compose.replace.{step}"), status=KILLED)
    compose.run("down", "-v")
    assert compose.left() == []


@pytest.mark.parametrize("step", ["provided", "created", "started"])
def test_a_kill_while_a_project_is_made(compose: Compose, step: str) -> None:
    compose.write(TEXT.replace("VALUE", "one"))
    compose.run("up", "-d", env=armed(compose, f"compose.up.{step}"), status=KILLED)
    compose.run("up", "-d", env={**compose.cli.env, "A": "1"})
    assert {item["State"] for item in compose.ps().values()} == {"running"}
    compose.run("down", "-v")
    assert compose.left() == []


@pytest.mark.parametrize("step", ["stopped", "containers-removed", "networks-removed"])
def test_a_kill_while_a_project_is_taken_away(compose: Compose, step: str) -> None:
    compose.write(TEXT.replace("VALUE", "one"))
    compose.run("up", "-d", env={**compose.cli.env, "A": "1"})
    compose.run("down", "-v", env=armed(compose, f"compose.down.{step}"), status=KILLED)
    compose.run("down", "-v")
    assert compose.left() == []


def test_two_at_once(compose: Compose) -> None:
    compose.write(TEXT.replace("VALUE", "one"))
    environment = {**compose.cli.env, "A": "1"}
    both = [compose.start("up", "-d", "--scale", "web=2", env=environment) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err.decode()
    assert set(compose.ps()) == {"shop-db-1", "shop-web-1", "shop-web-2"}
    assert [Path(path).name for path in compose.left() if "/networks/" in path] == ["shop_default.json"]
    compose.run("down", "-v")
    assert compose.left() == []
