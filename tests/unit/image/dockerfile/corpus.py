"""The Dockerfiles of ``tests/data/dockerfiles``, and what becomes of each on paper.

``python -m tests.unit.image.dockerfile.corpus`` writes what is expected of those that are good anew, to be read before
it is committed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wherry.image.dockerfile.effects import apply_to_document, created_by, shell_of
from wherry.image.dockerfile.expansion import GlobalArgs, Scope
from wherry.image.dockerfile.mounts import read_mount
from wherry.image.dockerfile.parsing import parse_dockerfile
from wherry.image.dockerfile.plan import PlannedStage, StageOrigin, plan_build
from wherry.image.dockerfile.problems import Place
from wherry.image.dockerfile.syntax import Add, Cmd, Copy, Heredoc, Instruction, Run
from wherry.image.platforms import Platform

FOLDER = Path(__file__).parents[3] / "data/dockerfiles"
FILES = sorted(FOLDER.glob("*.Dockerfile"))
GIVEN = {"GIVEN": "given"}


def outcome(path: Path) -> dict[str, Any]:
    """Returns what a build of a file would do, but for the files themselves."""
    file = parse_dockerfile(path.read_bytes(), where=path.name)
    known = GlobalArgs.of(file, GIVEN, target=Platform(architecture="arm64"), build=Platform(architecture="amd64"))
    plan = plan_build(file, known)
    scopes: dict[int, Scope] = {}
    documents: dict[int, dict[str, Any]] = {}
    stages = []
    for stage in plan.stages:
        scope, document = Scope(globals=known), dict[str, Any]()
        if isinstance(stage.origin, StageOrigin):
            below = stage.origin.index
            scope = scopes[below].child(scopes[below].env)
            document = json.loads(json.dumps(documents[below]))
            document["config"].pop("OnBuild", None)
        scopes[stage.index], documents[stage.index] = scope, document
        stages.append(_stage(stage, scope, document))
    notes = sorted({(note.line, note.rule) for note in (*file.notes, *known.notes)})
    return {
        "stages": stages,
        "config": documents[plan.target.index],
        "notes": [f"{line}: {rule}" for line, rule in notes],
    }


def _stage(stage: PlannedStage, scope: Scope, document: dict[str, Any]) -> dict[str, Any]:
    document.setdefault("config", {})
    history = []
    cmd_set = False
    for node in stage.instructions:
        expanded = scope.expand(node)
        apply_to_document(document, expanded, cmd_set=cmd_set)
        cmd_set = cmd_set or isinstance(node, Cmd)
        text = created_by(expanded, shell=shell_of(document["config"]), args=scope.arg_values())
        history += [f"{node.first_line}: {text}", *_details(expanded)]
    return {"name": stage.name, "base": str(stage.origin), "needs": list(stage.needs), "history": history}


def _details(node: Instruction) -> list[str]:
    place = Place(where="corpus", line=node.first_line)
    if isinstance(node, Run):
        return [f"   {read_mount(flag, place)}" for flag in node.mounts]
    if isinstance(node, Add | Copy):
        return [f"   {source.name}: {source.lines!r}" for source in node.sources if isinstance(source, Heredoc)]
    return []


def main() -> None:
    for path in FILES:
        if not path.name.startswith("bad-"):
            text = json.dumps(outcome(path), indent=2, ensure_ascii=False)
            path.with_suffix(".json").write_text(text + "\n")


if __name__ == "__main__":
    main()
