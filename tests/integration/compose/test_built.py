"""Projects whose images are built: missing ones before containers are made, all with --build, from each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.compose.support import Compose
from tests.integration.engine.support import IMAGE

from wherry.core.jsonio import loads

FILE = f"FROM {IMAGE}\nARG WORD=none\nCOPY words /words\nRUN echo $WORD >>/words\n"
PROJECT = """
services:
  web:
    build: {context: web, args: {WORD: "${WORD:-plain}"}, labels: {of: test}}
    command: [cat, /words]
  plain: {IMAGE, command: [echo, plain]}
"""


@pytest.fixture
def project(compose: Compose) -> Compose:
    (compose.folder / "web").mkdir()
    (compose.folder / "web/Dockerfile").write_text(FILE)
    (compose.folder / "web/words").write_text("one\n")
    compose.write(PROJECT)
    return compose


@pytest.fixture(autouse=True)
def _own_images(compose: Compose) -> None:
    """The store is shared by tests; what one builds goes with it."""


def output(compose: Compose, *options: str) -> str:
    return compose.run("up", "--no-log-prefix", *options, "web").stdout


def test_a_missing_image_is_built_and_a_changed_one_when_asked(project: Compose) -> None:
    assert "one\nplain\n" in output(project)
    (project.folder / "web/words").write_text("two\n")
    assert "one\nplain\n" in output(project), "it is there"
    assert "two\nplain\n" in output(project, "--build"), "and the container is made anew from the new one"
    config = loads(project.cli.run("image", "inspect", "shop-web").stdout)[0]["Config"]
    assert config["Labels"]["of"] == "test"
    assert config["Labels"]["com.docker.compose.service"] == "web"
    told = project.run("down", "--rmi", "local").stderr
    assert "Image shop-web:latest  Removed" in told
    assert project.cli.run("image", "inspect", "shop-web", status=None).status != 0
    project.cli.run("image", "inspect", IMAGE)


def test_no_build_says_what_is_missing(project: Compose) -> None:
    result = project.run("up", "--no-build", status=None)
    assert result.status != 0
    assert "shop-web" in result.stderr
    assert project.left() == []


def test_build_alone_with_arguments_and_a_dockerfile_in_the_compose_file(project: Compose) -> None:
    project.run("build", "--build-arg", "WORD=given", "web", env={"WORD": "unused"})
    assert "one\ngiven\n" in output(project)
    assert "no service has build:" in project.run("build", "plain").stderr
    project.write(
        f"""
services:
  app:
    image: app:1
    build:
      dockerfile_inline: |
        FROM {IMAGE}
        COPY --from=words /words /from
        RUN --mount=type=secret,id=code cat /run/secrets/code >>/from
      additional_contexts: {{words: "service:web"}}
      secrets: [{{source: token, target: code}}]
      tags: ["app:also"]
    command: [cat, /from]
  web: {{build: web}}
secrets: {{token: {{environment: TOKEN}}}}
"""
    )
    env = {"TOKEN": "secret"}
    told = project.run("build", "app", env=env).stderr
    assert told.index("Image shop-web  Built") < told.index("Image app:1  Building")
    assert project.run("run", "--rm", "app", env=env).stdout == "one\nnone\nsecret"
    project.cli.run("image", "inspect", "app:also")
    project.cli.run("image", "rm", "app:1", "app:also", "shop-web")


def test_a_step_that_fails_points_at_its_line_and_starts_nothing(project: Compose) -> None:
    (project.folder / "web/Dockerfile").write_text(FILE + "RUN exit 7\n")
    result = project.run("up", "-d", status=None)
    assert result.status != 0
    assert "web/Dockerfile:5" in result.stderr
    assert project.left() == []


def test_a_check_builds_nothing(project: Compose) -> None:
    (project.folder / "web/Dockerfile").write_text(FILE.replace("RUN", "run"))
    assert "ConsistentInstructionCasing" in project.run("build", "--check").stdout
    assert project.cli.run("image", "inspect", "shop-web", status=None).status != 0


def test_a_folder_that_is_not_there(project: Compose) -> None:
    Path(project.folder / "web/Dockerfile").unlink()
    assert "no such Dockerfile" in project.run("build", status=None).stderr
    compose_file = project.folder / "compose.yaml"
    compose_file.write_text(compose_file.read_text().replace("context: web", "context: nowhere"))
    assert "no such build context" in project.run("build", status=None).stderr
