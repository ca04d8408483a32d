"""Results: kept as files, judged by known.toml, and told as a table in the documentation."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from tests.conformance.oci.cases import FAIL, PASS, SKIP, Outcome

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs/reference/oci-conformance.md"
KNOWN = Path(__file__).with_name("known.toml")
BEGIN, END = "<!-- generated: scores -->", "<!-- end of scores -->"
COLUMNS = (
    ("wherry", "v1"), ("wherry", "v2"), ("crun", "v1"), ("crun", "v2"), ("runc", "v1"), ("runc", "v2"),
)  # fmt: skip


def save(build: Path, runtime: str, version: str, outcomes: list[Outcome]) -> None:
    """Keeps the scores of a whole run for the table."""
    scores = {
        f"{item.suite}/{item.file}": [item.count(PASS), item.count(FAIL) + bool(item.ended), item.count(SKIP)]
        for item in outcomes
    }
    (build / f"scores-{runtime}-{version}.json").write_text(json.dumps(scores, indent=1))


def judge(outcomes: list[Outcome], *, runtime: str, version: str, skipped_suites: int) -> int:
    """Prints the sum, and what known.toml does not explain; returns the exit status."""
    counts = {result: sum(item.count(result) for item in outcomes) for result in (PASS, FAIL, SKIP)}
    broken = sum(bool(item.ended) for item in outcomes)
    print(
        f"{len(outcomes)} files: {counts[PASS]} cases pass, {counts[FAIL]} fail, {counts[SKIP]} are skipped, "
        f"{broken} files did not end well; {skipped_suites} suites were not there"
    )
    if runtime != "wherry":
        return 0
    known: dict[str, dict[str, Any]] = tomllib.loads(KNOWN.read_text())
    here = {name: entry for name, entry in known.items() if version in entry.get("on", ("v1", "v2"))}
    failed = {name for item in outcomes for name in item.failures()}
    files = {f"{item.suite}/{item.file}" for item in outcomes}
    surprises = sorted(failed - here.keys())
    stale = sorted(
        name
        for name, entry in here.items()
        if name.partition(": ")[0] in files and name not in failed and not entry.get("sometimes")
    )
    for name in surprises:
        print(f"fails without a reason in {KNOWN.name}: {name}")
    for name in stale:
        print(f"better than {KNOWN.name} says: {name}")
    return 1 if surprises or stale else 0


def write_docs(build: Path) -> None:
    """Puts the table of all kept scores, and the list of known failures, into the documentation."""
    columns = [
        (f"{runtime} {version}", json.loads(path.read_text()))
        for runtime, version in COLUMNS
        if (path := build / f"scores-{runtime}-{version}.json").exists()
    ]
    files = sorted({file for _, scores in columns for file in scores})
    lines = ["| file | " + " | ".join(name for name, _ in columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    for suite in sorted({file.partition("/")[0] for file in files}):
        for file in (file for file in files if file.startswith(f"{suite}/")):
            lines.append(f"| {file} | " + " | ".join(_cell(scores.get(file)) for _, scores in columns) + " |")
        sums = (
            [sum(scores[file][at] for file in scores if file.startswith(f"{suite}/")) for at in range(3)]
            for _, scores in columns
        )
        lines.append(f"| **{suite}, all** | " + " | ".join(f"**{_cell(item)}**" for item in sums) + " |")
    known: dict[str, dict[str, Any]] = tomllib.loads(KNOWN.read_text())
    lines += ["", "What fails with Wherry, and why:", "", "| case | where | why |", "| --- | --- | --- |"]
    for name, entry in sorted(known.items()):
        lines.append(f"| {name} | {', '.join(entry.get('on', ('v1', 'v2')))} | {entry['reason']} |")
    text = DOCS.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCS.write_text("\n".join((before + BEGIN, *lines, END + after)))


def _cell(score: list[int] | None) -> str:
    if score is None:
        return ""
    passed, failed, skipped = score
    return f"{passed} / {failed} / {skipped}" if passed or failed or skipped else "–"
