"""What results of steps and downloads say of a host."""

from __future__ import annotations

from pathlib import Path

from wherry.build.debian.lock import Lock, Package, Role
from wherry.build.legal.component import Component, Facts, write_facts
from wherry.build.legal.gathering import Unpacked, locked_debs, result_facts
from wherry.build.steps import Plan, Step


def test_results_of_steps(tmp_path: Path) -> None:
    def nothing(_place: object) -> None:
        pass

    steps = (
        Step(name="kernel-source", what="", work=nothing),
        Step(name="u-boot", what="", work=nothing, layer="soc/x"),
        Step(name="gone", what="", work=nothing),
        Step(name="fetch", what="", work=nothing, kept=False),
    )
    plan = Plan(steps=steps)
    keys = plan.keys()
    tree = tmp_path / "results" / keys["kernel-source"] / "output/tree"
    tree.mkdir(parents=True)
    (tree / "COPYING").write_text("the terms\n")
    boot = Component(kind="source", name="u-boot", version="2023", licence="GPL-2.0-or-later")
    write_facts(tmp_path / "results" / keys["u-boot"] / "output/legal", Facts(components=(boot,)))
    unpacked = [Unpacked(step="kernel-source", name="linux", version="6.1-1", origin="linux.dsc", sha256="a" * 64)]
    found, gone = result_facts(plan, tmp_path, unpacked, "amd64")
    assert gone == ["gone"]
    components = {item.name: item for facts in found for item in facts.components}
    linux = components["linux"]
    assert (linux.licence, linux.version) == ("GPL-2.0-only WITH Linux-syscall-note", "6.1-1")
    assert (linux.origin, linux.sha256, linux.texts) == ("linux.dsc", "a" * 64, ("source/linux/COPYING",))
    assert components["u-boot"].layer == "soc/x"


def test_packages_of_a_lock(tmp_path: Path) -> None:
    packages = tuple(
        Package(
            role=Role.ROOT, name=name, version="1", architecture="all", size=1, sha256=digit * 64, path=f"{name}.deb"
        )
        for name, digit in (("here", "a"), ("gone", "b"))
    )
    (tmp_path / "deb/sha256").mkdir(parents=True)
    (tmp_path / "deb/sha256" / ("a" * 64)).write_bytes(b"x")
    found, gone = locked_debs(Lock(suite="x", architecture="amd64", variant="extract", packages=packages), tmp_path)
    assert [(deb.name, deb.version, deb.origin) for deb in found] == [("here", "1", "here.deb")]
    assert gone == ["gone 1 is not in the downloads any more"]
