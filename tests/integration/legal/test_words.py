"""``wherry host legal-info``, ``sbom`` and ``graph``, as a person types them, on a host of two packages."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard
from tests.integration.host_build.test_words import wherry
from tests.integration.legal.test_debs import ISC, deb
from tests.unit.image.sbom.parts import put

from wherry.build.debian.lock import Lock, Package, Role, serialize
from wherry.core.jsonio import pretty
from wherry.spec.codec import encode
from wherry.spec.host_record import BootRecord, HostRecord, ImageRecord
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")

POLICY = "licences:\n  deny: [GPL-3.0*]\n"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A workspace as a build leaves it: a root without documentation, its packages in the downloads."""
    debs = [
        deb(tmp_path, "tool", {"usr/share/doc/tool/copyright": ISC, "usr/bin/tool": "x" * 1000}, Depends="blob"),
        deb(tmp_path, "blob", {"usr/share/doc/blob/copyright": "Mine.\n"}, Section="non-free-firmware/kernel"),
    ]
    fields = [run_field(one.path) for one in debs]
    root = put(tmp_path / "tree", {
        "etc/os-release": "ID=debian\nVERSION_ID=12\n",
        "var/lib/dpkg/status": "\n".join(f"{text}Status: install ok installed\n" for text in fields),
        "var/lib/dpkg/info/tool.list": "/.\n/bin/tool\n",
        "usr/bin/tool": "x" * 1000,
        "usr/lib/modules/6/a.ko": "m" * 3000,
    })  # fmt: skip
    top = put(tmp_path / "kiosk", {
        "host.yaml": "target: [site/kiosk]\nlayers_path: [../layers]\narchitecture: amd64\nbuilder: debian\n" + POLICY,
        "output/boot/kernel": "k",
        ".wherry/steps.json": '[{"name": "base", "what": "install packages", "key": "ab", "layer": "", "seconds": 2.5,'
        ' "started_s": 0.5, "cached": false, "needs": [], "size_bytes": 1}]',
    })  # fmt: skip
    put(tmp_path / "layers/site/kiosk", {"packages/own": "# ours\ntool\n", "root_overlay/etc/motd": "hello\n"})
    commit = Repository.init(top / ".wherry/store", Mode.BARE_USER).commit(root, timestamp_s=0)
    packages = []
    for one in debs:
        data = one.path.read_bytes()
        put(tmp_path / "cache", {f"downloads/deb/sha256/{one.sha256}": data})
        packages.append(
            Package(role=Role.ROOT, name=one.name, version="1.0-1", architecture="all", size=len(data),
                    sha256=one.sha256, path=one.origin)
        )  # fmt: skip
    lock = Lock(suite="bookworm", architecture="amd64", variant="essential", packages=tuple(packages))
    (top / "debian.lock").write_bytes(serialize(lock))
    record = HostRecord(
        format=1, name="kiosk", architecture="amd64", builder="debian", commit=commit,
        boot=BootRecord(kernel="output/boot/kernel"),
        images={"disk": ImageRecord(path="output/images/disk.img", sha256="b" * 64)},
    )  # fmt: skip
    (top / "output/host.json").write_text(pretty(encode(record)))
    return top


def run_field(path: Path) -> str:
    return subprocess.run(["dpkg-deb", "-f", str(path)], capture_output=True, text=True, check=True).stdout


def host_command(top: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    cache = ("--cache", str(top.parent / "cache")) if words[0] != "graph" else ()
    return wherry(top.parent, "host", *words, *cache, "kiosk", check=check)


def test_the_bundle(host: Path) -> None:
    done = host_command(host, "legal-info")
    assert "not free: blob 1.0-1 (in Debian's non-free-firmware)" in done.stdout
    data = (host / "output/legal-info.tar.zst").read_bytes()
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        assert "legal-info/licences/deb/tool/copyright" in archive.getnames()
    host_command(host, "legal-info")
    assert (host / "output/legal-info.tar.zst").read_bytes() == data
    host_command(host, "legal-info", "-o", str(host.parent / "out"))
    manifest = json.loads((host.parent / "out/manifest.json").read_text())
    assert [row["name"] for row in manifest["components"]] == ["blob", "tool"]
    again = host_command(host, "legal-info", "-o", str(host.parent / "out"), check=False)
    assert (again.returncode, "something already" in again.stderr) == (4, True)


def test_the_policy(host: Path) -> None:
    done = host_command(host, "legal-info", "--check", check=False)
    assert done.returncode == 5
    assert "tool 1.0-1: GPL-3.0-or-later in debian/*; wanted by site/kiosk: packages/own:2" in done.stderr
    assert not (host / "output/legal-info.tar.zst").exists()
    text = (host / "host.yaml").read_text()
    exception = "  exceptions:\n    - {package: tool, reason: only its packaging}\n"
    (host / "host.yaml").write_text(f"{text}{exception}")
    assert "nothing forbidden" in host_command(host, "legal-info", "--check").stderr
    (host / "host.yaml").write_text(f"{text}{exception}  proprietary: deny\n")
    done = host_command(host, "legal-info", "--check", check=False)
    assert (done.returncode, "blob 1.0-1: not free" in done.stderr) == (5, True)
    assert "through tool > blob" in done.stderr
    (host / "host.yaml").write_text(f"{text}  unknown: perhaps\n")
    done = host_command(host, "legal-info", "--check", check=False)
    assert (done.returncode, "unknown: must be one of" in done.stderr) == (5, True)
    (host / "host.yaml").write_text(text.replace(POLICY, ""))
    assert host_command(host, "legal-info", "--check", check=False).returncode == 2


def test_the_list(host: Path) -> None:
    document = json.loads(host_command(host, "sbom").stdout)
    names = {item["name"] for item in document["components"]}
    assert {"tool", "blob", "site/kiosk", "boot/kernel"} <= names
    assert document["metadata"]["component"]["name"] == "kiosk"
    done = host_command(host, "sbom", "--format", "spdx", "--image", "disk")
    assert json.loads(done.stdout)["name"] == "kiosk/disk"
    done = host_command(host, "sbom", "--image", "sd", check=False)
    assert (done.returncode, "there are disk" in done.stderr) == (3, True)


def test_the_graphs(host: Path) -> None:
    assert "base  2.5 s  ████" in host_command(host, "graph").stdout
    rows = json.loads(host_command(host, "graph", "--kind", "size", "--json").stdout)
    by_name = {row["name"]: row["size_bytes"] for row in rows}
    assert by_name["tool"] == 1000
    assert by_name["/usr/lib/modules (no package)"] == 3000
    rows = json.loads(host_command(host, "graph", "--kind", "layers", "--json").stdout)
    by_name = {row["name"]: row["size_bytes"] for row in rows}
    assert by_name["site/kiosk"] == 1000 + len("hello\n")
    for name, kind in (("a.svg", "size"), ("b.html", "layers"), ("c.dot", "time")):
        host_command(host, "graph", "--kind", kind, "-o", str(host / name))
        assert (host / name).stat().st_size > 100
    done = host_command(host, "graph", "-o", "x.png", check=False)
    assert (done.returncode, ".svg" in done.stderr) == (2, True)


def test_nothing_was_built(tmp_path: Path) -> None:
    put(tmp_path / "kiosk", {"host.yaml": "target: [virt/qemu]\n"})
    for words in (("legal-info",), ("sbom",), ("graph", "--kind", "time"), ("graph", "--kind", "size")):
        done = host_command(tmp_path / "kiosk", *words, check=False)
        assert (done.returncode, "nothing was built here" in done.stderr) == (3, True), words
