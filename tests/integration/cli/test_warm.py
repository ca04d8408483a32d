"""The bundle of modules: made by the first start, used by the next, never older than its sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wherry
from wherry import warm

PROBE = """
import sys
sys.argv = ["wherry"]
sys.path.insert(0, sys.path.pop())
from wherry import warm
warm.EARLY["run"] = ("wherry.core.value",)
bundle = warm.install(WHAT)
early = "wherry.core.value" in sys.modules
import wherry.core.units
import wherry.core.value
print(wherry.core.units.__file__, sorted(bundle.served), early, getattr(wherry.core.units, "MARK", None))
value = wherry.core.value
print(value.__name__, value.__file__, value.__package__, value.__spec__.name, value is sys.modules["wherry.core"].value)
bundle.keep()
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package without anything compiled."""
    source = Path(wherry.__file__).parent
    target = tmp_path / "wherry"
    (target / "core").mkdir(parents=True)
    for name in (
        "__init__.py",
        "warm.py",
        "lean.py",
        "core/__init__.py",
        "core/units.py",
        "core/value.py",
        "core/errors.py",
    ):
        shutil.copy(source / name, target / name)
    return target


def probe(package: Path, *options: str, what: str = "run") -> str:
    code = f"import sys; sys.path.append({str(package.parent)!r}); WHAT = {what!r}\n{PROBE}"
    done = subprocess.run(
        [sys.executable, "-I", "-S", *options, "-c", code], capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    of_value = f"wherry.core.value {package}/core/value.py wherry.core wherry.core.value True"
    assert second == of_value, "a module is what the import system would have made of it"
    return first


def bundle_of(package: Path, what: str = "run") -> Path:
    return package / f"__pycache__/start.{sys.implementation.cache_tag}.{what}.bundle"


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
    assert third.endswith("new")
    fourth = probe(package)
    assert "'wherry.core.units'" in fourth, "and is kept"
    assert fourth.endswith("new")


def test_a_changed_source_of_what_is_loaded_early_is_what_runs(package: Path) -> None:
    probe(package)
    with (package / "core/value.py").open("a") as file:
        file.write("import wherry.core.units as units\nunits.MARK = 'early'\n")
    assert probe(package).endswith("[] True early"), "nothing is taken from a file of which that is not true any more"
    again = probe(package)
    assert again.endswith("early")
    assert "'wherry.core.value'" in again


def test_each_kind_of_command_has_a_file_of_its_own(package: Path) -> None:
    assert probe(package).endswith("True None")
    assert probe(package, what="other").endswith("False None")
    assert bundle_of(package).exists()
    assert bundle_of(package, "other").exists()


def test_a_file_made_beside_another_one_serves_a_start_without_that(package: Path) -> None:
    """``start.py`` installs two: what the first brought is not in the second, the packages of its modules neither."""
    both = "from wherry import warm; warm.EARLY['first'] = ('wherry.core',); warm.install('first')\n"
    code = f"import sys; sys.path.append({str(package.parent)!r}); WHAT = 'run'\n{both}{PROBE}"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, check=True)
    assert "'wherry.core.value'" in probe(package)


def test_a_plain_run_needs_all_that_is_loaded_early() -> None:
    """What `warm.EARLY` names is loaded by each `wherry run`, whatever it does, so it must not grow by chance."""
    source = Path(wherry.__file__).parents[1]
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from wherry import warm; warm.install('run');"
        "print(*(name for name in sys.modules if name.startswith('wherry.')))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, source], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"wherry.engine.life", "wherry.runtime.create"} <= loaded
    others = ("network", "net.subnets", "net.connections", "idranges", "foreign", "volumes", "volume_mounts", "health")
    unneeded = {*(f"wherry.engine.{name}" for name in others), "wherry.cli.container_mounts", "wherry.cli.root"}
    assert not unneeded & loaded


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


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("wherry run --rm box", "run"),
        ("wherry --root /r container exec web true", "exec"),
        ("wherry ps", "other"),
        ("wherry create box", "other"),
        ("wherry runtime --root /r create one", "runtime-create"),
        ("/usr/bin/wherry-runc --log l run -b . one", "runtime-run"),
        ("wherry-runc start one", "runtime-start"),
        ("wherry-runc list", "other"),
    ],
)
def test_a_command_line_tells_its_file(line: str, what: str) -> None:
    assert warm.what(line.split()) == what


@pytest.mark.parametrize("what", warm.EARLY)
def test_what_is_loaded_early_is_there(what: str) -> None:
    source = Path(wherry.__file__).parents[1]
    code = "import sys; sys.path.insert(0, sys.argv[1]); from wherry import warm; warm.install(sys.argv[2])"
    subprocess.run([sys.executable, "-I", "-S", "-B", "-c", code, source, what], check=True)
