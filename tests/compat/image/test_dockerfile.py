"""buildah makes the same config of the corpus' files, and leaves the same files out of a build context."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.image.dockerfile.corpus import FILES, GIVEN, outcome

from wherry.core.proc import run
from wherry.image.dockerfile.effects import base_env
from wherry.image.dockerfile.ignore import parse_ignore

pytestmark = pytest.mark.skipif(shutil.which("buildah") is None, reason="buildah is not here")

_NOT_BUILDAHS = {
    "escape": "its LABEL does not take the escape character of the file",
    "healthcheck-start": "--start-interval is newer than buildah 1.28",
    "variables": "${name+word} is newer than buildah 1.28",
    "variable-patterns": "pattern forms are newer than buildah 1.28",
    "shell-scratch": "its CMD takes no notice of SHELL, against the reference",
    "expose": "it keeps ranges and the protocol's case as they were written",
}
_CONFIGS = [
    path
    for path in FILES
    if not path.name.startswith("bad-")
    and path.read_text().count("FROM") == path.read_text().count("FROM scratch") == 1
    and path.stem not in _NOT_BUILDAHS
]
_KEYS = (
    "Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "OnBuild", "Shell", "StopSignal", "User",
    "Volumes", "WorkingDir",
)  # fmt: skip

Build = Callable[..., dict[str, Any]]


@pytest.fixture
def buildah(tmp_path: Path) -> Iterator[list[str]]:
    base = ["buildah", "--root", str(tmp_path / "store"), "--runroot", str(tmp_path / "run"), "--storage-driver", "vfs"]
    yield base
    run([*base, "rmi", "--all", "--force"])


def _build(buildah: list[str], file: Path, context: Path) -> str:
    options = ["--isolation=chroot", "-q", "--format=docker", "--identity-label=false", "--arch=arm64"]
    options += [f"--build-arg={name}={value}" for name, value in GIVEN.items()]
    return run([*buildah, "bud", *options, "-f", str(file), str(context)]).stdout.decode().split()[-1]


@pytest.mark.parametrize("path", _CONFIGS, ids=lambda path: path.stem)
def test_the_config(path: Path, buildah: list[str], tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    image = _build(buildah, path, context)
    theirs = json.loads(json.loads(run([*buildah, "inspect", "--type=image", image]).stdout)["Config"])
    ours = outcome(path)["config"]
    config = ours["config"] | {"Env": base_env(ours["config"].get("Env", []))}
    assert {key: theirs["config"].get(key) or None for key in _KEYS} == {key: config.get(key) or None for key in _KEYS}
    assert theirs.get("author", "") == ours.get("author", "")


@pytest.mark.parametrize(
    "patterns",
    [
        "a\n", "/a/\n", "*\n!a\n", "*\n!a/b\n", "**/*.o\n", "*.o\n", "a/**\n", "a/**\n!a/b/**\n",
        "a/*\n!a/b\n", "[ab]\n", "?\n!a\n", "# a\n\n  x.o  \n", "../a\n", "a/../b\n", "**\n!b\n",  "*/b\n",
        "a\n!a\na/b\n", ".\n", "/\n", "a/./b/\n", "**/x.c\n!a/x.c\n",
    ],
)  # fmt: skip
def test_the_context(patterns: str, buildah: list[str], tmp_path: Path) -> None:
    context = tmp_path / "context"
    files = ["x.o", "x.c", "a/x.o", "a/x.c", "a/b/x.o", "a/b/x.c", "b/x.o", "b/c/x.c", "#a/y"]
    for name in files:
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(name)
    (context / ".dockerignore").write_text(patterns)
    file = tmp_path / "Dockerfile"
    file.write_text("FROM scratch\nCOPY . /all/\n")
    image = _build(buildah, file, context)
    container = run([*buildah, "from", "--pull-never", image]).stdout.decode().strip()
    top = Path(run([*buildah, "mount", container]).stdout.decode().strip()) / "all"
    theirs = {str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()} - {".dockerignore"}
    run([*buildah, "umount", container])
    run([*buildah, "rm", container])
    ignore = parse_ignore(patterns.encode())
    assert {name for name in files if not ignore.excludes(name)} == theirs
