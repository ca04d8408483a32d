"""The launcher script: finds its interpreter and its package, however it is called and wherever it lies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

import wherry

SCRIPT = Path(__file__).parents[3] / "bin/wherry"
PACKAGE = Path(wherry.__file__).parent


@pytest.fixture(params=["packages", "editable"])
def installed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The launcher as pip installs it, in a folder with a space, from a wheel or from the sources themselves."""
    home = tmp_path / "a place"
    packages = home / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    packages.mkdir(parents=True)
    (home / "pyvenv.cfg").write_text(f"home = {os.path.dirname(sys._base_executable)}\n")  # type: ignore[attr-defined]
    (packages / "others.pth").write_text(os.path.dirname(os.path.dirname(click.__file__)))
    (home / "bin").mkdir()
    (home / "bin/python3").symlink_to(sys.executable)
    shutil.copy(SCRIPT, home / "bin/wherry")
    if request.param == "packages":
        (packages / "wherry").symlink_to(PACKAGE)
    else:
        (packages / "_editable_impl_wherry.pth").write_text(str(PACKAGE.parent))
    return home / "bin/wherry"


def output(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, cwd=cwd, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_by_path_by_name_and_by_link(installed: Path, tmp_path: Path) -> None:
    expected = output(installed, "--version")
    assert expected.startswith("wherry ")
    assert output("wherry", "--version", env={"PATH": f"{installed.parent}:/usr/bin:/bin"}) == expected
    assert output("bin/wherry", "--version", cwd=installed.parents[1]) == expected
    (tmp_path / "w").symlink_to(installed)
    assert output(tmp_path / "w", "--version") == expected
    (tmp_path / "ostree").symlink_to(installed)
    assert output(tmp_path / "ostree", "--version").startswith("libostree:")


def test_the_working_directory_and_the_environment_are_not_trusted(installed: Path, tmp_path: Path) -> None:
    for name in ("os.py", "sys.py", "ctypes.py", "site.py"):
        (tmp_path / name).write_text("raise SystemExit(99)")
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "os.py")}
    assert output(installed, "--version", cwd=tmp_path, env=environment).startswith("wherry ")


def test_arguments_come_as_they_are(installed: Path) -> None:
    done = subprocess.run([str(installed), "no such", "*", ""], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no such" in done.stderr
