"""A host is built by any builder: its root committed, laid out and recorded; overlays, users and hooks count."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from wherry.build.builder import BuilderName, Inputs
from wherry.build.building import Built, build, store_of
from wherry.build.executing import Execution, StepFailed
from wherry.build.hosts import Host, load_host
from wherry.build.layers import find_layers
from wherry.build.provenance import METADATA_KEY, parse
from wherry.build.steps import Place, Plan, Step
from wherry.build.workspace import Workspace, new_workspace
from wherry.core.errors import Locked
from wherry.core.lock import file_lock
from wherry.core.proc import run
from wherry.spec.host_record import read_host_record
from wherry.store.tree.checkout import checkout


class SmallBuilder:
    """Makes a root of three files, and a kernel that is none."""

    name = BuilderName.BUILDROOT
    """The one that pins nothing itself."""

    def plan(self, inputs: Inputs) -> Plan:
        def root(place: Place) -> None:
            for name in ("etc", "dev", "usr"):
                (place.output / "root" / name).mkdir(parents=True)
            (place.output / "root/etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
            (place.output / "root/etc/shadow").write_text("root:*:1:0:99999:7:::\n")
            (place.output / "root/etc/group").write_text("root:x:0:\n")
            (place.output / "root/usr/words").write_text(" ".join(line.text for line in inputs.contributions.packages))

        def boot(place: Place) -> None:
            (place.output / "boot/dtb").mkdir(parents=True)
            (place.output / "boot/kernel").write_bytes(b"kernel")

        return Plan(
            steps=(
                Step(name="base", what="make a root", work=root, inputs={"packages": "x"}),
                Step(name="boot", what="find a kernel", work=boot),
            ),
            root="base",
            boot="boot",
        )


def make(tmp_path: Path, layers: dict[str, str]) -> Workspace:
    for name, text in layers.items():
        path = tmp_path / "layers" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if name.endswith(".sh"):
            path.chmod(0o755)
    return new_workspace(tmp_path / "kiosk", {"target": ("site/kiosk",), "layers_path": ("../layers",)})


def load(workspace: Workspace) -> Host:
    return load_host(workspace, find_layers, machine="x86_64", make_builder=lambda name: SmallBuilder())


def built(tmp_path: Path, workspace: Workspace) -> Built:
    return build(load(workspace), Execution(cache=tmp_path / "cache", work=workspace.work, epoch=7))


LAYERS = {
    "site/base/root_overlay/etc/motd": "base",
    "site/kiosk/metadata/dependencies": "site/base",
    "site/kiosk/root_overlay/etc/motd": "kiosk",
    "site/kiosk/users/t": "core -1 core -1 =secret /home/core /bin/sh - -\n",
    "site/kiosk/resources/docker/daemon.json.d/a.json": '{"a": 1}',
    "site/kiosk/hooks/pre.sh": """#!/bin/sh -eu
        cat $1/etc/motd >$1/etc/seen
        rm $1/usr/words
        echo "$SKIFF_CURRENT_CONF_NAME $SKIFF_CONFIG" >$1/etc/chain
        cat $WHERRY_DROPINS/docker/daemon.json >$1/etc/daemon.json
        test ! -e /etc/shadow
    """,
    "site/kiosk/apps/web/compose.yaml": "services: {}\n",
}


def test_a_root_has_what_the_layers_lay_over_it(tmp_path: Path) -> None:
    workspace = make(tmp_path, LAYERS)
    (workspace.path / "overrides/root_overlay/etc").mkdir(parents=True)
    (workspace.path / "overrides/root_overlay/etc/own").write_text("override")
    first = built(tmp_path, workspace)
    repo = store_of(load(workspace))
    commit = repo.resolve("host/kiosk")
    assert commit == first.record.commit
    out = tmp_path / "out"
    checkout(repo, commit, out)
    assert (out / "etc/motd").read_text() == "kiosk"
    assert (out / "etc/seen").read_text() == "kiosk"
    assert (out / "etc/own").read_text() == "override"
    assert (out / "etc/hostname").read_text() == "kiosk\n"
    assert (out / "etc/chain").read_text() == "site/kiosk site/base,site/kiosk,overrides/kiosk\n"
    assert json.loads((out / "etc/daemon.json").read_text()) == {"a": 1}
    assert (out / "usr/lib/wherry/apps/web/compose.yaml").exists()
    assert not (out / "usr/words").exists()
    assert "core:x:1000:1000::/home/core:/bin/sh" in (out / "etc/passwd").read_text()
    assert (out / "etc/shadow").read_text().splitlines()[1].startswith("core:$6$")
    assert os.listdir(out / "dev") == []
    assert (workspace.output / "boot/kernel").read_bytes() == b"kernel"
    record = read_host_record(workspace.path)
    assert record == first.record
    said = parse((workspace.output / "provenance.json").read_bytes())
    assert said["subject"] == [{"name": "host/kiosk", "digest": {"sha256": commit}}]
    assert said["predicate"]["buildDefinition"]["externalParameters"]["chain"][-1] == "overrides/kiosk"
    inside = parse(repo.load_commit(commit).metadata[METADATA_KEY])
    assert inside["subject"][0]["digest"]["sha256"] == repo.load_commit(commit).tree
    assert str(tmp_path) not in json.dumps([said, inside])
    assert record.boot.kernel == "output/boot/kernel"
    steps = json.loads((workspace.work / "steps.json").read_text())
    assert [step["name"] for step in steps] == ["base", "boot", "over", "tree"]
    # the same once more: nothing is taken again, and the commit stays
    again = built(tmp_path, workspace)
    assert all(result.cached for result in again.results.values())
    assert again.record == first.record


LAYOUT = """
images:
  root: {kind: erofs, from: root}
  disk:
    kind: disk
    partitions:
      boot: {order: 1, type: esp, filesystem: fat, size: 64MiB, content: [{from: boot, below: kernel, to: vmlinuz}]}
      root: {order: 2, type: root, content: [{from: "image:root"}]}
"""


def test_images_are_made_of_it_and_left_alone_while_they_are_the_same(tmp_path: Path) -> None:
    workspace = make(tmp_path, {**LAYERS, "site/kiosk/image/layout.yaml": LAYOUT})
    first = built(tmp_path, workspace)
    assert sorted(first.record.images) == ["disk", "root"]
    disk = workspace.path / first.record.images["disk"].path
    assert hashlib.sha256(disk.read_bytes()).hexdigest() == first.record.images["disk"].sha256
    table = json.loads(run(["sfdisk", "--json", str(disk)]).stdout)["partitiontable"]
    assert [part["name"] for part in table["partitions"]] == ["boot", "root"]
    with open(disk, "r+b") as file:
        file.write(b"x")  # as a machine that was booted from it
    built(tmp_path, workspace)
    assert disk.read_bytes()[:1] == b"x"
    (tmp_path / "layers/site/kiosk/root_overlay/etc/motd").write_text("new")
    second = built(tmp_path, workspace)
    assert disk.read_bytes()[:1] != b"x"
    assert second.record.images["disk"].sha256 != first.record.images["disk"].sha256
    assert sorted(path.name for path in disk.parent.iterdir()) == ["disk.img", "root.erofs"]


def test_a_hook_after_the_images_may_change_them_and_add_more(tmp_path: Path) -> None:
    hook = "#!/bin/sh -eu\necho more >$1/more.txt\nprintf y | dd of=$1/disk.img conv=notrunc bs=1 2>/dev/null\n"
    workspace = make(tmp_path, {**LAYERS, "site/kiosk/image/layout.yaml": LAYOUT, "site/kiosk/hooks/post.sh": hook})
    found = built(tmp_path, workspace)
    assert (workspace.output / "images/more.txt").read_text() == "more\n"
    assert (workspace.output / "images/disk.img").read_bytes()[:1] == b"y"
    assert found.record.images["more.txt"].kind == "file"


def test_the_same_layers_elsewhere_give_the_same_commit_and_images(tmp_path: Path) -> None:
    commits = []
    for name in ("here", "there/deeper"):
        top = tmp_path / name
        top.mkdir(parents=True)
        record = built(top, make(top, {**LAYERS, "site/kiosk/image/layout.yaml": LAYOUT})).record
        commits.append((record.commit, {key: image.sha256 for key, image in record.images.items()}))
    assert commits[0] == commits[1]


def test_a_changed_overlay_file_takes_no_builder_step_again(tmp_path: Path) -> None:
    workspace = make(tmp_path, LAYERS)
    first = built(tmp_path, workspace)
    (tmp_path / "layers/site/kiosk/root_overlay/etc/motd").write_text("new")
    second = built(tmp_path, workspace)
    taken = [name for name, result in second.results.items() if not result.cached]
    assert taken == ["over", "tree"]
    assert first.record.commit != second.record.commit


def test_a_failing_hook_names_its_layer_and_leaves_what_was_built(tmp_path: Path) -> None:
    workspace = make(tmp_path, LAYERS)
    first = built(tmp_path, workspace)
    hook = tmp_path / "layers/site/kiosk/hooks/pre.sh"
    hook.write_text("#!/bin/sh\necho broken >&2\nexit 9\n")
    with pytest.raises(StepFailed, match=r"layer site/kiosk.*exit status 9") as failed:
        built(tmp_path, workspace)
    assert failed.value.tail == ("broken",)
    assert read_host_record(workspace.path) == first.record


def test_two_builds_of_a_workspace_are_not_at_once(tmp_path: Path) -> None:
    workspace = make(tmp_path, LAYERS)
    workspace.work.mkdir()
    with file_lock(workspace.work / "lock"), pytest.raises(Locked, match="workspace kiosk"):
        built(tmp_path, workspace)
