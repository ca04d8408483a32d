"""The bundle of modules: made by the first start, used by the next, never older than its sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wherry

PROBE = """
import sys
sys.argv = ["wherry"]
sys.path.insert(0, sys.path.pop())
from wherry import warm
bundle = warm.install()
import wherry.core.units
import wherry.core.value
print(wherry.core.units.__file__, sorted(bundle.served), getattr(wherry.core.units, "MARK", None))
warm.keep(bundle)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package without anything compiled."""
    source = Path(wherry.__file__).parent
    target = tmp_path / "wherry"
    (target / "core").mkdir(parents=True)
    for name in ("__init__.py", "warm.py", "core/__init__.py", "core/units.py", "core/value.py", "core/errors.py"):
        shutil.copy(source / name, target / name)
    return target


def probe(package: Path, *options: str) -> str:
    code = f"import sys; sys.path.append({str(package.parent)!r})\n{PROBE}"
    done = subprocess.run(
        [sys.executable, "-I", "-S", *options, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout


def bundle_of(package: Path) -> Path:
    return package / f"__pycache__/start.{sys.implementation.cache_tag}.bundle"


def test_the_second_start_finds_all_in_one_file(package: Path) -> None:
    assert "[]" in probe(package)
    made = bundle_of(package).stat()
    second = probe(package)
    for name in ("wherry.core.units", "wherry.core.value", "wherry.core.errors"):
        assert f"'{name}'" in second
    assert str(package / "core/units.py") in second
    assert bundle_of(package).stat().st_mtime_ns == made.st_mtime_ns, "nothing new, nothing written"


def test_a_changed_source_is_what_runs(package: Path) -> None:
    probe(package)
    with (package / "core/units.py").open("a") as file:
        file.write("MARK = 'new'\n")
    third = probe(package)
    assert "'wherry.core.units'" not in third
    assert third.endswith("new\n")
    fourth = probe(package)
    assert "'wherry.core.units'" in fourth, "and is kept"
    assert fourth.endswith("new\n")


@pytest.mark.parametrize("damage", [b"", b"\0", b"garbage" * 100])
def test_a_damaged_file_is_passed_over_and_replaced(package: Path, damage: bytes) -> None:
    probe(package)
    bundle_of(package).write_bytes(damage)
    assert "[]" in probe(package)
    assert "'wherry.core.units'" in probe(package)


def test_nothing_is_written_where_the_interpreter_would_not(package: Path) -> None:
    probe(package, "-B")
    assert not bundle_of(package).exists()
    probe(package)
    bundle_of(package).unlink()
    os.chown(package / "__pycache__", 12345, 12345)
    probe(package)
    assert not bundle_of(package).exists(), "the folder is another user's"
