"""What is found of a real Debian tree is what dpkg says, and a host's lists are what their specifications say."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from license_expression import get_spdx_licensing
from tests.compat.image.test_sbom import check_documents
from tests.compat.store.conftest import debian
from tests.unit.image.sbom.parts import put

from wherry.build.legal.bill import app_items, boot_items, host_inventory
from wherry.build.legal.bundle import make_bundle
from wherry.build.legal.component import Component
from wherry.build.legal.licences import describe_tree
from wherry.build.legal.policy import check_policy, read_policy
from wherry.build.provenance import Material
from wherry.core.errors import NotFound
from wherry.core.proc import run
from wherry.image.sbom.cyclonedx import to_cyclonedx
from wherry.image.sbom.model import Role
from wherry.image.sbom.spdx import to_spdx
from wherry.image.sbom.tree import directory_tree
from wherry.spec.host_record import BootRecord, HostRecord, ImageRecord

__all__ = ["debian"]

A = "a" * 64
RECORD = HostRecord(
    format=1,
    name="kiosk",
    architecture="amd64",
    boot=BootRecord(kernel="output/boot/kernel", initramfs="output/boot/initramfs"),
    images={"disk": ImageRecord(path="output/images/disk.img", sha256="b" * 64)},
    commit=A,
)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for the owners in a Debian tree")
@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="needs dpkg-query")
def test_debian(debian: Path, tmp_path: Path) -> None:
    form = "-f=${db:Status-Status} ${Package} ${Version} ${source:Package} ${source:Version}\n"
    out = run(["dpkg-query", f"--admindir={debian}/var/lib/dpkg", "-W", form]).stdout.decode()
    expected = sorted(line.split()[1:] for line in out.splitlines() if line.startswith("installed "))
    described = describe_tree(directory_tree(debian), name="kiosk")
    facts = described.facts
    found = [item for item in facts.components if item.kind == "deb"]
    assert sorted([item.name, item.version, item.source, item.source_version] for item in found) == expected
    assert facts.warnings == ()
    licensing = get_spdx_licensing()
    for item in found:
        assert item.texts, item.name
        assert item.licence, item.name
        parsed = licensing.validate(item.licence)
        unknown = [name for name in parsed.invalid_symbols if not name.startswith("LicenseRef-")]
        assert unknown == [], (item.name, item.licence)
    by_name = {item.name: item for item in found}
    assert "GPL-3.0-or-later" in by_name["bash"].licence
    assert by_name["libc6"].key in by_name["bash"].depends
    assert not any(item.proprietary for item in found)
    bundle = make_bundle("kiosk", facts)
    manifest = json.loads(bundle.files["manifest.json"])
    for row in manifest["components"]:
        assert all(text in bundle.files for text in row["texts"]), row["name"]
        if row["kind"] == "deb":
            own = (debian / f"usr/share/doc/{row['name']}/copyright").read_bytes()
            assert own in [bundle.files[text] for text in row["texts"]], row["name"]
    denied = {item.component.name for item in check_policy(facts.components, read_policy({"deny": ["GPL-3.0*"]}))}
    assert {"bash", "coreutils", "tar", "sed"} <= denied
    assert "zlib1g" not in denied


def test_a_host(tmp_path: Path) -> None:
    put(tmp_path / "output", {"boot/kernel": b"k", "boot/initramfs": b"i", "boot/firmware/start4.elf": b"f"})
    status = "Package: tool\nVersion: 1-1\nArchitecture: amd64\nStatus: install ok installed\n"
    compose = "services:\n  web: {image: 'nginx:1.27'}\n  db:\n    image: registry.example/db@sha256:" + A + "\n"
    root: dict[str, bytes | str] = {
        "etc/os-release": "ID=debian\nVERSION_ID=12\n",
        "var/lib/dpkg/status": status,
        "usr/lib/wherry/apps/shop/compose.yaml": compose,
        "usr/lib/wherry/apps/broken/compose.yaml": "services: [",
    }
    tree = directory_tree(put(tmp_path / "root", root))
    described = describe_tree(tree, name="kiosk")
    apps, unread = app_items(tree)
    linux = Component(
        kind="source", name="linux", version="6.1", licence="GPL-2.0-only WITH Linux-syscall-note", sha256=A
    )
    blob = Component(kind="source", name="blob", version="1", proprietary="a licence of its maker")
    inventory = host_inventory(
        described.inventory,
        record=RECORD,
        epoch=1577836800,
        compiled=[linux, blob],
        layers=[Material(name="virt/qemu", sha256=A)],
        boot_files=boot_items(tmp_path, RECORD),
        apps=apps,
        warnings=unread,
    )
    assert [(item.name, item.role) for item in inventory.components] == [
        ("tool", Role.LIBRARY),
        ("blob", Role.LIBRARY),
        ("boot/firmware/start4.elf", Role.FIRMWARE),
        ("boot/initramfs", Role.FILE),
        ("boot/kernel", Role.OPERATING_SYSTEM),
        ("linux", Role.OPERATING_SYSTEM),
        ("virt/qemu", Role.DATA),
        ("db", Role.CONTAINER),
        ("nginx", Role.CONTAINER),
    ]
    assert inventory.digest == f"sha256:{A}"
    assert [item.where for item in inventory.warnings] == ["usr/lib/wherry/apps/broken/compose.yaml"]
    check_documents(inventory, tmp_path)
    document = json.loads(to_cyclonedx(inventory))
    assert document["metadata"]["component"]["type"] == "operating-system"
    by_name = {item["name"]: item for item in document["components"]}
    assert by_name["db"]["type"] == "container"
    assert by_name["db"]["purl"] == f"pkg:oci/db@sha256:{A}?repository_url=registry.example/db"
    assert by_name["linux"]["hashes"] == [{"alg": "SHA-256", "content": A}]
    packages = {item["name"]: item for item in json.loads(to_spdx(inventory))["packages"]}
    assert packages["kiosk"]["primaryPackagePurpose"] == "OPERATING-SYSTEM"


def test_an_image_of_a_host(tmp_path: Path) -> None:
    described = describe_tree(directory_tree(tmp_path), name="kiosk")
    inventory = host_inventory(described.inventory, record=RECORD, image="disk")
    assert (inventory.name, inventory.digest) == ("kiosk/disk", f"sha256:{'b' * 64}")
    with pytest.raises(NotFound, match="there are disk"):
        host_inventory(described.inventory, record=RECORD, image="sd")
    with pytest.raises(NotFound, match="build the host again"):
        boot_items(tmp_path, RECORD)
