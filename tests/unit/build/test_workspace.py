"""Workspaces: what host.yaml may say, and how it is changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.build.builder import BuilderName
from wherry.build.workspace import (
    Workspace,
    change_settings,
    check_workspace_name,
    find_workspaces,
    new_workspace,
    open_workspace,
    the_workspace,
)
from wherry.core.errors import Conflict, InvalidInput, NotFound, UsageError


def workspace(tmp_path: Path, text: str) -> Workspace:
    (tmp_path / "host.yaml").write_text(text)
    return Workspace(path=tmp_path)


def test_a_new_workspace_says_what_it_was_made_with(tmp_path: Path) -> None:
    made = new_workspace(
        tmp_path / "my-device", {"target": ("virt/qemu", "host/base"), "builder": "", "architecture": ""}
    )
    assert made.name == "my-device"
    found = made.read()
    assert found.target == ("virt/qemu", "host/base")
    assert (found.builder, found.architecture) == (None, "")
    assert (tmp_path / "my-device/.gitignore").read_text() == "/.wherry/\n/output/\n"
    assert open_workspace(tmp_path / "my-device") == made


def test_words_with_commas_are_lists(tmp_path: Path) -> None:
    found = workspace(
        tmp_path, "target: virt/qemu, host/base\nbuilder: source\ncommand_line: quiet loglevel=3\n"
    ).read()
    assert found.target == ("virt/qemu", "host/base")
    assert found.builder is BuilderName.SOURCE
    assert found.command_line == ("quiet", "loglevel=3")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("target: [x]\n", "not a layer's name"),
        ("target: [a/b]\nbuilder: make\n", "must be one of debian, source, buildroot"),
        ("target: [a/b]\narchitecture: x86\n", "not an architecture"),
        ("taget: [a/b]\n", "unknown key 'taget'"),
        ("target: [a/b]\nepoch: -1\n", "epoch"),
        ("target: [a/b]\nepoch: yesterday\n", "epoch"),
        ("- a/b\n", "must be a mapping"),
        ("target: [a/b]\ntarget: [c/d]\n", "target"),
    ],
)
def test_what_is_wrong_is_told_with_the_file(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(InvalidInput) as error:
        workspace(tmp_path, text).read()
    assert what in str(error.value)
    assert "host.yaml" in str(error.value)


def test_settings_are_changed_where_they_stand_and_the_rest_stays(tmp_path: Path) -> None:
    made = workspace(tmp_path, "# mine\ntarget: [a/b]  \nepoch: 5 # why\nlicences:\n  deny: [X]\n")
    change_settings(made, {"target": ("c/d", "e/f"), "architecture": "arm64"})
    text = (tmp_path / "host.yaml").read_text()
    assert text == "# mine\ntarget: [c/d, e/f]\nepoch: 5 # why\nlicences:\n  deny: [X]\narchitecture: arm64\n"
    change_settings(made, {"architecture": ""})
    assert "architecture" not in (tmp_path / "host.yaml").read_text()


def test_a_value_over_several_lines_is_left_to_a_person(tmp_path: Path) -> None:
    made = workspace(tmp_path, "target:\n  - a/b\n")
    with pytest.raises(InvalidInput, match="several lines"):
        change_settings(made, {"target": ("c/d",)})
    assert made.read().target == ("a/b",)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/file").write_text("")
    with pytest.raises(Conflict):
        new_workspace(tmp_path / "x", {"target": ("a/b",)})


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "a/b", "x" * 64, "ä"])
def test_what_cannot_be_a_host_name(name: str) -> None:
    with pytest.raises(InvalidInput):
        check_workspace_name(name)


def test_the_one_that_is_meant(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="which workspace"):
        the_workspace(tmp_path)
    for name in ("one", "two"):
        new_workspace(tmp_path / name, {"target": ("a/b",)})
        if name == "one":
            assert the_workspace(tmp_path).name == "one"
    with pytest.raises(UsageError, match="one, two"):
        the_workspace(tmp_path)
    assert the_workspace(tmp_path / "two").name == "two"
    assert [each.name for each in find_workspaces(tmp_path)] == ["one", "two"]
    with pytest.raises(NotFound, match="no workspace"):
        open_workspace(tmp_path / "three")


def test_overrides_beside_workspaces_come_before_their_own(tmp_path: Path) -> None:
    made = new_workspace(tmp_path / "one", {"target": ("a/b",)})
    assert made.overrides() == []
    (tmp_path / "overrides/root_overlay").mkdir(parents=True)
    (tmp_path / "one/overrides/packages").mkdir(parents=True)
    assert [layer.name for layer in made.overrides()] == ["overrides", "overrides/one"]


def test_layers_are_looked_for_from_the_workspace_on(tmp_path: Path) -> None:
    made = new_workspace(tmp_path / "one", {"target": ("a/b",), "layers_path": ("../layers",)})
    with pytest.raises(NotFound, match="layers_path"):
        made.layers_paths(made.read())
    (tmp_path / "layers").mkdir()
    assert made.layers_paths(made.read()) == [tmp_path / "layers"]
