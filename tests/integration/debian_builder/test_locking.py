"""Locks made by apt from a mirror of a few packages, and builds that they fit or do not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fixtures.mirrors import index, inputs_of, line, make_mirror, make_package
from tests.fixtures.places import plain_place

from wherry.build.debian import lock
from wherry.build.debian.builder import DebianBuilder
from wherry.build.debian.locking import has_lock, update_lock
from wherry.core.errors import Conflict, InvalidInput, NetworkError, NotFound


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return make_mirror(tmp_path / "mirror")


def test_a_list_and_what_it_needs(tmp_path: Path, mirror: Path) -> None:
    inputs = inputs_of(tmp_path, "tool\n", line(f"file:{mirror}"))
    assert not has_lock(inputs)
    changes = update_lock(inputs, plain_place(tmp_path / "place"))
    assert changes.new
    assert [(one.role, one.name, one.version) for one in changes.added] == [
        ("root", "library", "1"),
        ("root", "tool", "1:2.0"),
    ]
    text = changes.path.read_text()
    assert "wants root tool\n" in text
    assert "mirror" not in text.replace("# ", "")
    assert str(tmp_path) not in text
    tool = next(one for one in changes.added if one.name == "tool")
    assert tool.path == "tool_1:2.0_amd64.deb"
    assert tool.size == (mirror / tool.path).stat().st_size


def test_nothing_new_leaves_the_file_alone(tmp_path: Path, mirror: Path) -> None:
    inputs = inputs_of(tmp_path, "tool\n", line(f"file:{mirror}"))
    update_lock(inputs, plain_place(tmp_path / "place"))
    path = inputs.workspace / "debian.lock"
    before = path.stat()
    assert not update_lock(inputs, plain_place(tmp_path / "place"))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_ino == before.st_ino


def test_a_newer_version_is_a_change(tmp_path: Path, mirror: Path) -> None:
    inputs = inputs_of(tmp_path, "tool\n", line(f"file:{mirror}"))
    update_lock(inputs, plain_place(tmp_path / "place"))
    make_package(mirror / "..", "library", "2").rename(mirror / "library_2_amd64.deb")
    index(mirror)
    changes = update_lock(inputs, plain_place(tmp_path / "place"))
    assert [(old.version, new.version) for old, new in changes.changed] == [("1", "2")]
    assert (changes.added, changes.removed) == ((), ())


def test_unknown_names_are_told_with_who_wants_them(tmp_path: Path, mirror: Path) -> None:
    inputs = inputs_of(tmp_path, "# mine\ntool\nnosuch\nalso-none\n", line(f"file:{mirror}"))
    with pytest.raises(InvalidInput) as caught:
        update_lock(inputs, plain_place(tmp_path / "place"))
    assert caught.value.what == "no package nosuch, also-none for amd64"
    assert caught.value.where == "my/layer: packages/list:3; my/layer: packages/list:4"
    assert not has_lock(inputs)


def test_needs_that_cannot_be_met_are_told_in_apts_words(tmp_path: Path, mirror: Path) -> None:
    inputs = inputs_of(tmp_path, "tool\nbroken\n", line(f"file:{mirror}"))
    with pytest.raises(InvalidInput) as caught:
        update_lock(inputs, plain_place(tmp_path / "place"))
    assert "broken : Depends: nowhere (>= 3) but it is not installable" in caught.value.what
    assert caught.value.where == "my/layer: packages/list:2"
    assert len(str(caught.value)) < 300


def test_a_mirror_that_is_down(tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path, "tool\n", line("http://127.0.0.1:9"))
    with pytest.raises(NetworkError, match=r"cannot fetch the lists of packages: .*127\.0\.0\.1"):
        update_lock(inputs, plain_place(tmp_path / "place"))


def test_an_index_that_nobody_signed(tmp_path: Path, mirror: Path) -> None:
    inputs = inputs_of(tmp_path, "tool\n", f"deb file:{mirror} ./")
    with pytest.raises(NetworkError, match=r"not signed|does not have a Release file"):
        update_lock(inputs, plain_place(tmp_path / "place"))


def test_offline(tmp_path: Path, mirror: Path) -> None:
    from dataclasses import replace

    inputs = replace(inputs_of(tmp_path, "tool\n", line(f"file:{mirror}")), offline=True)
    with pytest.raises(Conflict, match="offline"):
        update_lock(inputs, plain_place(tmp_path / "place"))


def test_a_build_wants_a_lock_that_fits(tmp_path: Path, mirror: Path) -> None:
    inputs = inputs_of(tmp_path, "tool\n", line(f"file:{mirror}"))
    with pytest.raises(NotFound, match="wherry host lock"):
        DebianBuilder().plan(inputs)
    update_lock(inputs, plain_place(tmp_path / "place"))
    plan = DebianBuilder().plan(inputs)
    assert [step.name for step in plan.steps] == ["fetch", "base"]
    assert (plan.root, plan.boot) == ("base", "")
    other = inputs_of(tmp_path, "tool\ndata\n", line(f"file:{mirror}"))
    with pytest.raises(Conflict, match=r"another list of packages: new: data.*wherry host lock"):
        DebianBuilder().plan(other)
    changes = update_lock(other, plain_place(tmp_path / "place"))
    assert [one.name for one in changes.added] == ["data"]
    assert DebianBuilder().plan(other).keys() != plan.keys()


def test_a_damaged_lock_is_told_by_a_build_and_made_anew(tmp_path: Path, mirror: Path) -> None:
    inputs = inputs_of(tmp_path, "tool\n", line(f"file:{mirror}"))
    path = inputs.workspace / "debian.lock"
    path.write_text("format 1\nnonsense\n")
    with pytest.raises(InvalidInput, match=r"debian\.lock:2"):
        DebianBuilder().plan(inputs)
    assert update_lock(inputs, plain_place(tmp_path / "place")).new
    assert [one.name for one in lock.read(path).packages] == ["library", "tool"]


def test_where_the_packages_come_from_is_in_no_key(tmp_path: Path, mirror: Path) -> None:
    inputs = inputs_of(tmp_path, "tool\n", line(f"file:{mirror}"))
    update_lock(inputs, plain_place(tmp_path / "place"))
    elsewhere = inputs_of(tmp_path, "tool\n", line("http://127.0.0.1:9"))
    assert DebianBuilder().plan(inputs).keys() == DebianBuilder().plan(elsewhere).keys()
