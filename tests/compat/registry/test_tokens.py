"""docker-registry that asks for tokens of a server beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.compat.registry.conftest import Machine, Registry
from tests.compat.registry.test_docker_registry import raw_digest
from tests.compat.registry.tokens import PASSWORD, REFRESH, USER, TokenServer
from tests.unit.image.makers import Layout

Start = Callable[..., Registry]
Make = Callable[[str], Machine]


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[TokenServer]:
    with TokenServer(tmp_path) as found:
        yield found


@pytest.fixture
def registry(tokens: TokenServer, start_registry: Start, layout: Layout) -> Registry:
    found = start_registry(more=tokens.settings)
    for repository in ("public/app", "private/app"):
        found.skopeo(
            *("copy", "-q", "--dest-tls-verify=false", f"--dest-creds={USER}:{PASSWORD}"),
            *(f"oci:{layout.path}:one", f"REGISTRY/{repository}:1"),
        )
    tokens.asked.clear()
    return found


def test_who_may_do_what(tokens: TokenServer, registry: Registry, machine: Make, layout: Layout) -> None:
    wherry = machine("w")
    public, private = (f"{registry.domain}/{name}/app:1" for name in ("public", "private"))
    wherry("pull", "--keep-layers", public)
    assert set(tokens.asked) == {("repository:public/app:pull",)}
    assert len(tokens.asked) == 1
    assert "wherry login" in wherry("pull", private, status=10)
    assert "wherry login" in wherry("image", "push", public, f"{registry.domain}/public/new:1", status=10)
    wrong = wherry("login", "-u", USER, "--password-stdin", registry.domain, stdin=b"wrong\n", status=10)
    assert "wrong" in wrong
    wherry("login", "-u", USER, "--password-stdin", registry.domain, stdin=f"{PASSWORD}\n".encode())
    wherry("pull", private)
    tokens.asked.clear()
    wherry("image", "push", public, f"{registry.domain}/public/new:1")
    pull, push = "repository:public/app:pull", "repository:public/new:pull,push"
    assert set(tokens.asked) == {(push,), (push, pull)}
    assert raw_digest(registry, "public/new:1") == layout.manifests[1]["digest"]
    wherry("logout", registry.domain)
    assert "wherry login" in wherry("image", "tags", private, status=10)


def test_an_identity_token(registry: Registry, machine: Make, tmp_path: Path) -> None:
    wherry = machine("w")
    authfile = tmp_path / "auth.json"
    authfile.write_text(json.dumps({"auths": {registry.domain: {"identitytoken": REFRESH}}}))
    wherry("pull", "--authfile", str(authfile), f"{registry.domain}/private/app:1")


def test_a_token_that_ends_in_between(
    tokens: TokenServer, registry: Registry, machine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a server says of a token's life need not be so: a 401 gets a new one."""
    tokens.lifetime_s = -60
    wherry = machine("w")
    assert "401" in wherry("pull", f"{registry.domain}/public/app:1", status=10)
    assert len(tokens.asked) < 20
    tokens.lifetime_s = 300
    wherry("pull", f"{registry.domain}/public/app:1")
