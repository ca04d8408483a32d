"""The readers of Dockerfiles and ignore files, on to the plan of a build and the config that it makes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.fuzz.engine import Target

from wherry.image.dockerfile.effects import apply_to_document, created_by
from wherry.image.dockerfile.expansion import GlobalArgs, Scope
from wherry.image.dockerfile.ignore import parse_ignore
from wherry.image.dockerfile.parsing import parse_dockerfile
from wherry.image.dockerfile.plan import plan_build
from wherry.image.platforms import Platform

_SEEDS = Path(__file__).parents[2] / "data/dockerfiles"
_PLATFORM = Platform(architecture="amd64")


def _files() -> Iterable[bytes]:
    return [path.read_bytes() for path in sorted(_SEEDS.glob("*.Dockerfile"))]


def _read(data: bytes) -> object:
    file = parse_dockerfile(data)
    known = GlobalArgs.of(file, {"GIVEN": "x"}, target=_PLATFORM, build=_PLATFORM)
    found = []
    for stage in plan_build(file, known).stages:
        scope = Scope(globals=known)
        document: dict[str, Any] = {}
        for node in stage.instructions:
            expanded = scope.expand(node)
            apply_to_document(document, expanded)
            found.append((type(node).__name__, len(created_by(expanded)).bit_length()))
    return found


def _ignores() -> Iterable[bytes]:
    return [b"*\n!src\n**/*.o\n", b"# c\n/a/**/b?\n[a-c]x\n!**/README*.md\n", b"a**b\n\\*\n../x\n"]


def _ignore(data: bytes) -> object:
    ignore = parse_ignore(data)
    paths = ("a", "src/main.o", "a/x/bc", "bx", "docs/README-1.md")
    return [(ignore.excludes(path), ignore.prunes(path)) for path in paths]


TARGETS = [
    Target(name="dockerfile", seeds=_files, read=_read),
    Target(name="dockerignore", seeds=_ignores, read=_ignore),
]
