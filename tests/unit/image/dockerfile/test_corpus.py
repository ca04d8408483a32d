"""Each Dockerfile of the corpus comes to what its ``.json`` says: every instruction, and every error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.image.dockerfile.corpus import FILES, outcome

from wherry.core.errors import InvalidInput
from wherry.image.dockerfile.syntax import KEYWORDS


def _name(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_outcome(path: Path) -> None:
    expected = json.loads(path.with_suffix(".json").read_text())
    if "error" not in expected:
        assert outcome(path) == expected
        return
    with pytest.raises(InvalidInput) as caught:
        outcome(path)
    assert (caught.value.where or "").split(": ")[0] == expected["error"]
    assert expected["words"] in str(caught.value)


def test_every_instruction_is_there() -> None:
    words = {line.split()[0].upper() for path in FILES for line in path.read_text().splitlines() if line.strip()}
    assert set(KEYWORDS.values()) <= words
