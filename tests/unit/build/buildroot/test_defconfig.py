"""What layers come to for Buildroot: read back as Buildroot would, each symbol once, and no path of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.build.buildroot.support import EXTERNAL, build

from wherry.build.buildroot.defconfig import check_architecture
from wherry.build.fragments import Problem, parse
from wherry.core.errors import InvalidInput, NotFound
from wherry.spec.architecture import architecture

FILES = {
    "skiff/core/buildroot/a": 'BR2_x86_64=y\nBR2_PACKAGE_VIM=y\nBR2_TARGET_GENERIC_ISSUE="one"\n',
    "pi/4/buildroot/a": 'BR2_aarch64=y\n# BR2_PACKAGE_VIM is not set\nBR2_X="SKIFF_CONFIG_ROOT/resources/x"\n',
    "skiff/core/kernel/a": "CONFIG_A=y\nCONFIG_B=m\n",
    "pi/4/kernel/a": "# CONFIG_A is not set\n",
    "pi/4/busybox/a": "CONFIG_ASH=y\n",
    "skiff/core/kernel_patches/1.patch": "",
    "pi/4/kernel_patches/1.patch": "",
    "pi/4/uboot_patches/1.patch": "",
    "skiff/core/buildroot_patches/vim/1.patch": "",
    "skiff/core/root_overlay/etc/motd": "core",
    "site/group/kiosk/root_overlay/etc/motd": "kiosk",
    "skiff/core/hooks/pre.sh": "#!/bin/sh\n",
    "pi/4/users/table": "app -1 app -1 * /home/app /bin/sh - An app\n",
    "skiff/core/cflags/a": "-O2\n",
    "pi/4/cflags/a": "-mcpu=cortex-a72\n",
    **{f"skiff/core/{name}": text for name, text in EXTERNAL.items()},
}
LAYERS = "/build/in/layers"


def settings(text: str) -> dict[str, str | None]:
    """Reads a defconfig back, as Buildroot does; each symbol may stand there once."""
    found: dict[str, str | None] = {}
    for item in parse(text):
        assert not isinstance(item, Problem), item
        _, symbol, value = item
        assert symbol not in found, f"{symbol} stands twice"
        found[symbol] = value
    return found


def test_everything_of_a_chain(tmp_path: Path) -> None:
    made = build(tmp_path, FILES).staged
    found = settings(made.texts["external/configs/wherry_defconfig"])
    assert found["BR2_PACKAGE_VIM"] is None, "the later layer wins"
    assert (found["BR2_x86_64"], found["BR2_aarch64"]) == ("y", "y")
    order = list(found)
    assert order.index("BR2_x86_64") < order.index("BR2_aarch64"), "of a choice the last one counts"
    assert found["BR2_X"] == f'"{LAYERS}/chain/pi/4/resources/x"'
    assert found["BR2_LINUX_KERNEL_PATCH"] == (
        f'"{LAYERS}/chain/skiff/core/kernel_patches {LAYERS}/chain/pi/4/kernel_patches"'
    )
    assert found["BR2_TARGET_UBOOT_PATCH"] == f'"{LAYERS}/chain/pi/4/uboot_patches"'
    assert found["BR2_GLOBAL_PATCH_DIR"] == f'"{LAYERS}/chain/skiff/core/buildroot_patches"'
    assert found["BR2_ROOTFS_OVERLAY"] == (
        f'"{LAYERS}/chain/skiff/core/root_overlay {LAYERS}/chain/site/group/kiosk/root_overlay"'
    )
    assert found["BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES"] == '"/build/kept/fragments/kernel.config"'
    assert found["BR2_PACKAGE_BUSYBOX_CONFIG_FRAGMENT_FILES"] == '"/build/kept/fragments/busybox.config"'
    assert "BR2_TARGET_UBOOT_CONFIG_FRAGMENT_FILES" not in found, "no layer says anything of U-Boot"
    assert found["BR2_ROOTFS_POST_BUILD_SCRIPT"] == f'"{LAYERS}/external/pre_build.sh"'
    assert "BR2_ROOTFS_POST_IMAGE_SCRIPT" not in found
    assert found["BR2_ROOTFS_USERS_TABLES"] == f'"{LAYERS}/external/users"'
    assert found["BR2_TARGET_OPTIMIZATION"] == '"-O2 -mcpu=cortex-a72"'
    assert (found["BR2_TARGET_ROOTFS_TAR"], found["BR2_REPRODUCIBLE"]) == ("y", "y")
    assert settings(made.texts["external/kernel.config"]) == {"CONFIG_B": "m", "CONFIG_A": None}
    assert settings(made.texts["external/busybox.config"]) == {"CONFIG_ASH": "y"}
    assert made.texts["external/users"] == "app -1 app -1 * /home/app /bin/sh - An app\n"
    assert made.texts["external/external.desc"] == "name: WHERRY\ndesc: skiff/core pi/4 site/group/kiosk\n"


def test_no_place_of_this_machine(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "some where"
    for top in (here, there):
        top.mkdir()
    ours, theirs = build(here, FILES), build(there, FILES)
    assert not [name for name, text in ours.staged.texts.items() if str(tmp_path) in text]
    assert ours.staged.texts == theirs.staged.texts
    assert ours.plan().keys() == theirs.plan().keys()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pi/4/kernel/a", "CONFIG_A=y\n"),
        ("pi/4/root_overlay/etc/x", "x"),
        ("pi/4/hooks/pre.sh", "#!/bin/sh\ntrue\n"),
        ("pi/4/resources/x", "x"),
        ("../tree/package/Makefile.in", "changed"),
        ("../tree/package/new.mk", ""),
    ],
)
def test_a_change_of_anything_is_noticed(tmp_path: Path, name: str, text: str) -> None:
    before = build(tmp_path, FILES).plan().keys()
    after_files = {**FILES, name: text}
    if name.startswith("../tree"):
        build(tmp_path, FILES)
        (tmp_path / "layers" / name).resolve().write_text(text)
        after_files = FILES
    after = build_again(tmp_path, after_files)
    assert before["build"] != after["build"]


def build_again(top: Path, files: dict[str, str]) -> dict[str, str]:
    kept = {path: path.read_bytes() for path in (top / "tree").rglob("*") if path.is_file()}
    made = build(top, files)  # writes the tree anew
    for path, data in kept.items():
        path.write_bytes(data)
    again = type(made).of(made.inputs)
    return again.plan().keys()


def test_what_gives_way_is_told(tmp_path: Path) -> None:
    made = build(
        tmp_path,
        {
            **FILES,
            "pi/4/buildroot/b": 'BR2_TARGET_OPTIMIZATION="-Os"\n# BR2_TARGET_ROOTFS_TAR is not set\n  BR2_Y=y\n',
        },
    ).staged.defconfig
    assert any(
        "pi/4: buildroot/b:1" in note and "cflags of skiff/core, pi/4" in note and "-Os" in note for note in made.notes
    )
    assert any("pi/4: buildroot/b:2" in note for note in made.notes)
    assert any("buildroot/b:3" in note and "passed over" in note for note in made.notes)
    assert "BR2_TARGET_OPTIMIZATION" not in made.asked.history


def test_the_layers_own_word_stays_where_nothing_takes_its_place(tmp_path: Path) -> None:
    made = build(tmp_path, {"pi/4/buildroot/a": 'BR2_TARGET_OPTIMIZATION="-Os"\nBR2_GLOBAL_PATCH_DIR="x"\n'})
    found = settings(made.staged.defconfig.text())
    assert (found["BR2_TARGET_OPTIMIZATION"], found["BR2_GLOBAL_PATCH_DIR"]) == ('"-Os"', '"x"')
    assert found["BR2_aarch64"] == "y", "no layer says which architecture"


def test_a_layer_may_say_no_to_a_default(tmp_path: Path) -> None:
    found = settings(build(tmp_path, {"pi/4/buildroot/a": "# BR2_REPRODUCIBLE is not set\n"}).staged.defconfig.text())
    assert found["BR2_REPRODUCIBLE"] is None


def test_skiffos_own_base_and_its_words(tmp_path: Path) -> None:
    base = tmp_path / "SkiffOS/configs-base/pre"
    for name, text in {
        "buildroot/version": 'BR2_TARGET_GENERIC_HOSTNAME="skiffos-REPLACEME_SKIFF_VERSION_COMMIT"\n',
        "buildroot/arch": "BR2_x86_64=y\n",
        "buildroot/post": 'BR2_ROOTFS_POST_SCRIPT_ARGS="REPLACEME_OTHER"\n',
        "hooks/pre.sh": "#!/bin/sh\n",
    }.items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(text)
    made = build(tmp_path, FILES, base=[str(base)], version="1.2")
    found = settings(made.staged.defconfig.text())
    assert found["BR2_TARGET_GENERIC_HOSTNAME"] == '"skiffos-1.2"'
    assert not [value for value in found.values() if value and "REPLACEME" in value]
    assert made.chain[0].name == "base/pre"
    script = made.staged.texts["external/pre_build.sh"]
    assert script.index("chain/base/pre/hooks/pre.sh") < script.index("chain/skiff/core/hooks/pre.sh")


def test_switches(tmp_path: Path) -> None:
    made = build(tmp_path, {}, ccache=False, check_hashes=True, initramfs=True, jobs=3, offline=True)
    found = settings(made.staged.defconfig.text())
    assert (found["BR2_CCACHE"], found["BR2_DOWNLOAD_FORCE_CHECK_HASHES"]) == (None, "y")
    assert found["BR2_TARGET_ROOTFS_CPIO"] == "y"
    words = made.make.args("all")
    assert {"BR2_JLEVEL=3", "BR2_PRIMARY_SITE_ONLY=y", "BR2_PRIMARY_SITE=file:///nonexistent"} <= set(words)
    assert not made.plan().step("fetch").network
    online = build(tmp_path, {})
    assert online.plan().step("fetch").network
    assert not [word for word in online.make.args() if "PRIMARY" in word]
    # how fast and from where is no part of what is made
    assert made.plan().keys()["buildroot"] == online.plan().keys()["buildroot"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"pi/4/cflags/a": '-DX="y"\n'}, "cannot be written"),
        ({f"pi/4/{name}": "name: a b\n" for name in EXTERNAL}, "not a name of an external tree"),
        ({f"pi/4/{name}": "" for name in EXTERNAL}, "not a name of an external tree"),
        (
            {f"{layer}/{name}": text for layer in ("pi/4", "skiff/core") for name, text in EXTERNAL.items()},
            "'SKIFF_CORE' is there twice",
        ),
        (
            {f"pi/4/{name}": text.replace("SKIFF_CORE", "WHERRY") for name, text in EXTERNAL.items()},
            "'WHERRY' is there twice",
        ),
        ({"pi/4/resources/x.json.d/a.json": "{"}, "not JSON"),
    ],
)
def test_layers_that_do_not_go(tmp_path: Path, files: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        build(tmp_path, files)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"path": ""}, InvalidInput, "which Buildroot"),
        ({"path": "none"}, NotFound, "no such folder"),
        ({"path": "/usr"}, NotFound, "no tree of Buildroot: it has no Makefile"),
        ({"pth": "x"}, InvalidInput, "pth"),
        ({"jobs": -1}, InvalidInput, "from 0 to"),
        ({"jobs": "many"}, InvalidInput, "jobs"),
        ({"target": "all; reboot"}, InvalidInput, "no target of make"),
        ({"ccache": 3}, InvalidInput, "true, false or a folder"),
        ({"version": '1"2'}, InvalidInput, "without"),
        ({"base": ["none"]}, NotFound, "no such folder"),
        ({"base": ["base one"]}, InvalidInput, "a space in it"),
    ],
)
def test_options_that_do_not_go(tmp_path: Path, options: dict[str, object], error: type[Exception], said: str) -> None:
    (tmp_path / "work/base one").mkdir(parents=True)
    with pytest.raises(error, match=said):
        build(tmp_path, {}, **options)  # type: ignore[arg-type]  # on purpose


def test_another_architecture() -> None:
    check_architecture(architecture("i386"), "i686")
    with pytest.raises(InvalidInput, match="for x86_64, and the host is to be arm64"):
        check_architecture(architecture("arm64"), "x86_64")
