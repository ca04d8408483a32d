"""Each fuzz target for a moment; with ``make test-deep`` for longer, with ``make fuzz`` for as long as you like."""

from __future__ import annotations

import pytest
from tests.fuzz.engine import fuzz
from tests.fuzz.run import load_targets

_TARGETS = load_targets()


def _run(name: str, seconds: float, seed: int) -> None:
    outcome = fuzz(_TARGETS[name], seconds=seconds, seed=seed)
    assert outcome.finding is None, f"{outcome.finding.why}: {outcome.finding.data!r}"
    assert outcome.executions


@pytest.mark.parametrize("name", sorted(_TARGETS))
def test_a_moment(name: str) -> None:
    _run(name, 0.3, 1)


@pytest.mark.deep
@pytest.mark.parametrize("name", sorted(_TARGETS))
def test_a_while(name: str) -> None:
    _run(name, 20.0, 2)
