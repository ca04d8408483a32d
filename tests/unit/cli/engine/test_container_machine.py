"""Flags of ``run --machine``: those that mean something, and those that are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from wherry.cli.container_flags import RUN_FLAGS
from wherry.cli.container_machine import TAKEN, check_flags
from wherry.core.errors import UsageError


def given(**more: Any) -> dict[str, Any]:
    return {**{flag.key: flag.default for flag in RUN_FLAGS}, "machine": "qemu", **more}


def test_each_flag_that_is_taken_is_there() -> None:
    assert {flag.key for flag in RUN_FLAGS} >= TAKEN


@pytest.mark.parametrize("flag", [flag for flag in RUN_FLAGS if flag.key not in TAKEN], ids=lambda flag: flag.key)
def test_every_other_flag_is_refused(flag: Any) -> None:
    value: Any = True if not flag.metavar else ("x",) if flag.many else "x"
    with pytest.raises(UsageError, match=flag.names[-1]):
        check_flags(given(**{flag.key: value}))


def test_what_is_taken() -> None:
    check_flags(given(volume=("/a:/b",), network=("none",), tty=True, publish=("80:80",), memory="1g"))
    for wrong in ({"machine": "xen"}, {"machine": ""}, {"network": ("host",)}, {"network": ("mine",)}):
        with pytest.raises(UsageError):
            check_flags(given(**wrong))
