"""Roots out of packages that are only unpacked: the same in two runs, furnished, and clean of the machine."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fixtures.mirrors import index, inputs_of, line, make_mirror, make_package
from tests.fixtures.places import plain_place
from tests.fixtures.trees import listing

from wherry.build.builder import Inputs
from wherry.build.debian.builder import DebianBuilder
from wherry.build.debian.locking import update_lock
from wherry.build.executing import Execution, StepFailed


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return make_mirror(tmp_path / "mirror")


def built(inputs: Inputs, top: Path) -> Path:
    plan = DebianBuilder().plan(inputs)
    execution = Execution(cache=top / "cache", work=top / "work", epoch=inputs.epoch)
    return execution.take(plan, [plan.root])[plan.root].path / "root"


def test_a_root_in_the_sandbox_twice(tmp_path: Path, mirror: Path) -> None:
    inputs = inputs_of(tmp_path, "tool\n", line(f"file:{mirror}"))
    update_lock(inputs, plain_place(tmp_path / "place"))
    first, second = built(inputs, tmp_path / "first"), built(inputs, tmp_path / "second-one")
    assert listing(first) == listing(second)
    assert (first / "usr/bin/tool").read_text() == "tool"
    assert (first / "usr/lib/library.so").read_text() == "library"
    assert os.readlink(first / "lib") == "usr/lib"
    assert (first / "etc/passwd").read_text().startswith("root:x:0:0:root:/root:/bin/sh\n")
    assert stat.S_IMODE((first / "etc/shadow").stat().st_mode) == 0o640
    assert stat.S_IMODE((first / "tmp").stat().st_mode) == 0o1777
    assert (first / "etc").stat().st_mtime == inputs.epoch


def test_a_file_in_the_place_of_a_folder(tmp_path: Path, mirror: Path) -> None:
    make_package(mirror, "odd", files={"usr/share/library": "a file"})
    make_package(mirror, "zz", files={"usr/share/odd2": "x"})
    make_package(mirror, "library2", files={"usr/share/library/x": "x"})
    index(mirror)
    inputs = inputs_of(tmp_path, "library2 odd\n", line(f"file:{mirror}"))
    update_lock(inputs, plain_place(tmp_path / "place"))
    with pytest.raises(StepFailed, match="odd has a file where another package has a folder: /usr/share/library"):
        built(inputs, tmp_path)


def test_offline_from_what_is_here(tmp_path: Path, mirror: Path) -> None:
    inputs = inputs_of(tmp_path, "tool\n", line(f"file:{mirror}"))
    update_lock(inputs, plain_place(tmp_path / "place"))
    offline = replace(inputs, offline=True)
    with pytest.raises(StepFailed, match="2 packages are not here, and nothing may be fetched"):
        built(offline, tmp_path)
    root = built(inputs, tmp_path)
    changed = replace(offline, options={**offline.options, "documentation": True})
    assert listing(built(changed, tmp_path)) == listing(root)
