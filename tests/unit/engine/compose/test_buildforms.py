"""``build`` of a service: its short and long forms, what is merged, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.engine.compose.support import project, service

from wherry.core.errors import InvalidInput


def build(folder: Path, text: str, *more: str, **given: Any) -> dict[str, Any]:
    found: dict[str, Any] = service(folder, text, *more, **given)["build"]
    return found


def test_a_context_alone_or_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    assert build(tmp_path, "build: ./web") == {"context": f"{tmp_path}/web"}
    text = """
build:
  context: .
  dockerfile: docker/Dockerfile
  args: [VERSION=2, TOKEN]
  additional_contexts: {docs: ./docs, base: docker-image://debian:12, src: "https://git.example/x.git#v1"}
  ssh: [default, key=/run/agent]
  tags: [a:1, a:2]
  labels: [x=y]
  no_cache: "true"
  platforms: [linux/amd64, linux/arm64]
  shm_size: 1m
  ulimits: {nofile: 100}
"""
    assert build(tmp_path, text) == {
        "context": str(tmp_path),
        "dockerfile": "docker/Dockerfile",
        "args": {"VERSION": "2", "TOKEN": None},
        "additional_contexts": {
            "docs": f"{tmp_path}/docs",
            "base": "docker-image://debian:12",
            "src": "https://git.example/x.git#v1",
        },
        "ssh": ["default", "key=/run/agent"],
        "tags": ["a:1", "a:2"],
        "labels": {"x": "y"},
        "no_cache": True,
        "platforms": ["linux/amd64", "linux/arm64"],
        "shm_size": "1048576",
        "ulimits": {"nofile": {"soft": 100, "hard": 100}},
    }


@pytest.mark.parametrize("address", ["https://git.example/x.git#v1:src", "git@git.example:x.git", "github.com/a/b"])
def test_an_address_stays_as_it_is(tmp_path: Path, address: str) -> None:
    assert build(tmp_path, f'build: "{address}"')["context"] == address


def test_two_files_are_one_build(tmp_path: Path) -> None:
    found = build(tmp_path, "build: {context: a, args: {A: 1, B: 1}}", "build: {args: {B: 2}, target: t}")
    assert found == {"context": f"{tmp_path}/a", "args": {"A": "1", "B": "2"}, "target": "t"}


def test_a_service_that_is_built_needs_no_image(tmp_path: Path) -> None:
    made = project(tmp_path, "services: {Web: {build: .}}", name="shop")
    assert made.services["Web"]["image"] == "shop-web"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("build: {contex: .}", "unknown key"),
        ("build: {context: ., privileged: true}", "does not support this key"),
        ('build: "-"', "standard input is no context"),
        ("build: {context: ., dockerfile: a, dockerfile_inline: FROM x}", "do not go together"),
        ("build: {context: ., secrets: [token]}", "build.secrets: 'token' is not declared"),
        ("build: {context: ., secrets: [{source: token, mode: 0400}]}", "does not support this key"),
        ('build: {context: ., additional_contexts: {a: "service:none"}}', "no service 'none' that is built"),
        ("build: {context: ., additional_contexts: [a]}", "a context is missing"),
        ("platform: linux/arm64\nbuild: {context: ., platforms: [linux/amd64]}", "linux/arm64 is not among them"),
        ("build: {context: ., network: mine}", "'mine' is not one of"),
    ],
)
def test_what_cannot_be_built_is_refused_with_its_place(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as caught:
        service(tmp_path, text)
    assert "compose.yaml" in str(caught.value.where)
