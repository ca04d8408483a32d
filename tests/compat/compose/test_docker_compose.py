"""What Debian's docker-compose (1.29) makes of files: variables, merging and env files come out the same here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from wherry.engine.compose.interpolate import interpolate
from wherry.engine.compose.loading import Request, load

ENVIRONMENT = {"WHO": "me", "EMPTY": "", "NUM": "7", "PATH": os.environ["PATH"], "HOME": "/root"}
EXPRESSIONS = (
    *("$WHO", "${WHO}", "x${WHO}y", "$WHO-$NUM", "${UNSET:-d}", "${UNSET-d}", "${EMPTY:-d}", "${EMPTY-d}", "${WHO:-d}"),
    *("$$WHO", "$${WHO}", "$$$$", "${UNSET:-a b}", "${UNSET:-}", "${EMPTY}", "${UNSET}", "plain", "a$$", "${NUM:?no}"),
    *("${UNSET:-http://h/?x=y}", "${WHO}${NUM}", "${EMPTY?no}", "%WHO%", "#x", "'$WHO'", "${UNSET:-a:-b}"),
)
BASE = """
services:
  web:
    image: "web:${NUM}"
    command: sh -c "echo $WHO"
    environment: {A: "${UNSET:-d}", B: "2", X: base}
    labels: [x=y]
    dns: [1.1.1.1]
    volumes: [./a:/a, v:/v]
    depends_on: [db]
    env_file: [e.env]
    cap_add: [NET_ADMIN]
    healthcheck: {test: [CMD, a], retries: 3}
  db: {image: db, hostname: one}
volumes: {v: {}}
"""
MORE = """
services:
  web:
    environment: [B=3, "D=${WHO}"]
    command: [just, this]
    labels: {z: w}
    dns: [8.8.8.8]
    volumes: ["./b:/a", "/c:/c"]
    cap_add: [NET_ADMIN, KILL]
    healthcheck: {test: [CMD, b, c]}
  db: {hostname: two, domainname: d}
"""
ENV_FILE = "# comment\nA=file\nE=plain\nF=\"quoted\"\nG='single'\nH=a=b\nI=\n"


def theirs(folder: Path, *names: str) -> dict[str, Any]:
    """Returns what docker-compose reads, by service; it writes ``$`` as ``$$``."""
    files = [word for name in names for word in ("-f", name)]
    done = subprocess.run(
        ["docker-compose", *files, "config"], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = yaml.safe_load(done.stdout)["services"]
    return found


def ours(folder: Path, *names: str) -> dict[str, Any]:
    """Returns what is read here, by service."""
    return dict(load(Request(cwd=str(folder), files=names, environment=ENVIRONMENT)).services)


def test_variables(tmp_path: Path) -> None:
    values = {f"V{number}": text for number, text in enumerate(EXPRESSIONS)}
    (tmp_path / "f.yaml").write_text(yaml.safe_dump({"services": {"s": {"image": "i", "environment": values}}}))
    expected = {key: value.replace("$$", "$") for key, value in theirs(tmp_path, "f.yaml")["s"]["environment"].items()}
    assert ours(tmp_path, "f.yaml")["s"]["environment"] == expected
    assert {key: interpolate(text, ENVIRONMENT) for key, text in values.items()} == expected


@pytest.mark.parametrize("names", [("base.yaml",), ("base.yaml", "more.yaml"), ("more2.yaml", "base.yaml")])
def test_merging(tmp_path: Path, names: tuple[str, ...]) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "more.yaml").write_text(MORE)
    (tmp_path / "more2.yaml").write_text(MORE.replace("hostname: two", "image: other, hostname: two"))
    (tmp_path / "e.env").write_text(ENV_FILE)
    expected, found = theirs(tmp_path, *names), ours(tmp_path, *names)
    assert set(found) == set(expected)
    for name, service in expected.items():
        mine = found[name]
        for key in ("image", "environment", "labels", "dns", "hostname", "domainname", "healthcheck"):
            assert mine.get(key) == service.get(key), key
        assert sorted(mine.get("cap_add", [])) == sorted(service.get("cap_add", []))
        assert sorted(mine.get("depends_on", {})) == sorted(service.get("depends_on", {}))
        command = service.get("command")
        if isinstance(command, list):
            assert mine["command"] == command
        binds = {item["target"]: item["source"] for item in mine.get("volumes", ()) if item["type"] == "bind"}
        shown = [item.split(":") for item in service.get("volumes", ())]
        assert binds == {target: source for source, target, *_ in shown if source.startswith("/")}
