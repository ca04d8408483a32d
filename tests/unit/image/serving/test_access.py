"""Who may read from the registry endpoint, and who may push."""

from __future__ import annotations

import base64

import pytest
from tests.unit.image.serving.client import TOKEN, Client, imported

from wherry.image.serving.access import Accounts, Door
from wherry.image.serving.registry import Registry
from wherry.store.repository import Repository


def test_who_may_push(repo: Repository) -> None:
    registry = Registry(repo, Door(Accounts(token=TOKEN)), push=True)
    stranger = Client(registry)
    answer = stranger.ask("GET", "/v2/")
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == (
        'Bearer realm="http://registry.example:5000/v2/token",service="wherry"'
    )
    answer = stranger.ask("POST", "/v2/a/blobs/uploads/")
    assert (answer.status, stranger.error()) == (401, "UNAUTHORIZED")
    assert 'scope="repository:a:pull,push"' in answer.headers["WWW-Authenticate"]
    stranger.ask("GET", "/v2/token")
    with_token = Client(registry, authorization=f"Bearer {stranger.json()['token']}")
    assert with_token.ask("GET", "/v2/").status == 200
    assert with_token.ask("GET", "/v2/_catalog").status == 200
    assert with_token.ask("POST", "/v2/a/blobs/uploads/").status == 401
    basic = "Basic " + base64.b64encode(f"someone:{TOKEN}".encode()).decode()
    owner = Client(registry, authorization=basic)
    owner.ask("GET", "/v2/token")
    for authorization in (basic, f"Bearer {owner.json()['token']}", f"Bearer {TOKEN}"):
        assert Client(registry, authorization=authorization).ask("POST", "/v2/a/blobs/uploads/").status == 202
    for wrong in ("Bearer x", "Bearer a.b", "Basic x", "Basic " + base64.b64encode(b"a:b").decode(), "Digest x"):
        assert Client(registry, authorization=wrong).ask("GET", "/v2/_catalog").status == 401
    nobody = Client(registry, authorization="Basic " + base64.b64encode(b":").decode())
    assert nobody.ask("GET", "/v2/_catalog").status == 200


def test_login_to_read(repo: Repository) -> None:
    imported(repo, "a:1")
    registry = Registry(repo, Door(Accounts(token=TOKEN), read_needs_login=True))
    stranger = Client(registry)
    for path in ("/v2/_catalog", "/v2/a/manifests/1", "/v2/a/tags/list", "/v2/token", "/v2/"):
        assert stranger.ask("GET", path).status == 401
    assert Client(registry, authorization=f"Bearer {TOKEN}").ask("GET", "/v2/a/manifests/1").status == 200


def test_an_error_inside_is_told_to_the_owner_alone(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    registry = Registry(repo, Door(Accounts()), report=told.append)

    def broken(*_args: object) -> None:
        raise ValueError("a secret path")

    monkeypatch.setattr(registry._reading, "catalog", broken)
    client = Client(registry)
    assert client.ask("GET", "/v2/_catalog").status == 500
    assert b"secret" not in client.body
    assert "secret" in told[0]
