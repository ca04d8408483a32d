"""Stages are built when the target needs them, and every name leads somewhere or is refused with its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from wherry.core.errors import InvalidInput, NotFound
from wherry.image.dockerfile.expansion import GlobalArgs
from wherry.image.dockerfile.parsing import parse_dockerfile
from wherry.image.dockerfile.plan import (
    BuildPlan,
    ContextOrigin,
    ImageOrigin,
    ScratchOrigin,
    StageOrigin,
    plan_build,
)
from wherry.image.dockerfile.syntax import Copy, Run, ShellForm, User
from wherry.image.platforms import Platform
from wherry.image.reference import Reference

FILE = """\
ARG tag=1
FROM debian:$tag AS base
RUN base
FROM base AS tools
RUN tools
FROM --platform=$BUILDPLATFORM alpine AS unused
COPY --from=tools /a /a
FROM scratch AS app
COPY --from=tools /b /b
RUN --mount=from=base,target=/c --mount=type=cache,target=/d,from=nginx x
COPY --from=0 /e /e
FROM base AS last
COPY . /f
"""


def plan(
    text: str,
    target: str = "",
    contexts: frozenset[str] = frozenset(),
    triggers: Mapping[int, Sequence[str]] | None = None,
    given: Mapping[str, str] | None = None,
) -> BuildPlan:
    file = parse_dockerfile(text.encode())
    known = GlobalArgs.of(
        file, given or {}, target=Platform(architecture="arm64"), build=Platform(architecture="amd64")
    )
    return plan_build(file, known, target=target, contexts=contexts, triggers=triggers)


def image(text: str, platform: Platform | None = None) -> ImageOrigin:
    return ImageOrigin(reference=Reference.parse(text), platform=platform)


@pytest.mark.parametrize(
    ("target", "built"),
    [
        ("", ["base", "last"]),
        ("last", ["base", "last"]),
        ("LAST", ["base", "last"]),
        ("4", ["base", "last"]),
        ("app", ["base", "tools", "app"]),
        ("base", ["base"]),
        ("2", ["base", "tools", "unused"]),
    ],
)
def test_only_what_is_needed(target: str, built: list[str]) -> None:
    assert [stage.name for stage in plan(FILE, target).stages] == built


def test_where_names_lead() -> None:
    found = plan(FILE, "app", given={"tag": "2"})
    base, tools, app = found.stages
    assert base.origin == image("debian:2")
    assert tools.origin == StageOrigin(index=0)
    assert app.origin == ScratchOrigin()
    assert app.sources == {
        "tools": StageOrigin(index=1),
        "base": StageOrigin(index=0),
        "nginx": image("nginx"),
        "0": StageOrigin(index=0),
    }
    assert app.needs == (0, 1)
    assert found.images == (image("debian:2"), image("nginx"))
    assert found.bases == {0: image("debian:2")}
    assert found.target is app
    assert not found.needs_context
    assert plan(FILE).needs_context


def test_platforms() -> None:
    amd = Platform(architecture="amd64")
    found = plan("FROM --platform=$BUILDPLATFORM a AS b\nFROM b\nCOPY --from=c / /")
    assert [stage.platform for stage in found.stages] == [amd, amd]
    assert found.images == (image("a", amd), image("c"))
    assert plan("FROM a").target.platform is None


def test_named_contexts_come_first() -> None:
    found = plan(FILE, "app", frozenset({"tools", "debian:1", "nginx"}))
    assert [stage.name for stage in found.stages] == ["base", "app"]
    assert found.stages[0].origin == ContextOrigin(name="debian:1")
    assert found.target.sources["tools"] == ContextOrigin(name="tools")
    assert found.images == ()


def test_the_nearest_stage_of_a_name() -> None:
    found = plan("FROM a AS x\nFROM b AS x\nFROM x\nCOPY --from=x / /")
    assert [stage.index for stage in found.stages] == [1, 2]
    assert plan("FROM debian AS debian").target.origin == image("debian")


def test_triggers() -> None:
    expressions = ["RUN a", "COPY --from=one <<E /x\ny\nE", "USER u"]
    with pytest.raises(InvalidInput, match="no other stage"):
        plan("FROM i AS one\nFROM j\nUSER v\n", triggers={1: expressions})
    expressions[1] = "COPY --from=one /x /y"
    found = plan("FROM i AS one\nFROM j\nUSER v\n", triggers={1: expressions})
    assert [stage.name for stage in found.stages] == ["one", "1"]
    assert found.target.instructions == (
        Run(command=ShellForm(text="a")),
        Copy(sources=("/x",), destination="/y", from_="one"),
        User(user="u"),
        User(user="v"),
    )
    assert [node.first_line for node in found.target.instructions] == [2, 2, 2, 3]


def test_triggers_of_a_stage() -> None:
    found = plan("FROM i AS one\nONBUILD USER u\nFROM one\nUSER v\n", triggers={0: ["USER t"]})
    assert [len(stage.instructions) for stage in found.stages] == [2, 2]
    assert found.target.instructions == (User(user="u"), User(user="v"))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("FROM a\nCOPY --from=later / /\nFROM b AS later\nFROM a\nCOPY --from=0 / /", 2, "built later, at line 3"),
        ("FROM a AS me\nCOPY --from=me / /", 2, "this stage itself"),
        ("FROM a\n\nCOPY --from=0 / /", 3, "this stage itself"),
        ("FROM a\nRUN --mount=from=1,target=/x y\nFROM c\nCOPY --from=0 / /", 2, "built later, at line 3"),
        ("FROM a\nCOPY --from=7 / /", 2, "no stage 7"),
        ("FROM a\nCOPY --from=a:. / /", 2, "not a tag"),
        ("FROM a AS tools\nFROM b\nCOPY --from=Toolz / /", 3, "did you mean tools?"),
        ("FROM A_%", 1, "name of an image"),
        ("FROM --platform=Linux/x a", 1, "not a platform"),
    ],
)
def test_refused(text: str, line: int, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        plan(text)
    assert words in str(caught.value)
    assert f"Dockerfile:{line}: " in str(caught.value)


@pytest.mark.parametrize("trigger", ["ONBUILD RUN a", "FROM a", "MAINTAINER a", "RNU a", "", "RUN a\nRUN b"])
def test_bad_triggers(trigger: str) -> None:
    with pytest.raises(InvalidInput, match="a trigger of j is") as caught:
        plan("FROM j", triggers={0: [trigger]})
    assert "Dockerfile:1: FROM j" in str(caught.value)


def test_no_such_target() -> None:
    with pytest.raises(NotFound, match="did you mean tools"):
        plan(FILE, "tool")
    with pytest.raises(NotFound, match="stages are base tools unused app last"):
        plan(FILE, "9")
