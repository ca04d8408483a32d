"""A host that its policy forbids is not made into images, and the build says who wants what is forbidden."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.host_build.test_building import SmallBuilder, make
from tests.integration.legal.test_debs import ISC

from wherry.build.builder import Inputs
from wherry.build.building import build, whole_plan
from wherry.build.executing import Execution, StepFailed
from wherry.build.hosts import load_host
from wherry.build.layers import find_layers
from wherry.build.legal.compiled import source_facts
from wherry.build.legal.component import write_facts
from wherry.build.legal.policy import Forbidden
from wherry.build.legal.step import LICENCES
from wherry.build.steps import Place, Plan
from wherry.build.workspace import Workspace
from wherry.core.errors import InvalidInput

STATUS = "Package: tool\nVersion: 1-1\nArchitecture: all\nStatus: install ok installed\n"


class PackagesBuilder(SmallBuilder):
    """Makes a root of one package, and a kernel with its licence."""

    def plan(self, inputs: Inputs) -> Plan:
        plan = super().plan(inputs)
        base, boot = plan.steps

        def root(place: Place) -> None:
            base.work(place)
            for name, text in (("var/lib/dpkg/status", STATUS), ("usr/share/doc/tool/copyright", ISC)):
                path = place.output / "root" / name
                path.parent.mkdir(parents=True)
                path.write_text(text)

        def kernel(place: Place) -> None:
            boot.work(place)
            source = place.scratch / "linux"
            source.mkdir()
            (source / "COPYING").write_text("SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note\n")
            write_facts(place.output / "legal", source_facts(source, name="vendor-linux", version="6.1"))

        return replace(plan, steps=(replace(base, work=root), replace(boot, work=kernel)))


def workspace(tmp_path: Path, policy: str) -> Workspace:
    made = make(tmp_path, {"site/kiosk/packages/own": "# ours\ntool\n"})
    with open(made.path / "host.yaml", "a") as file:
        file.write(policy)
    return made


def run(tmp_path: Path, made: Workspace) -> list[str]:
    host = load_host(made, find_layers, machine="x86_64", make_builder=lambda name: PackagesBuilder())
    built = build(host, Execution(cache=tmp_path / "cache", work=made.work, epoch=7))
    return [name for name, result in built.results.items() if not result.cached]


def test_a_build_that_is_forbidden(tmp_path: Path) -> None:
    made = workspace(tmp_path, "licences: {deny: [GPL-3.0*]}\n")
    with pytest.raises(StepFailed) as caught:
        run(tmp_path, made)
    assert caught.value.exit_code == 5
    assert isinstance(caught.value.__cause__, Forbidden)
    assert "tool 1-1: GPL-3.0-or-later in debian/*; wanted by site/kiosk: packages/own:2" in str(caught.value)
    assert not (made.path / "output/host.json").exists()
    assert "tool 1-1" in (made.work / "logs/licences.log").read_text()


def test_what_was_compiled_counts(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"vendor-linux 6\.1: GPL-2\.0-only WITH Linux-syscall-note"):
        run(tmp_path, workspace(tmp_path, "licences: {deny: [GPL-2.0-only]}\n"))


def test_a_build_that_is_allowed(tmp_path: Path) -> None:
    made = workspace(tmp_path, "licences: {deny: [AGPL-*]}\n")
    assert LICENCES in run(tmp_path, made)
    assert LICENCES not in run(tmp_path, made)  # kept, like any other result
    text = (made.path / "host.yaml").read_text()
    (made.path / "host.yaml").write_text(text.replace("AGPL-*", "SSPL-*"))
    assert LICENCES in run(tmp_path, made)
    (made.path / "host.yaml").write_text(text.replace("AGPL-*", "ISC"))
    with pytest.raises(StepFailed):
        run(tmp_path, made)


def test_no_policy_no_step_and_a_wrong_one_is_told_before_anything_is_done(tmp_path: Path) -> None:
    made = workspace(tmp_path, "")
    host = load_host(made, find_layers, machine="x86_64", make_builder=lambda name: PackagesBuilder())
    assert LICENCES not in [step.name for step in whole_plan(host)[0].steps]
    with open(made.path / "host.yaml", "a") as file:
        file.write("licences: {denny: [MIT]}\n")
    host = load_host(made, find_layers, machine="x86_64", make_builder=lambda name: PackagesBuilder())
    with pytest.raises(InvalidInput, match="unknown key 'denny'"):
        whole_plan(host)
