"""What ``wherry host build`` tells when it is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.build.executing import Result
from wherry.build.steps import Place, Step
from wherry.cli.host_build import SHOWN_WARNINGS, tell_warnings


def _work(place: Place) -> None:
    raise AssertionError("it is kept")


def _result(name: str, *warnings: str) -> Result:
    step = Step(name=name, what="", work=_work)
    return Result(step=step, key="0", path=Path("x"), cached=True, seconds=0, size_bytes=0, warnings=warnings)


def test_the_first_warnings_of_each_step_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    many = [f"CONFIG_{number}=y is n" for number in range(SHOWN_WARNINGS + 2)]
    tell_warnings([_result("kernel", *many), _result("root"), _result("boot", "odd")], "kiosk")
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        *(f"warning: kernel: {line}" for line in many[:SHOWN_WARNINGS]),
        "warning: kernel: 2 more; all of them: wherry host log kiosk kernel",
        "warning: boot: odd",
    ]
