"""How far Buildroot is, what failed, and whose it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.build.buildroot.place import PlainPlace
from tests.unit.build.buildroot.support import build

from wherry.build.buildroot.builder import Build
from wherry.build.buildroot.making import Watch, blame, symbols_of
from wherry.build.place import Failed

LAYERS = {
    "pi/4/buildroot/a": "BR2_LINUX_KERNEL=y\nBR2_PACKAGE_VIM=y\nBR2_PACKAGE_NANO=y\n",
    "site/group/kiosk/buildroot/b": "# BR2_PACKAGE_NANO is not set\n",
}
BROKEN = """\
\x1b[7m>>> ncurses 6.5 Building\x1b[27m
FAILS
make: *** [package/pkg-generic.mk:273: /build/kept/output/build/ncurses-6.5/.stamp_built] Error 2
"""


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.last: tuple[int, int | None] = (0, None)

    def update(self, task: str, done: int, total: int | None, *, unit: str = "") -> None:
        """Keeps how far it is."""
        self.last = (done, total)


def failing(tmp_path: Path, said: str, **answers: str) -> tuple[Build, Failed]:
    made = build(tmp_path, LAYERS)
    place = PlainPlace(
        top=tmp_path / "place",
        answers={"all": said, **{name.replace("_", "-"): text for name, text in answers.items()}},
    )
    with pytest.raises(Failed) as caught:
        made.make.run(place, "all", asked=made.staged.defconfig.asked)
    return made, caught.value


def test_progress(tmp_path: Path) -> None:
    told = Told()
    watch = Watch(place=PlainPlace(top=tmp_path, progress=told), total=9)
    for line in (
        "\x1b[7m>>> host-m4 1.4.19 Extracting\x1b[27m",
        ">>> host-m4 1.4.19 Building",
        ">>> busybox 1.38.0 Building",
        ">>>   Finalizing target directory",
        ">>> layer skiff/core hooks/pre.sh",
        "host-tar",
        "gcc -o x",
    ):
        watch.line(line)
    assert told.last == (2, 9)
    assert watch.named == ["host-tar"]
    assert (watch.package, watch.action) == ("layer", "hooks/pre.sh")


def test_a_package_that_a_layer_asks_for(tmp_path: Path) -> None:
    _, error = failing(tmp_path, ">>> vim 9 Building\nFAILS\n")
    assert "package vim failed at: Building, which BR2_PACKAGE_VIM of pi/4: buildroot/a:2 wants" in str(error)
    assert error.tail[-1] == "FAILS"


def test_a_package_that_another_needs(tmp_path: Path) -> None:
    _, error = failing(tmp_path, BROKEN, ncurses_show_recursive_rdepends="readline vim")
    assert "package ncurses failed at: Building, which BR2_PACKAGE_VIM of pi/4: buildroot/a:2 wants through vim" in str(
        error
    )


def test_of_several_at_once_the_one_that_broke(tmp_path: Path) -> None:
    said = BROKEN.replace("FAILS", ">>> zlib 1.3 Building\nFAILS")
    _, error = failing(tmp_path, said)
    assert str(error).startswith("package ncurses failed")


def test_a_hook(tmp_path: Path) -> None:
    _, error = failing(tmp_path, ">>>   Executing post-build script\n>>> layer pi/4 hooks/pre.sh\nFAILS\n")
    assert str(error).startswith("layer pi/4: its hooks/pre.sh failed")


def test_a_program_that_this_machine_lacks(tmp_path: Path) -> None:
    _, error = failing(tmp_path, "You must install 'rsync' on your build machine\nFAILS\n")
    assert str(error).startswith("Buildroot wants rsync on this machine")


def test_anything_else_is_told_as_it_is(tmp_path: Path) -> None:
    _, error = failing(tmp_path, "make: *** No rule. FAILS\n")
    assert str(error).startswith("exit status 1")


def test_blame(tmp_path: Path) -> None:
    asked = build(tmp_path, LAYERS).staged.defconfig.asked
    for package, where in (("linux", "pi/4: buildroot/a:1"), ("vim", "pi/4: buildroot/a:2"), ("nano", ""), ("gcc", "")):
        found = blame(package, asked)
        assert (found.where if found else "") == where
    assert "BR2_PACKAGE_HOST_FOO_BAR" in symbols_of("host-foo-bar")
    assert "BR2_TARGET_ROOTFS_TAR" in symbols_of("rootfs-tar")
