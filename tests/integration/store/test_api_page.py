"""The examples of the page on the Python API, run in their order."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

_PAGE = Path(__file__).parents[3] / "docs/reference/python-api.md"


def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = _PAGE.read_text().replace("```pycon\n", "").replace("```\n", "")
    test = doctest.DocTestParser().get_doctest(text, {}, "python-api.md", str(_PAGE), 0)
    assert len(test.examples) > 40
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=said.append)
    assert runner.failures == 0, "".join(said)


def test_docstrings() -> None:
    from wherry.store.disk import objectset

    assert doctest.testmod(objectset).failed == 0
