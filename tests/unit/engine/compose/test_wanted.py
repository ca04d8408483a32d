"""Which images a project needs, and when they are pulled."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.engine.compose.support import project

from wherry.core.errors import NotFound
from wherry.engine.compose.wanted import wanted_images

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
