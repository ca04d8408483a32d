"""Everything that a chain contributes, in its order, and a digest that every change is seen in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.unit.build.support import write

from wherry.build.contributions import Contributions, digest, gather
from wherry.build.layers import Layer, find_layers
from wherry.build.resolving import resolve
from wherry.core.errors import InvalidInput

CHAIN = {"a/top": "a/base", "a/base": ""}


def put(top: Path, files: dict[str, str]) -> Path:
    """Makes the layers, and files in them: ``top/kernel/x`` -> text."""
    write(top, CHAIN)
    for name, text in files.items():
        path = top / "a" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return top


def chain(top: Path) -> list[Layer]:
    return resolve(find_layers([top]), ["a/top"])


def of(top: Path, files: dict[str, str]) -> Contributions:
    return gather(chain(put(top, files)))


def test_every_kind_in_the_order_of_the_chain(tmp_path: Path) -> None:
    user = "app -1 app -1 * /home/app /bin/sh - An app"
    found = of(
        tmp_path,
        {
            "top/root_overlay/etc/motd": "top",
            "base/root_overlay/etc/motd": "base",
            "base/kernel/x": "CONFIG_A=y\n",
            "top/kernel_patches/1.patch": "",
            "base/uboot_patches/1.patch": "",
            "base/users/table": f"# who\n\n{user}\n",
            "top/cflags/opt": "-O2\n# why\n-g\n",
            "base/cflags/arch": "-march=x\n",
            "base/hooks/pre.sh": "",
            "top/hooks/pre.sh": "",
            "top/hooks/post.sh": "",
            "base/metadata/buildtarget": "first\n",
            "top/metadata/buildtarget": "last\n",
        },
    )
    assert [part.path.relative_to(tmp_path).parts[1] for part in found.overlays] == ["base", "top"]
    assert found.fragments["kernel"].text() == "# a/base: kernel/x\nCONFIG_A=y\n"
    assert {kind: [part.layer for part in parts] for kind, parts in found.patches.items()} == {
        "buildroot_patches": [],
        "kernel_patches": ["a/top"],
        "uboot_patches": ["a/base"],
    }
    assert [line.text for line in found.users] == [user]
    assert found.joined_cflags == "-march=x -O2 -g"
    assert {word: [part.layer for part in parts] for word, parts in found.hooks.items()} == {
        "before": ["a/base", "a/top"],
        "after": ["a/top"],
    }
    assert found.build_target == "last", "the later wins, here too"


def test_packages_come_and_go(tmp_path: Path) -> None:
    found = of(
        tmp_path,
        {
            "base/packages/list": "vim curl # fetches\n# nothing\nlibstdc++6 linux-image-arm64:arm64\n",
            "top/packages/list": "-vim\nnano\ncurl\n",
        },
    )
    assert [(line.text, line.layer) for line in found.packages] == [
        ("libstdc++6", "a/base"),
        ("linux-image-arm64:arm64", "a/base"),
        ("nano", "a/top"),
        ("curl", "a/top"),
    ]


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"top/packages/list": "good\n$(bad)\n"}, r"'\$\(bad\)'.*a/top: packages/list:2"),
        ({"top/users/table": "app -1 app\n"}, "a/top: users/table:1"),
        ({"top/buildroot_ext/external.mk": ""}, "buildroot_ext/Config.in"),
        ({"top/cflags/x": "\x00" * 2_000_000}, "more than"),
    ],
)
def test_what_is_none(tmp_path: Path, files: dict[str, str], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        of(tmp_path, files)


FILES = {"top/root_overlay/etc/motd": "hello", "base/kernel/x": "CONFIG_A=y\n", "base/hooks/pre.sh": "#!/bin/sh\n"}


def test_the_digest_is_the_same_elsewhere_and_another_after_any_change(tmp_path: Path) -> None:
    first = put(tmp_path / "one", FILES)
    (first / "a/top/root_overlay/link").symlink_to("etc/motd")
    second = tmp_path / "some/where/else"
    shutil.copytree(first, second, symlinks=True)
    known = digest(chain(first))
    assert digest(chain(second)) == known
    seen = {known}

    def changed() -> None:
        now = digest(chain(second))
        assert now not in seen
        seen.add(now)

    (second / "a/top/root_overlay/etc/motd").write_text("other")
    changed()
    (second / "a/base/hooks/pre.sh").chmod(0o755)
    changed()
    (second / "a/top/root_overlay/link").unlink()
    changed()
    (second / "a/top/root_overlay/link").symlink_to("etc")
    changed()
    (second / "a/top/root_overlay/empty").mkdir()
    changed()
    (second / "a/base/kernel/x").rename(second / "a/base/kernel/y")
    changed()
    (second / "a/base/README.md").write_text("no contribution")
    assert digest(chain(second)) in seen
