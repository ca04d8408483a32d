"""Options of the builder, and what a host asks of the distribution."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from wherry.build.boards import Board, Boot
from wherry.build.builder import Inputs
from wherry.build.contributions import gather
from wherry.build.debian.lock import Role
from wherry.build.debian.options import Modules, Options, Variant, options_of
from wherry.build.debian.wishes import kernel_of, wishes_of
from wherry.build.layers import find_layers
from wherry.core.errors import InvalidInput, Unsupported
from wherry.spec.architecture import architecture


def inputs(top: Path, layers: dict[str, dict[str, str]], **options: object) -> Inputs:
    for name, files in layers.items():
        for path, text in {"metadata/description": name, **files}.items():
            target = top / "layers" / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    (top / "layers").mkdir(parents=True, exist_ok=True)
    found = find_layers([top / "layers"])
    return Inputs(
        name="host",
        workspace=top,
        contributions=gather([found.get(name) for name in layers]),
        board=Board(),
        architecture=architecture("amd64"),
        options=options,
    )


def wishes(found: Inputs) -> list[tuple[str, str, str]]:
    return [(one.role.value, one.name, one.where) for one in wishes_of(found, options_of(found))]


def test_layers_then_the_workspace(tmp_path: Path) -> None:
    layers = {
        "a/one": {"resources/debian.yaml": "variant: extract\nmodules: boot\nfirmware: [u-boot-rpi]\n"},
        "a/two": {"resources/debian.yaml": "modules: none\n"},
    }
    assert options_of(inputs(tmp_path, layers, suite="trixie")) == Options(
        suite="trixie", variant=Variant.EXTRACT, modules=Modules.NONE, firmware=("u-boot-rpi",)
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("variant: all", "must be one of essential, minbase, extract"),
        ("varient: extract", "unknown key 'varient'"),
        ("suite: '../x'", "suite: not a name of one"),
        ("components: []", "components: there is none"),
        ("components: [Main]", "components: not a name of one: 'Main'"),
        ("lock: a/b", "lock: not a file's name"),
        ("kernel: 'a b'", "not a package's name: 'a b'"),
        ("firmware: [X]", "not a package's name: 'X'"),
        ("recommends: 1", "recommends: must be true or false"),
    ],
)
def test_bad_options_name_their_file(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        options_of(inputs(tmp_path, {"a/one": {"resources/debian.yaml": text + "\n"}}))
    assert said in str(caught.value)
    assert "a/one/resources/debian.yaml" in str(caught.value)


def test_bad_options_of_the_workspace(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"host\.yaml: debian"):
        options_of(inputs(tmp_path, {}, suite="No Suite"))


def test_a_kernel_comes_by_itself(tmp_path: Path) -> None:
    found = inputs(tmp_path, {"a/one": {"packages/x": "vim\n"}})
    assert wishes(found) == [
        ("root", "vim", "a/one: packages/x:1"),
        ("boot", "linux-image-amd64", "the architecture's usual kernel"),
        ("boot", "busybox-static", "the initramfs"),
    ]
    assert kernel_of(wishes_of(found, options_of(found))) == "linux-image-amd64"


def test_which_kernel_it_is(tmp_path: Path) -> None:
    layers = {"a/one": {"packages/x": "linux-image-rt-amd64\nlinux-image-cloud-amd64\n"}}
    board = Board(kernel="linux-image-board")
    found = inputs(tmp_path, layers)
    assert wishes(replace(found, board=board))[0][1:] == ("linux-image-cloud-amd64", "a/one: packages/x:2")
    assert wishes(replace(found, options={"kernel": "linux-image-mine"}))[0][1] == "linux-image-mine"
    assert wishes(inputs(tmp_path / "2", {}))[0][1] == "linux-image-amd64"
    assert wishes(replace(inputs(tmp_path / "3", {}), board=board))[0][1] == "linux-image-board"
    assert wishes(replace(found, options={"kernel": "none"})) == []
    assert wishes(replace(inputs(tmp_path / "4", {}), board=Board(kernel="none"))) == []


def test_a_boot_loader_for_uefi_and_firmware_for_others(tmp_path: Path) -> None:
    found = inputs(tmp_path, {}, kernel="none", firmware=["u-boot-rpi"])
    assert [name for _, name, _ in wishes(replace(found, board=Board(boot=Boot.UEFI)))] == [
        "u-boot-rpi",
        "systemd-boot-efi",
    ]
    assert {one.role for one in wishes_of(found, options_of(found))} == {Role.BOOT}


def test_only_packages_of_the_host(tmp_path: Path) -> None:
    found = inputs(tmp_path, {"a/one": {"packages/x": "\n# c\nlibc6:i386\n"}}, kernel="none")
    with pytest.raises(InvalidInput, match=r"only packages of amd64.*a/one: packages/x:3"):
        wishes(found)
    assert wishes(inputs(tmp_path / "2", {"a/one": {"packages/x": "libc6:amd64 vim:any\n"}}, kernel="none")) == [
        ("root", "libc6", "a/one: packages/x:1"),
        ("root", "vim", "a/one: packages/x:1"),
    ]
    with pytest.raises(InvalidInput, match="not a package's name: 'Vim'"):
        wishes(inputs(tmp_path / "3", {"a/one": {"packages/x": "Vim\n"}}))


def test_an_architecture_that_has_no_kernel(tmp_path: Path) -> None:
    unknown = replace(architecture("amd64"), name="other")
    with pytest.raises(Unsupported, match="no kernel of the distribution's for other"):
        wishes(replace(inputs(tmp_path, {}), architecture=unknown))
