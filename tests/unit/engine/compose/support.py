"""A project from texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wherry.engine.compose.loading import Request, load
from wherry.engine.compose.model import Project


def project(folder: Path, *texts: str, environment: dict[str, str] | None = None, **given: Any) -> Project:
    """Writes Compose files into a folder and reads them; services without an image get one."""
    names = []
    for index, text in enumerate(texts):
        name = "compose.yaml" if index == 0 else f"more{index}.yaml"
        (folder / name).write_text(text)
        names.append(name)
    return load(Request(cwd=str(folder), files=tuple(names), environment=environment or {}, **{"name": "p", **given}))


def service(folder: Path, text: str, *more: str, **given: Any) -> dict[str, Any]:
    """Returns a service `s` with these lines, and more files' lines over it."""
    texts = ["services:\n  s:\n    image: i\n" + _indented(text)]
    texts += ["services:\n  s:\n" + _indented(one) for one in more]
    return dict(project(folder, *texts, **given).services["s"])


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.strip("\n").splitlines())
