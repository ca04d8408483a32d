"""SkiffOS' boards through the real Buildroot's defconfig, where somebody has brought both trees.

``WHERRY_SKIFFOS`` and ``WHERRY_BUILDROOT`` are the folders of checkouts. A few boards here, every one in the deep run;
`survey.py` as a program prints the whole table.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.compat.buildroot_builder.survey import Surveyed, boards, survey

from wherry.build.layers import find_layers

SOME = ("virt/qemu", "pi/4", "browser/v86min")
RUN = pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes want root")


def folder_of(name: str) -> Path:
    """Returns a checkout that the environment names."""
    folder = os.environ.get(name, "")
    if not folder:
        pytest.skip(f"{name} names no checkout")
    return Path(folder)


@pytest.fixture
def skiffos() -> Path:
    return folder_of("WHERRY_SKIFFOS")


@pytest.fixture
def buildroot() -> Path:
    return folder_of("WHERRY_BUILDROOT")


def check(found: Surveyed) -> None:
    """Checks what came of a board: it passes, what Wherry needs took, the rest has a place and a reason."""
    assert not found.error, found.board
    for symbol in (
        "BR2_TARGET_ROOTFS_TAR",
        "BR2_ROOTFS_OVERLAY",
        "BR2_GLOBAL_PATCH_DIR",
        "BR2_ROOTFS_POST_BUILD_SCRIPT",
    ):
        assert found.config.get(symbol) == found.expected[symbol], (found.board, symbol)
    # an architecture that only SkiffOS' fork of Buildroot has takes much with it
    foreign = any(item["symbol"] == "BR2_wasm32" and item["why"] == "no-such-symbol" for item in found.untaken)
    assert len(found.untaken) < found.asked / (2 if foreign else 4), found.board
    for item in found.untaken:
        assert item["layer"], (found.board, item)
        assert item["reason"], (found.board, item)
    known = [item for item in found.untaken if item["why"] != "not-known"]
    assert len(known) >= len(found.untaken) - 2, "reasons come from Buildroot's own Kconfig files"
    # names that only SkiffOS' fork of Buildroot has
    missing = {item["symbol"] for item in found.untaken if item["why"] == "no-such-symbol"}
    assert "BR2_SKIFFOS_BACKUP_SITE" in missing, found.board


@RUN
@pytest.mark.timeout(600)
def test_some_boards(skiffos: Path, buildroot: Path, tmp_path: Path) -> None:
    every = list(survey(skiffos, buildroot, tmp_path, SOME))
    assert [found.architecture for found in every] == ["amd64", "arm64", "i386"]
    for found in every:
        check(found)


@RUN
@pytest.mark.deep
@pytest.mark.timeout(7200)
def test_every_board(skiffos: Path, buildroot: Path, tmp_path: Path) -> None:
    names = boards(find_layers([skiffos / "configs"]))
    assert len(names) >= 70
    for found in survey(skiffos, buildroot, tmp_path, names):
        check(found)


@RUN
@pytest.mark.skipif(shutil.which("jq") is None, reason="no jq")
def test_skiffos_own_hook_merges_drop_ins(skiffos: Path, tmp_path: Path) -> None:
    """The hook of apps/docker, as it is: alone its first layer wins; with what it is given here the last one does."""
    from tests.unit.build.buildroot.support import tree

    from wherry.build.boards import Board
    from wherry.build.builder import Inputs
    from wherry.build.buildroot import staging
    from wherry.build.buildroot.builder import Build
    from wherry.build.buildroot.places import Places
    from wherry.build.contributions import gather
    from wherry.build.layers import Layer
    from wherry.build.resolving import resolve
    from wherry.spec.architecture import architecture

    chain = resolve(find_layers([skiffos / "configs"]), ["apps/docker"])
    for name in ("a/first", "a/last"):
        place = tmp_path / name / "resources/docker/daemon.json.d"
        place.mkdir(parents=True)
        (place / "x.json").write_text(f'{{"storage-driver": "{name}"}}')
        chain.append(Layer(name=name, path=tmp_path / name))
    (tmp_path / "work").mkdir()
    inputs = Inputs(
        name="w",
        workspace=tmp_path / "work",
        contributions=gather(chain),
        board=Board(),
        architecture=architecture("amd64"),
        options={"path": str(tree(tmp_path / "tree"))},
    )
    made = Build.of(inputs, Places(top=tmp_path / "build"))
    made.places.layers.mkdir(parents=True)
    staging.put(made.staged, made.places.layers)
    made.places.output.mkdir(parents=True)
    done = subprocess.run(
        [str(made.places.external / "pre_build.sh")],
        env={"PATH": os.environ["PATH"], "SOURCE_DATE_EPOCH": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"storage-driver": "a/last"' in (made.places.output / "target/etc/docker/daemon.json").read_text()
