"""Several files as one: the specification's rules, `extends`, `include`, profiles, names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.engine.compose.support import project, service

from wherry.core.errors import InvalidInput, NotFound
from wherry.engine.compose.files import find_files
from wherry.engine.compose.loading import Request, load
from wherry.engine.compose.model import normal_name


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("environment: {A: 1, B: 2}", "environment: [B=3, C=4]", {"environment": {"A": "1", "B": "3", "C": "4"}}),
        ("dns: [1.1.1.1]", "dns: 8.8.8.8", {"dns": ["1.1.1.1", "8.8.8.8"]}),
        ("command: [echo, foo]", "command: [echo, bar]", {"command": ["echo", "bar"]}),
        ("entrypoint: [a, b]", "entrypoint: c", {"entrypoint": ["c"]}),
        ("healthcheck: {test: [CMD, a], retries: 2}", "healthcheck: {test: [CMD, b, c]}",
         {"healthcheck": {"test": ["CMD", "b", "c"], "retries": 2}}),
        ("volumes: [/a:/work]", "volumes: [/b:/work, /c:/c]",
         {"volumes": [("/b", "/work"), ("/c", "/c")]}),
        ("ports: ['8080:80']", "ports: ['8443:443', '8080:80']", {"ports": [("8080", 80), ("8443", 443)]}),
        ("ports: ['8080:80']", "ports: !reset []", {"ports": []}),
        ("ports: ['8080:80']", "ports: !override ['8443:443']", {"ports": [("8443", 443)]}),
        ("environment: {FOO: BAR, X: 1}", "environment: {FOO: !reset null}", {"environment": {"X": "1"}}),
        ("hostname: a", "hostname: !reset null", {"hostname": None}),
        ("hostname: a", "hostname: !override b", {"hostname": "b"}),
        ("depends_on: []", "cap_add: [ALL]", {"cap_add": ["ALL"]}),
        ("cap_add: [KILL]", "cap_add: [KILL, CHOWN]", {"cap_add": ["KILL", "CHOWN"]}),
        ("logging: {driver: json-file, options: {max-size: 1m}}", "logging: {driver: none}",
         {"logging": {"driver": "none"}}),
        ("ulimits: {nofile: 1, nproc: 2}", "ulimits: {nofile: {soft: 3, hard: 4}}",
         {"ulimits": {"nofile": {"soft": 3, "hard": 4}, "nproc": {"soft": 2, "hard": 2}}}),
        ("deploy: {resources: {limits: {cpus: 1, pids: 5}}}", "deploy: {resources: {limits: {cpus: 2}}}",
         {"deploy": {"resources": {"limits": {"cpus": "2", "pids": 5}}}}),
    ],
)  # fmt: skip
def test_rules(tmp_path: Path, first: str, second: str, expected: dict[str, Any]) -> None:
    found = service(tmp_path, first, second)
    for key, value in expected.items():
        there: Any = found.get(key, [] if isinstance(value, list) else None)
        if key == "volumes":
            there = [(item["source"], item["target"]) for item in there]
        if key == "ports":
            there = [(item["published"], item["target"]) for item in there]
        assert there == value


def test_variables_are_filled_in_before_merging(tmp_path: Path) -> None:
    found = service(tmp_path, "hostname: ${A}", "domainname: $A", environment={"A": "x"})
    assert (found["hostname"], found["domainname"]) == ("x", "x")


def test_reset_of_a_service_and_of_a_volume(tmp_path: Path) -> None:
    found = project(
        tmp_path,
        "services: {a: {image: i}, b: {image: i}}\nvolumes: {v: }\n",
        "services: {b: !reset null}\nvolumes: {v: !reset null}\n",
    )
    assert list(found.services) == ["a"]
    assert not found.volumes


def test_extends(tmp_path: Path) -> None:
    folder = tmp_path / "common"
    folder.mkdir()
    (folder / "base.yaml").write_text(
        "services:\n  base: {image: busybox, user: root, volumes: ['./x:/x']}\n"
        "  common: {extends: {service: base}, environment: {TZ: utc, PORT: 80}}\n"
    )
    found = project(
        tmp_path,
        "services:\n  cli: {extends: {file: common/base.yaml, service: common}, environment: {PORT: 8080}}\n"
        "  more: {extends: cli, user: app}\n",
    )
    cli = found.services["cli"]
    assert cli["environment"] == {"PORT": "8080", "TZ": "utc"}
    assert (cli["image"], cli["user"]) == ("busybox", "root")
    assert cli["volumes"][0]["source"] == str(folder / "x"), "paths of the other file begin there"
    assert found.services["more"]["user"] == "app"


def test_extends_in_a_circle_and_to_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="extend each other: a -> b -> a"):
        project(tmp_path, "services:\n  a: {extends: {service: b}}\n  b: {extends: {service: a}}\n")
    with pytest.raises(InvalidInput, match="no service 'nobody'"):
        project(tmp_path, "services:\n  a: {extends: {service: nobody}}\n")


def test_include(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    folder.mkdir()
    (folder / ".env").write_text("TAG=9\nOWN=own\n")
    (folder / "compose.yaml").write_text(
        "services:\n  db: {image: 'db:${TAG}', hostname: $OWN, volumes: ['./data:/data', 'v:/v']}\nvolumes: {v: }\n"
    )
    found = project(
        tmp_path,
        "include: [db/compose.yaml]\nservices:\n  web: {image: w, depends_on: [db]}\n",
        environment={"TAG": "1"},
    )
    assert found.services["db"]["image"] == "db:1", "the caller's variables stand before the included .env"
    assert found.services["db"]["hostname"] == "own"
    assert found.services["db"]["volumes"][0]["source"] == str(folder / "data")
    with pytest.raises(InvalidInput, match=r"services\.db is defined here and in what is included"):
        project(tmp_path, "include: [db/compose.yaml]\nservices:\n  db: {image: other}\n", environment={"TAG": "1"})


def test_include_in_a_circle(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="include each other"):
        project(tmp_path, "include: [compose.yaml]\nservices: {a: {image: i}}\n")


def test_profiles(tmp_path: Path) -> None:
    text = (
        "services:\n  web: {image: w}\n  debug: {image: d, profiles: [debug], depends_on: [tool]}\n"
        "  tool: {image: t, profiles: [tools]}\n"
    )
    assert set(project(tmp_path, text).services) == {"web"}
    assert set(project(tmp_path, text, profiles=("*",)).services) == {"web", "debug", "tool"}
    assert set(project(tmp_path, text, environment={"COMPOSE_PROFILES": "tools"}).services) == {"web", "tool"}
    assert set(project(tmp_path, text, services=("debug",)).services) == {"web", "debug", "tool"}
    with pytest.raises(InvalidInput, match="depends on 'tool', which is off"):
        project(tmp_path, text, profiles=("debug",))


def test_anchors_and_merge_keys(tmp_path: Path) -> None:
    found = project(
        tmp_path,
        "x-a: &a {image: i, restart: always}\nservices:\n  s: {<<: *a, restart: 'no'}\n  t: *a\n",
    )
    assert found.services["s"] == {"image": "i", "restart": "no"}
    assert found.services["t"]["restart"] == "always"


def test_env_files_in_order_under_environment(tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text("A=1\nB=$X\nC=1\nD\n")
    (tmp_path / "b.env").write_text("B='$X'\n")
    found = service(
        tmp_path,
        "env_file: [a.env, {path: b.env, format: raw}, {path: none.env, required: false}]\nenvironment: {C: 2}",
        environment={"X": "x", "D": "d"},
    )
    assert found["environment"] == {"A": "1", "B": "'$X'", "C": "2", "D": "d"}


def test_the_dot_env_file_lies_under_the_environment(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=file\nB=file\n")
    (tmp_path / "other.env").write_text("B=other\n")
    assert service(tmp_path, "hostname: $A$B", environment={"A": "caller"})["hostname"] == "callerfile"
    found = project(tmp_path, "services: {s: {image: $A$B}}\n", environment={"A": "x"}, env_files=("other.env",))
    assert found.services["s"]["image"] == "xother"


def test_warnings(tmp_path: Path) -> None:
    found = project(tmp_path, "version: '3'\nservices: {s: {image: a$NOT}}\n")
    assert [word in warning for word, warning in zip(("NOT", "version"), found.warnings, strict=True)] == [True, True]


def test_names(tmp_path: Path) -> None:
    text = "services: {s: {image: i}}\n"
    folder = tmp_path / "My App_1"
    folder.mkdir()
    assert project(folder, text, name="").name == "myapp_1" == normal_name("My App_1")
    assert project(folder, f"name: given\n{text}", name="").name == "given"
    assert project(folder, f"name: given\n{text}", name="", environment={"COMPOSE_PROJECT_NAME": "env"}).name == "env"
    assert project(folder, "services: {s: {image: $COMPOSE_PROJECT_NAME}}\n", name="n").services["s"]["image"] == "n"
    with pytest.raises(InvalidInput, match="not a project's name"):
        project(folder, text, name="Upper")


def test_finding_files(tmp_path: Path) -> None:
    below = tmp_path / "a/b"
    below.mkdir(parents=True)
    with pytest.raises(NotFound, match=r"no compose\.yaml"):
        find_files(str(below))
    (tmp_path / "a/docker-compose.yml").write_text("services: {s: {image: i}}\n")
    (tmp_path / "a/compose.override.yaml").write_text("")
    assert find_files(str(below)) == [str(tmp_path / "a/docker-compose.yml")]
    (tmp_path / "a/compose.yaml").write_text("services: {s: {image: i}}\n")
    assert find_files(str(below)) == [str(tmp_path / "a/compose.yaml"), str(tmp_path / "a/compose.override.yaml")]
    found = load(Request(cwd=str(below)))
    assert (found.name, found.directory) == ("a", str(tmp_path / "a"))
