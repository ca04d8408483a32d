"""Rules of the tree that import-linter cannot say: sizes, the environment, exits, empty ``__init__`` files."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

_SRC = Path(__file__).parents[2] / "src/wherry"
_FILES = sorted(_SRC.rglob("*.py"))
_MAX_LINES = 500


def _names(path: Path) -> str:
    return str(path.relative_to(_SRC))


@pytest.mark.parametrize("path", _FILES, ids=_names)
def test_module(path: Path) -> None:
    source = path.read_text()
    tree = ast.parse(source)
    assert ast.get_docstring(tree), "a module says what it is for"
    assert len(source.splitlines()) <= _MAX_LINES, "past 500 lines a file usually holds two concepts"
    if path.name == "__init__.py":
        assert all(isinstance(node, ast.ImportFrom) for node in tree.body[1:]), "no logic in __init__.py"
    package = path.relative_to(_SRC).parts[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            spelled = f"{node.value.id}.{node.attr}"
            if package != "cli":
                assert spelled not in ("os.environ", "os.getenv", "os.environb"), (
                    f"line {node.lineno}: only cli/ reads it"
                )
                assert spelled != "sys.exit", f"line {node.lineno}: a library module raises"
            assert spelled != "os.system", f"line {node.lineno}: no shell"
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                assert not (
                    keyword.arg == "shell" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True
                ), f"line {node.lineno}: no shell"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            if "ctypes" in names:
                assert package == "linux", f"line {node.lineno}: ctypes only in linux/"
            assert not (isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names))
