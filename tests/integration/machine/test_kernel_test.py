"""``wherry kernel test``: a script in a fresh guest, and its result."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.machine.conftest import Command, needs_uml

from wherry.machine.kernels import Kernel

SCRIPT = '#!/bin/sh\necho "got $1 and $V"; echo bad >&2; grep -c overlay /proc/filesystems >&2; exit 5\n'


def script_of(folder: Path, text: str = SCRIPT) -> Path:
    path = folder / "check.sh"
    path.write_text(text)
    return path


@needs_uml
def test_its_result_is_the_scripts(wherry: Command, tmp_path: Path) -> None:
    done = wherry("kernel", "test", "--machine=uml", "-e", "V=x y", script_of(tmp_path), "one two")
    assert (done.returncode, done.stdout) == (5, "got one two and x y\n")
    assert done.stderr.startswith("bad\n")


@needs_uml
def test_in_a_folder(wherry: Command, tree: Path, tmp_path: Path) -> None:
    script = script_of(tmp_path, "echo no first line; touch /made; hostname\n")
    done = wherry("kernel", "test", "--machine=uml", "--root", tree, script)
    assert (done.returncode, done.stdout) == (0, "no first line\ntest\n")
    assert (tree / "made").exists()
    assert not (tree / "wherry").exists()


@needs_uml
def test_a_kernel_that_panics_is_an_error_with_its_console(wherry: Command, tmp_path: Path) -> None:
    done = wherry("kernel", "test", "--machine=uml", script_of(tmp_path, "echo c >/proc/sysrq-trigger; sleep 30\n"))
    assert done.returncode == 13
    assert "guest ended" in done.stderr


def test_bad_words(wherry: Command, tmp_path: Path) -> None:
    assert wherry("kernel", "test", "--machine=uml", tmp_path / "missing").returncode == 1
    assert wherry("kernel", "test", "-e", "V", script_of(tmp_path)).returncode == 2
    assert wherry("kernel", "test", "--kernel=nothing", script_of(tmp_path)).returncode == 3
    assert wherry("kernel", "rm", "nothing").returncode == 3
    assert wherry("kernel", "ls", "--json").returncode == 0


@pytest.mark.deep
def test_in_qemu(wherry: Command, tmp_path: Path, kernel: Kernel) -> None:
    done = wherry("kernel", "test", "-e", "V=v", script_of(tmp_path), "one")
    assert (done.returncode, done.stdout, done.stderr) == (5, "got one and v\n", "bad\n1\n")
