"""Which images a project needs, and when they are pulled."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.engine.compose.support import project

from wherry.core.errors import InvalidInput, NotFound
from wherry.engine.compose.wanted import build_order, wanted_images

TEXT = """
services:
  web: {image: web:1, depends_on: [db]}
  db: {image: db:1, pull_policy: never}
  one: {image: both:1, pull_policy: if_not_present}
  two: {image: both:1, pull_policy: always}
  arm: {image: both:1, platform: linux/arm64}
"""


def test_each_image_once(tmp_path: Path) -> None:
    found = wanted_images(project(tmp_path, TEXT))
    assert [(each.image, each.platform, each.policy, each.services) for each in found] == [
        ("web:1", "", "missing", ("web",)),
        ("db:1", "", "never", ("db",)),
        ("both:1", "", "always", ("one", "two")),
        ("both:1", "linux/arm64", "missing", ("arm",)),
    ]


def test_of_some_services(tmp_path: Path) -> None:
    made = project(tmp_path, TEXT)
    assert [each.image for each in wanted_images(made, ["web"])] == ["web:1", "db:1"]
    assert [each.image for each in wanted_images(made, ["web"], dependencies_too=False)] == ["web:1"]
    with pytest.raises(NotFound, match="no service 'gone'"):
        wanted_images(made, ["gone"])


@pytest.mark.parametrize(("policy", "expected"), [("always", "always"), ("never", "never"), ("policy", "missing")])
def test_the_command_lines_policy_counts(tmp_path: Path, policy: str, expected: str) -> None:
    (found,) = wanted_images(project(tmp_path, TEXT), ["web"], dependencies_too=False, policy=policy)
    assert found.policy == expected


BUILT = """
services:
  web: {build: ., depends_on: [api]}
  api: {build: {context: api}, image: reg.example/api:1, pull_policy: build}
  twin: {image: reg.example/api:1}
"""


def test_what_is_built_has_a_name_of_its_own_unless_it_is_given_one(tmp_path: Path) -> None:
    found = wanted_images(project(tmp_path, BUILT))
    assert [(each.image, each.policy, each.built, each.elsewhere) for each in found] == [
        ("p-web", "missing", "web", False),
        ("reg.example/api:1", "build", "api", True),
    ]


ORDER = """
services:
  app: {build: {context: ., additional_contexts: {lib: "service:base", docs: ./d, os: "docker-image://debian:12"}}}
  base: {build: ./base}
  other: {build: ./other}
"""


def test_images_that_others_take_files_of_are_built_first(tmp_path: Path) -> None:
    made = project(tmp_path, ORDER)
    assert build_order(made, ["app"]) == ["base", "app"]
    assert build_order(made, ["app", "other"]) == ["base", "app", "other"]
    assert build_order(made, ["other"]) == ["other"]


def test_images_that_are_built_from_each_other_are_refused(tmp_path: Path) -> None:
    text = ORDER.replace("{build: ./base}", '{build: {context: ., additional_contexts: {a: "service:app"}}}')
    with pytest.raises(InvalidInput, match="app -> base -> app"):
        build_order(project(tmp_path, text), ["app"])
