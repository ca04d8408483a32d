"""The output folder that stays: emptied where packages would be built in another way, begun anew in any case."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from tests.unit.build.buildroot.place import PlainPlace
from tests.unit.build.buildroot.support import build

from wherry.build import kconfig
from wherry.build.buildroot import output, remembering, staging
from wherry.build.buildroot.bootfiles import fill_boot
from wherry.build.buildroot.builder import Build, without_headline
from wherry.build.buildroot.figures import owners, times
from wherry.build.buildroot.menuconfig import Edit, Terminal, edit, save
from wherry.core.errors import InvalidInput, NotFound, Unsupported

LAYERS = {"pi/4/kernel/a": "CONFIG_A=y\n", "pi/4/buildroot/a": "BR2_A=y\n"}


def begin(top: Path, files: dict[str, str], config: str = "BR2_A=y\n", *, incremental: bool = False) -> PlainPlace:
    """Begins a build in a folder that stays."""
    made = build(top, files)
    number = len(list(top.glob("layers-*")))
    layers, configured = top / f"layers-{number}", top / f"config-{number}"
    layers.mkdir()
    configured.mkdir()
    staging.put(made.staged, layers)
    (configured / "config").write_text(config)
    place = PlainPlace(top=top / "place", inputs={"layers": layers, "config": configured, "buildroot": top / "tree"})
    output.begin(place, tree=made.tree_digest, incremental=incremental)
    return place


def built(place: PlainPlace) -> Path:
    """Makes what a build leaves: a package, and a root that a hook has changed since; returns the folder."""
    folder = place.kept / "output"
    for name in ("build/vim-9", "wherry/target", "wherry/images", "target", "images", "extra_images"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "build/vim-9/.stamp_built").touch()
    (folder / "wherry/target/vim").write_text("of a package")
    (folder / "target/vim").write_text("changed by a hook")
    (folder / "target/left").write_text("by a hook")
    (folder / "extra_images/left").write_text("by a hook")
    return folder


def test_a_root_begins_as_packages_left_it(tmp_path: Path) -> None:
    folder = built(begin(tmp_path, LAYERS))
    begin(tmp_path, {**LAYERS, "pi/4/root_overlay/x": "new", "pi/4/hooks/pre.sh": "#!/bin/sh\n"})
    assert (folder / "build/vim-9/.stamp_built").exists(), "no package is built in another way"
    assert (folder / "target/vim").read_text() == "of a package"
    assert not (folder / "target/left").exists()
    assert not (folder / "extra_images").exists()
    assert (folder / "output/target/vim").exists(), "SkiffOS' layers know the folder by this name"
    assert not os.path.isabs(os.readlink(folder / "output"))


@pytest.mark.parametrize(
    ("files", "config"),
    [
        ({}, "BR2_B=y\n"),
        ({"pi/4/kernel_patches/1.patch": ""}, "BR2_A=y\n"),
        ({"pi/4/resources/toolchain/x": "", "pi/4/buildroot/b": 'BR2_T="SKIFF_CONFIG_ROOT/resources/toolchain"\n'}, ""),
    ],
)
def test_emptied_where_packages_would_be_built_otherwise(tmp_path: Path, files: dict[str, str], config: str) -> None:
    folder = built(begin(tmp_path, LAYERS))
    place = begin(tmp_path, {**LAYERS, **files}, config)
    assert not (folder / "build").exists()
    assert any("emptied" in line for line in place.said)


def test_a_file_that_the_configuration_names(tmp_path: Path) -> None:
    files = {**LAYERS, "pi/4/busybox/a": "", "pi/4/buildroot/a": 'BR2_A="SKIFF_CONFIG_ROOT/resources/a"\n'}
    folder = built(begin(tmp_path, {**files, "pi/4/resources/a": "1"}))
    begin(tmp_path, {**files, "pi/4/resources/a": "1", "pi/4/scripts/a": "of hooks"})
    assert (folder / "build").exists()
    begin(tmp_path, {**files, "pi/4/resources/a": "2"})
    assert not (folder / "build").exists()


def test_incremental_leaves_it_and_is_remembered(tmp_path: Path) -> None:
    folder = built(begin(tmp_path, LAYERS))
    begin(tmp_path, LAYERS, "BR2_B=y\n", incremental=True)
    assert (folder / "build/vim-9").exists()
    assert (folder / ".config").read_text() == "BR2_B=y\n"
    begin(tmp_path, LAYERS, "BR2_B=y\n")
    assert not (folder / "build").exists(), "what was mixed is not taken for what was built of one configuration"


def test_fragments_keep_their_times(tmp_path: Path) -> None:
    place = begin(tmp_path, LAYERS)
    copy = place.kept / "fragments/kernel.config"
    os.utime(copy, (1, 1))
    begin(tmp_path, {**LAYERS, "pi/4/root_overlay/x": ""})
    assert copy.stat().st_mtime == 1
    begin(tmp_path, {**LAYERS, "pi/4/kernel/b": "CONFIG_B=y\n"})
    assert copy.stat().st_mtime != 1
    assert "CONFIG_B=y" in copy.read_text()


def test_what_is_taken(tmp_path: Path) -> None:
    place = begin(tmp_path, LAYERS)
    made: Build = build(tmp_path, LAYERS)
    folder = built(place)
    (folder / "images/bzImage").write_text("kernel")
    (folder / "build/build-time.log").write_text("")
    (folder / "build/linux-6.1").mkdir()
    (folder / "build/linux-6.1/.config").write_text("# CONFIG_A is not set\n")
    (folder / "build/linux-6.1/.stamp_kconfig_fixup_done").touch()
    (folder / "build/linux-headers-6.1").mkdir()
    (folder / "build/linux-headers-6.1/.config").write_text("CONFIG_A=y\n")
    output.take(place, made.staged.defconfig.tools)
    assert sorted(path.name for path in place.output.iterdir()) == [
        "build-time.log",
        "config",
        "images",
        "kernel.config",
        "untaken.json",
    ]
    found = json.loads((place.output / "untaken.json").read_text())
    assert [(item["symbol"], item["layer"]) for item in found] == [("CONFIG_A", "pi/4")]
    assert any("did not take: CONFIG_A=y" in line for line in place.said)


def test_what_the_board_boots(tmp_path: Path) -> None:
    images = tmp_path / "images"
    for name in (
        *("Image", "bcm2711-rpi-4-b.dtb", "rootfs.tar", "rootfs.cpio", "rootfs.cpio.gz", "u-boot.bin"),
        *("rpi-firmware/start4.elf", "rpi-firmware/overlays/x.dtbo", "allwinner/sun50i.dtb"),
    ):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).write_text(name * (2 if name.endswith("cpio") else 1))
    config = kconfig.parse(
        'BR2_LINUX_KERNEL=y\nBR2_LINUX_KERNEL_IMAGE=y\nBR2_LINUX_KERNEL_INTREE_DTS_NAME="broadcom/bcm2711-rpi-4-b"\n'
    )
    fill_boot(images, tmp_path / "boot", config, initramfs=True)
    found = sorted(
        str(path.relative_to(tmp_path / "boot")) for path in (tmp_path / "boot").rglob("*") if path.is_file()
    )
    assert found == [
        "dtb/allwinner/sun50i.dtb",
        "dtb/broadcom/bcm2711-rpi-4-b.dtb",
        "firmware/rpi-firmware/overlays/x.dtbo",
        "firmware/rpi-firmware/start4.elf",
        "firmware/u-boot.bin",
        "initramfs",
        "kernel",
    ]
    assert (tmp_path / "boot/initramfs").read_text() == "rootfs.cpio.gz"
    (images / "Image").unlink()
    with pytest.raises(NotFound, match="no kernel Image"):
        fill_boot(images, tmp_path / "again", config, initramfs=False)


def test_no_initramfs(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(NotFound, match=r"no rootfs\.cpio"):
        fill_boot(tmp_path / "images", tmp_path / "boot", {}, initramfs=True)


def test_times_and_files(tmp_path: Path) -> None:
    log = tmp_path / "build-time.log"
    log.write_text(
        "1.5:start:extract             : vim\n2.0:end  :extract             : vim\n"
        "2.0:start:build: linux\n9.0:end:build: linux\n9.0:start:build: cut-off\n"
    )
    assert [(item.package, item.seconds) for item in times(log)] == [("linux", 7.0), ("vim", 0.5)]
    listing = tmp_path / "list"
    listing.write_text("busybox,./bin/vi\nvim,./bin/vim\nvim,./bin/vi\n")
    assert owners(listing) == {"bin/vi": "vim", "bin/vim": "vim"}
    for text in ("x\n", "a:start:b:c\n", "1:begin:b:c\n"):
        log.write_text(text)
        with pytest.raises(InvalidInput, match="not a line"):
            times(log)
    listing.write_text("vim /bin/vim\n")
    with pytest.raises(InvalidInput, match="not a line"):
        owners(listing)


def test_edits_come_back_as_a_fragment(tmp_path: Path) -> None:
    made = build(tmp_path, {"pi/4/buildroot/a": "BR2_A=y\n"})
    asked = made.staged.defconfig.asked

    def edited(before: str, after: str) -> Path | None:
        found = Edit(kind="buildroot", before=kconfig.parse(before), after=kconfig.parse(after), asked=asked)
        return save(tmp_path / "overrides", found)

    first = edited("BR2_A=y\n# BR2_B is not set\n", "# BR2_A is not set\nBR2_B=y\n")
    assert first == tmp_path / "overrides/buildroot/zz-menuconfig"
    assert kconfig.parse(first.read_text()) == {"BR2_A": None, "BR2_B": "y"}
    # another edit is laid over the first, which SkiffOS forgets
    edited("# BR2_A is not set\nBR2_B=y\n", "# BR2_A is not set\nBR2_B=y\nBR2_C=3\n")
    assert kconfig.parse(first.read_text()) == {"BR2_A": None, "BR2_B": "y", "BR2_C": "3"}
    # and what goes back to the layers' own word needs no line
    edited("# BR2_A is not set\n", "BR2_A=y\n")
    assert kconfig.parse(first.read_text()) == {"BR2_B": "y", "BR2_C": "3"}
    assert edited("BR2_A=y\n", "BR2_A=y\n") == first


def test_nothing_was_changed(tmp_path: Path) -> None:
    asked = build(tmp_path, {"pi/4/buildroot/a": "BR2_A=y\n"}).staged.defconfig.asked
    found = Edit(kind="buildroot", before={"BR2_A": "y"}, after={"BR2_A": "y"}, asked=asked)
    assert save(tmp_path / "overrides", found) is None
    assert not (tmp_path / "overrides").exists()


def test_the_head_of_a_configuration(tmp_path: Path) -> None:
    text = "#\n# Buildroot 2026.08-g123 Configuration\n#\n# BR2_A is not set\nBR2_B=y\n"
    assert without_headline(text) == "# BR2_A is not set\nBR2_B=y\n"


def test_menus_of_buildroot_and_of_the_kernel(tmp_path: Path) -> None:
    place = begin(tmp_path, LAYERS, "BR2_A=y\nBR2_LINUX_KERNEL=y\n")
    made = build(tmp_path, LAYERS)
    folder = place.kept / "output"
    called: list[Sequence[str]] = []

    def change(path: Path, text: str) -> Terminal:
        def terminal(args: Sequence[str], env: Mapping[str, str]) -> None:
            called.append(args)
            path.write_text(text)

        return terminal

    found = edit(made, place, "buildroot", change(folder / ".config", "BR2_A=y\nBR2_C=y\n"))
    assert found.changes() == {"BR2_C": "y"}
    tree = folder / "build/linux-6.1"
    tree.mkdir(parents=True)
    (tree / ".config").write_text("CONFIG_A=y\n# CONFIG_B is not set\n")
    place.answers["printvars"] = (
        "LINUX_DIR=/build/kept/output/build/linux-6.1\nBUSYBOX_DIR=/build/kept/output/build/b\n"
    )
    place.answers["/build/kept/output/build/linux-6.1/.stamp_kconfig_fixup_done"] = ""
    found = edit(made, place, "kernel", change(tree / ".config", "CONFIG_A=y\nCONFIG_B=m\n"))
    assert found.changes() == {"CONFIG_B": "m"}
    assert [args[-1] for args in called] == ["menuconfig", "linux-menuconfig"]
    assert (folder / ".config").read_text() == "BR2_A=y\nBR2_LINUX_KERNEL=y\n", "an edit counts once it is a fragment"
    with pytest.raises(NotFound, match="built without busybox"):
        edit(made, place, "busybox", change(tree / ".config", ""))
    with pytest.raises(Unsupported, match="no menuconfig of 'grub'"):
        edit(made, place, "grub", change(tree / ".config", ""))


def test_what_is_remembered(tmp_path: Path) -> None:
    kept, sources = tmp_path / "kept", tmp_path / "sources"
    made, target = tmp_path / "made", tmp_path / "target"
    for folder in (kept, sources / "vim", target):
        folder.mkdir(parents=True)
    made.write_text("made")
    assert not remembering.recall(kept, "one", target)
    assert not remembering.still_there(kept, sources)
    (sources / "vim/vim.tar").write_text("source")
    remembering.remember(kept, "one", [made])
    remembering.remember_files(kept, sources)
    assert not remembering.recall(kept, "another", target)
    assert remembering.recall(kept, "one", target)
    assert [path.name for path in target.iterdir()] == ["made"]
    (sources / "vim/new.tar").touch()
    assert remembering.still_there(kept, sources)
    (sources / "vim/vim.tar").write_text("cut")
    assert not remembering.still_there(kept, sources)
    (sources / "vim/vim.tar").unlink()
    assert not remembering.still_there(kept, sources)
