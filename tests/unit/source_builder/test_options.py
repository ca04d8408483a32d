"""What layers and workspace say of a build from source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.source_builder.support import SHA256, inputs, write

from wherry.build.source.options import Compression, options_of
from wherry.core.errors import InvalidInput


def test_what_is_usual(tmp_path: Path) -> None:
    write(tmp_path / "layers", {"a/b/kernel/x": ""})
    found = options_of(inputs(tmp_path))
    assert (found.kernel.package, found.kernel.base) == ("linux-source-6.1", "tinyconfig")
    assert (found.busybox.package, found.busybox.base) == ("busybox", "allnoconfig")
    assert (found.arch, found.libcap, found.compression) == ("", None, Compression.XZ)


def test_later_layers_and_the_workspace_win(tmp_path: Path) -> None:
    write(
        tmp_path / "layers",
        {
            "a/a/resources/source.yaml": "arch: um\nkernel: {base: defconfig, package: linux-source}\njobs: 1\n",
            "a/b/resources/source.yaml": "kernel: {base: allnoconfig}\nlibcap: true\n",
        },
    )
    found = options_of(inputs(tmp_path, options={"jobs": 3}))
    assert (found.arch, found.kernel.base, found.kernel.package, found.jobs) == ("um", "allnoconfig", "linux-source", 3)
    assert found.libcap is not None
    assert found.libcap.package == "libcap2"
    assert list(found.origins()) == ["busybox", "kernel", "libcap"]


@pytest.mark.parametrize(
    ("section", "what"),
    [
        ({"nonsense": 1}, "nonsense"),
        ({"arch": "arm"}, "arch: must be um"),
        ({"jobs": -1}, "jobs"),
        ({"jobs": 100000}, "jobs"),
        ({"suite": "../x"}, "suite"),
        ({"lock": "../x"}, "lock"),
        ({"compression": "rar"}, "compression"),
        ({"kernel": {"package": "Linux"}}, "kernel.package"),
        ({"kernel": {"base": "clean"}}, "kernel.base"),
        ({"kernel": {"base": "-f/etc/config"}}, "kernel.base"),
        ({"kernel": {"url": "x.tar"}}, "needs its sha256"),
        ({"kernel": {"url": "x.tar", "sha256": "zz"}}, ""),
        ({"kernel": {"sha256": SHA256}}, "without a url"),
        ({"kernel": {"url": "x.tar", "sha256": SHA256, "package": "linux"}}, "either"),
        ({"libcap": {"nonsense": 1}}, "nonsense"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, section: dict[str, Any], what: str) -> None:
    write(tmp_path / "layers", {"a/b/kernel/x": ""})
    with pytest.raises(InvalidInput) as raised:
        options_of(inputs(tmp_path, options=section))
    assert what in str(raised.value)


def test_a_layers_mistake_is_told_with_its_file(tmp_path: Path) -> None:
    write(tmp_path / "layers", {"a/b/resources/source.yaml": "arch: z80\n"})
    with pytest.raises(InvalidInput) as raised:
        options_of(inputs(tmp_path))
    assert raised.value.where is not None
    assert raised.value.where.endswith("a/b/resources/source.yaml")
