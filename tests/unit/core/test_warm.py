"""What the commands that are started thousands of times load at once: nothing that takes as long as they do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import wherry
from wherry import warm

_SOURCE = Path(wherry.__file__).parents[1]
_DEAR = {"typing", "collections", "functools", "contextlib", "enum", "re", "dataclasses", "json", "pathlib", "ctypes"}


@pytest.mark.parametrize("what", sorted(warm.EARLY))
def test_nothing_dear_is_imported(what: str) -> None:
    names = ", ".join(warm.EARLY[what])
    code = f"import sys; sys.path.insert(0, {str(_SOURCE)!r}); import {names}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, check=True, text=True)
    assert not _DEAR & set(done.stdout.split())


def test_a_further_process_loads_nothing_that_makes_containers() -> None:
    making = ("wherry.runtime.create", "wherry.runtime.stage", "wherry.runtime.enter", "wherry.engine.rootfs")
    for what in ("exec", "runtime-exec"):
        names = ", ".join(warm.EARLY[what])
        code = f"import sys; sys.path.insert(0, {str(_SOURCE)!r}); import {names}; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, check=True, text=True)
        assert not set(making) & set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["wherry", "run", "--rm", "a", "true"], "run"),
        (["wherry", "--root", "/x", "exec", "a", "true"], "exec"),
        (["wherry", "runtime", "exec", "a", "true"], "runtime-exec"),
        (["/usr/bin/wherry-runc", "--root", "/x", "create", "a"], "runtime-create"),
        (["wherry", "ps"], "other"),
        (["wherry"], "other"),
    ],
)
def test_a_command_line_has_its_modules_in_one_file(words: list[str], expected: str) -> None:
    assert warm.what(words) == expected
