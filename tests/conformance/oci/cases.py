"""What comes out of a file of tests: its cases, read from the Test Anything Protocol that both suites speak."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PASS, FAIL, SKIP = "pass", "fail", "skip"
_RESULT = re.compile(r"^(not ok|ok)\b *(\d*) *-? *(.*)$")
_SKIP = re.compile(r"# *skip\b *(.*)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A runtime under test."""

    name: str
    program: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One check."""

    name: str
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One file of tests, after it was run."""

    suite: str
    file: str
    cases: tuple[Case, ...]
    ended: str
    """"" or what went wrong with the file as a whole: a time limit, a status without any failed case."""
    text: str

    @property
    def good(self) -> bool:
        """Nothing failed."""
        return not self.ended and self.count(FAIL) == 0

    def count(self, result: str) -> int:
        """Returns how many cases ended in one way."""
        return sum(case.result == result for case in self.cases)

    def failures(self) -> list[str]:
        """Returns the names of what failed, as known.toml has them: ``suite/file`` or ``suite/file: case``."""
        whole = f"{self.suite}/{self.file}"
        names = [f"{whole}: {case.name}" for case in self.cases if case.result == FAIL]
        return names or ([whole] if self.ended else [])

    def line(self) -> str:
        """Returns the line that is printed."""
        word = "pass" if self.good and self.count(PASS) else "skip" if self.good else "FAIL"
        failed = "".join(f"\n        {name}" for name in self.failures())
        ended = f"  {self.ended}" if self.ended else ""
        return (
            f"{word}  {self.suite:14} {self.file:36} {self.count(PASS):3} pass {self.count(FAIL):3} fail "
            f"{self.count(SKIP):3} skip{ended}{failed}"
        )


def read(suite: str, file: str, output: str, errors: str, status: int | None) -> Outcome:
    """Reads what a file of tests wrote.

    Args:
        suite: the suite's name.
        file: the file's.
        output: its standard output.
        errors: its standard error.
        status: how it ended, None for a time limit.
    """
    cases: list[Case] = []
    seen: dict[str, int] = {}
    for line in output.splitlines():
        match = _RESULT.match(line)
        if match is None:
            continue
        skip = _SKIP.search(match[3])
        name = _SKIP.sub("", match[3]).strip() or (skip[1] if skip else match[2])
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            name = f"{name} ({seen[name]})"
        cases.append(Case(name=name, result=SKIP if skip else PASS if match[1] == "ok" else FAIL))
    if not cases and status == 0 and suite == "runtime-tools":
        # Tests of hooks plan nothing, and tell an error in a comment alone.
        cases.append(Case(name="as a whole", result=FAIL if re.search(r"^ *error:", output, re.MULTILINE) else PASS))
    ended = "ran out of time" if status is None else ""
    if not ended and status and not any(case.result == FAIL for case in cases):
        ended = f"ended with {status}"
    if not ended and not cases and not re.search(r"^1\.\.0\b", output, re.MULTILINE):
        ended = "reported nothing"
    return Outcome(suite=suite, file=file, cases=tuple(cases), ended=ended, text=output + errors)
