"""Credentials, challenges, and the settings of registries."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from wherry.core.errors import InvalidInput, ToolError
from wherry.image.registry.challenge import parse_challenges, parse_token
from wherry.image.registry.credentials import CredentialFile, Credentials
from wherry.image.registry.hosts import Hosts, is_loopback

HELPER = """#!/bin/sh
read -r input
case $1 in
get) [ "$input" = known.example ] && echo '{"Username":"u","Secret":"from-helper"}' && exit
     echo "credentials not found in native keychain"; exit 1;;
store) printf '%s' "$input" > "$STORED";;
erase) exit 3;;
esac
"""


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "docker/config.json"
    file = CredentialFile(path, {})
    assert file.get("registry.example") is None
    file.put("registry.example", Credentials(user="u", password="p:w"))
    file.put("docker.io", Credentials(user="hub", password="x"))
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert file.get("registry.example") == Credentials(user="u", password="p:w")
    assert set(json.loads(path.read_bytes())["auths"]) == {"registry.example", "https://index.docker.io/v1/"}
    assert file.remove("registry.example")
    assert not file.remove("registry.example")
    assert file.get("registry.example") is None
    assert file.get("docker.io") == Credentials(user="hub", password="x")
    assert "hub" not in repr(path.read_text())  # not in plain text
    assert "x'" not in repr(file.get("docker.io"))


def test_what_others_wrote_survives(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"HttpHeaders": {"a": "b"}, "auths": {"x": {"auth": "dTpw"}}}')
    CredentialFile(path, {}).put("registry.example", Credentials(user="u", password="p"))
    document = json.loads(path.read_bytes())
    assert document["HttpHeaders"] == {"a": "b"}
    assert document["auths"]["x"] == {"auth": "dTpw"}


def test_the_longest_path_counts(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    path.write_text(
        json.dumps({"auths": {"r.example/team": {"auth": "dDp0"}, "https://r.example/v2/": {"auth": "dTpw"}}})
    )
    file = CredentialFile(path, {})
    assert file.get("r.example", "team/app") == Credentials(user="t", password="t")
    assert file.get("r.example", "other") == Credentials(user="u", password="p")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"auths": 1}',
        '{"auths": {"r.example": {"auth": "!"}}}',
        '{"auths": {"r.example": {"auth": "dQ=="}}}',
    ],
)
def test_malformed_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=str(path)):
        CredentialFile(path, {}).get("r.example")


def test_helpers(tmp_path: Path) -> None:
    program = tmp_path / "docker-credential-test"
    program.write_text(HELPER)
    program.chmod(0o755)
    path = tmp_path / "config.json"
    path.write_text('{"credHelpers": {"known.example": "test", "other.example": "test", "evil.example": "../x"}}')
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "STORED": str(tmp_path / "stored")}
    file = CredentialFile(path, environment)
    assert file.get("known.example") == Credentials(user="u", password="from-helper")
    assert file.get("other.example") is None
    assert file.put("known.example", Credentials(user="n", password="new")) == "docker-credential-test"
    assert json.loads((tmp_path / "stored").read_bytes()) == {
        "ServerURL": "known.example",
        "Username": "n",
        "Secret": "new",
    }
    assert b"new" not in path.read_bytes()
    with pytest.raises(ToolError, match="erase failed"):
        file.remove("known.example")
    with pytest.raises(InvalidInput, match="credential helper"):
        file.get("evil.example")


def test_challenges() -> None:
    header = 'Bearer realm="https://a.example/t?x=1",service="s, t",scope="repository:a:pull,push", Basic realm="q\\"x"'
    bearer, basic = parse_challenges(header)
    assert bearer.scheme == "bearer"
    assert bearer.parameters == {
        "realm": "https://a.example/t?x=1",
        "service": "s, t",
        "scope": "repository:a:pull,push",
    }
    assert (basic.scheme, basic.parameters) == ("basic", {"realm": 'q"x'})
    assert parse_challenges("") == []
    with pytest.raises(InvalidInput):
        parse_challenges('="')


@pytest.mark.parametrize("answer", [None, [], {}, {"token": ""}, {"token": 1}, {"token": "a\nb"}])
def test_answers_without_a_token(answer: object) -> None:
    with pytest.raises(InvalidInput, match="no token"):
        parse_token(answer, where="x")


def test_hosts(tmp_path: Path) -> None:
    path = tmp_path / "registries.yaml"
    path.write_text(
        "registries:\n  docker.io:\n    mirrors: [m.example, 'http://plain.example:5000/hub/']\n"
        "  lan:5000: {insecure: true}\n  own.example: {ca: /ca.pem, cert: /c.pem, key: /k.pem}\n"
    )
    hosts = Hosts.read(tmp_path / "missing", path)
    hub = hosts.find("docker.io")
    assert hub.urls == ("https://registry-1.docker.io",)
    assert [mirror.urls for mirror in hub.mirrors] == [("https://m.example",), ("http://plain.example:5000/hub",)]
    assert hosts.find("lan:5000").urls == ("https://lan:5000", "http://lan:5000")
    assert hosts.find("lan:5001").urls == ("https://lan:5001",)
    assert hosts.find("own.example").cert == Path("/c.pem")
    assert hosts.find("localhost:5000").urls == ("https://localhost:5000", "http://localhost:5000")
    assert not hosts.find("localhost:5000").insecure


def test_certificates_as_docker_has_them(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for path in ("second/r:5000/b.crt", "second/r:5000/a.crt", "second/r:5000/me.cert", "second/r:5000/me.key"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    hosts = Hosts(certificates=(first, second))
    found = hosts.find("r:5000")
    folder = second / "r:5000"
    assert (found.ca, found.authorities) == (None, (folder / "a.crt", folder / "b.crt"))
    assert (found.cert, found.key) == (folder / "me.cert", folder / "me.key")
    assert hosts.find("r:5001").authorities == ()
    assert Hosts(certificate_folder=folder).find("other").authorities == found.authorities
    (first / "r:5000").mkdir(parents=True)
    assert hosts.find("r:5000").authorities == ()
    (folder / "me.key").unlink()
    with pytest.raises(InvalidInput, match=r"there is no me\.key"):
        Hosts(certificates=(second,)).find("r:5000")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: b", "one key"),
        ("registries: [r]", "mapping of names"),
        ("registries: {r: {mirror: [x]}}", "r.mirror: not known"),
        ("registries: {r: {insecure: 'yes'}}", "r.insecure"),
        ("registries: {r: {cert: /x}}", "belong together"),
        ("registries: {r: 1}", "r: must be a mapping"),
        ("{", "not YAML"),
    ],
)
def test_malformed_settings(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "registries.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=words):
        Hosts.read(path)


def test_loopback() -> None:
    assert all(map(is_loopback, ["localhost", "localhost:5000", "127.0.0.1:1", "127.9.9.9", "[::1]:5000"]))
    assert not any(map(is_loopback, ["example", "10.0.0.1:5000", "localhost.example", "1270.0.0.1"]))
