"""What did not take is what the kernel's own script says of it: scripts/kconfig/merge_config.sh, on the kernel's tree.

WHERRY_LINUX names a folder with the kernel's source; it is not written to.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from tests.fixtures.place import plain_place

from wherry.build import kconfig, kconfig_tree
from wherry.build.fragments import merge
from wherry.build.kconfig import Why
from wherry.build.layers import find_layers
from wherry.build.resolving import resolve

LINUX = os.environ.get("WHERRY_LINUX", "")
LAYERS = Path(__file__).parents[3] / "layers"
_REQUESTED = re.compile(r"Requested value:\s+(?:(\w+)=|# (\w+) is not set)")
WISHES = """\
CONFIG_KVM=y
CONFIG_SCHED_MC=y
CONFIG_THERE_IS_NO_SUCH=y
# CONFIG_CRC32 is not set
CONFIG_BTRFS_FS=m
CONFIG_NR_CPUS=9999
CONFIG_LOCALVERSION="-ours"
CONFIG_DRM_I915=m
CONFIG_SLOB=y
CONFIG_SLAB=y
"""
pytestmark = [pytest.mark.deep, pytest.mark.skipif(not LINUX, reason="WHERRY_LINUX names no kernel's source")]


def test_what_did_not_take_is_what_the_kernels_own_script_says(tmp_path: Path) -> None:
    source, ours, theirs = Path(LINUX), tmp_path / "ours", tmp_path / "theirs"
    layer = tmp_path / "layers/a/wishes/kernel"
    layer.mkdir(parents=True)
    (layer / "10").write_text(WISHES)
    layers = find_layers([LAYERS, tmp_path / "layers"])
    asked = merge(resolve(layers, ["tiny/x86_64", "a/wishes"]), "kernel")
    for folder in (ours, theirs):
        folder.mkdir()
        make(source, folder, "tinyconfig")
    config = ours / ".config"
    config.write_text(kconfig.serialize(kconfig.merged_over(kconfig.read(config), asked)))
    make(source, ours, "olddefconfig")
    fragment = tmp_path / "fragment"
    fragment.write_text(asked.text())
    script = ["scripts/kconfig/merge_config.sh", "-O", str(theirs), str(theirs / ".config"), str(fragment)]
    said = subprocess.run(script, cwd=source, env=environment(), capture_output=True, text=True, check=True).stdout

    # The script completes by allnoconfig, so defaults differ; what was asked must come out the same.
    got, reference = kconfig.read(config), kconfig.read(theirs / ".config")
    told = {one or other for one, other in _REQUESTED.findall(said)}
    untaken = kconfig.compare(asked, got)
    assert {each.symbol for each in untaken if not kconfig.same(each.asked, reference.get(each.symbol))} <= told
    differing = {each.symbol for each in untaken}
    by_script = {each.symbol for each in kconfig.compare(asked, reference)}
    assert by_script <= told  # told also of "not set" that is not there, which is the same to everybody else
    assert "CONFIG_KVM" in differing & by_script
    explained = kconfig_tree.explained(
        plain_place(tmp_path), kconfig_tree.linux(source, arch="x86_64", version="6.1.0"), config, untaken
    )
    why = {each.symbol: each.reason for each in explained}
    assert why["CONFIG_THERE_IS_NO_SUCH"].why == Why.NO_SUCH_SYMBOL
    assert why["CONFIG_KVM"].text == "depends on VIRTUALIZATION=n"
    assert why["CONFIG_CRC32"].why == Why.SELECTED
    assert why["CONFIG_SLOB"].why == Why.CHOICE
    assert all(reason.why != Why.NOT_KNOWN for reason in why.values()), why


def environment() -> dict[str, str]:
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "ARCH": "x86_64", "HOME": "/root", "LC_ALL": "C"}


def make(source: Path, folder: Path, target: str) -> None:
    args = ["make", "-s", "-C", str(source), f"O={folder}", target]
    subprocess.run(args, env=environment(), capture_output=True, check=True)
