"""Builds by a real user without root: with subordinate ids, and with one id alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.rootless.user import IMAGE, UID, User

HEAD = f"FROM {IMAGE}\n"


@pytest.fixture
def context(user: User) -> Iterator[Path]:
    yield from _context(user)


@pytest.fixture
def lone_context(single: User) -> Iterator[Path]:
    yield from _context(single)


def _context(user: User) -> Iterator[Path]:
    found = user.home / "context"
    found.mkdir()
    (found / "a").write_text("a")
    yield found
    shutil.rmtree(found)
    for name in ("built:1", "built:2"):
        user.wherry("image", "rm", name)
    user.wherry("builder", "prune", "-f")


def test_owners_mounts_and_the_cache(user: User, context: Path) -> None:
    (context / "secret").write_text("s3cret")
    (context / "Dockerfile").write_text(
        HEAD + "COPY --chown=7:8 a /owned\nRUN id -u > /id; echo x > /mine && chown 5:6 /mine\n"
        "RUN --mount=type=secret,id=s,uid=9 --mount=type=cache,target=/c,uid=3 --mount=type=bind,target=/b,rw "
        "cat /run/secrets/s > /s; cat /b/a > /bound; echo y > /b/a\nUSER 7\nRUN id -u > /tmp/seven\n"
    )
    arguments = ("build", "-q", "-t", "built:1", "--secret", f"id=s,src={context}/secret", str(context))
    first = user.ok(*arguments)
    assert user.ok(*arguments) == first
    done = user.ok("run", "--rm", "built:1", "cat", "/id", "/bound", "/s", "/tmp/seven")
    assert done.split() == ["0", "as3cret7"]
    listed = user.ok("run", "--rm", "--user=0", "built:1", "ls", "-n", "/owned", "/mine")
    assert [line.split()[2:4] for line in listed.splitlines()] == [["5", "6"], ["7", "8"]]
    assert (context / "a").read_text() == "a"


def test_with_one_id(single: User, lone_context: Path) -> None:
    (lone_context / "Dockerfile").write_text(
        HEAD + "COPY a /\nRUN --mount=type=bind,target=/b,rw cat /b/a > /x && echo changed > /b/a\n"
        "RUN --mount=type=bind,target=/b cat /b/a > /y\n"
    )
    single.ok("build", "-t", "built:1", str(lone_context))
    assert single.ok("run", "--rm", "built:1", "cat", "/x", "/y", "/a") == "aaa"


def test_standard_input_and_outputs(user: User, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nCOPY --chown=7:8 a /\n")
    out = user.home / "out"
    try:
        user.ok("build", "-q", "-o", str(out), str(context))
        assert (out / "a").read_text() == "a"
        assert (out / "a").stat().st_uid == UID
        user.ok("build", "-t", "built:2", "-f", "-", str(context), stdin=b"FROM scratch\nCOPY a /from-stdin\n")
        user.ok("build", "-t", "built:1", "-", stdin=HEAD.encode() + b"RUN echo piped > /p\n")
        assert user.ok("run", "--rm", "built:1", "cat", "/p") == "piped"
    finally:
        user.run("rm", "-rf", str(out))


def test_no_id_that_is_not_theirs(single: User, lone_context: Path) -> None:
    (lone_context / "Dockerfile").write_text(HEAD + "RUN --mount=type=cache,target=/c,uid=7 true\n")
    done = single.wherry("build", str(lone_context))
    assert done.returncode == 11, done.stderr
    assert "may not have files of 7:0" in done.stderr
