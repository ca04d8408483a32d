"""What umoci, skopeo, podman, GNU tar and bsdtar's users hand over is read as those tools read it themselves."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from tests.compat.image.conftest import facts_of_commit, facts_of_directory, make_base
from tests.unit.image.makers import Layout, directory, file, hard_link, make_repo, make_tar, symlink

from wherry.core.proc import run
from wherry.image.importing import import_image
from wherry.store.repository import Repository


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return make_repo(tmp_path / "repo")


@pytest.mark.parametrize("tag", ["three", "four"])
def test_the_tree_is_what_umoci_unpacks(layout: Path, repo: Repository, tmp_path: Path, tag: str) -> None:
    record = import_image(repo, f"oci:{layout}:{tag}", name="busybox:3")
    run(["umoci", "unpack", f"--image={layout}:{tag}", str(tmp_path / "bundle")])
    assert facts_of_commit(repo, record.commit) == facts_of_directory(tmp_path / "bundle/rootfs")


def test_the_config_is_what_umoci_says(layout: Path, repo: Repository) -> None:
    config = import_image(repo, f"oci:{layout}:three", name="busybox:3").config
    assert config.cmd == ("sh",)
    assert "A=b" in config.env
    assert (config.working_dir, config.user, config.labels["l"]) == ("/tmp", "1000:1000", "m")
    assert config.exposed_ports == ("80/tcp",)
    assert len(config.diff_ids) == 3


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("oci:{}/copy:three", []),
        ("oci:{}/copy:three", ["--dest-compress-format=zstd"]),
        ("oci-archive:{}/copy.tar:three", []),
        ("docker-archive:{}/copy.tar:busybox:3", []),
    ],
)
def test_what_skopeo_copies(layout: Path, repo: Repository, tmp_path: Path, target: str, options: list[str]) -> None:
    original = import_image(repo, f"oci:{layout}:three", name="busybox:3")
    run(["skopeo", "copy", "-q", *options, f"oci:{layout}:three", target.format(tmp_path)])
    copy = import_image(repo, target.format(tmp_path), name="busybox:3")
    assert repo.load_commit(copy.commit).tree == repo.load_commit(original.commit).tree
    assert copy.config.diff_ids == original.config.diff_ids
    plain = next(path for path in (tmp_path / "copy", tmp_path / "copy.tar") if path.exists())
    assert import_image(repo, str(plain), name="busybox:3") == copy


def test_the_digest_is_skopeos(layout: Path, repo: Repository) -> None:
    record = import_image(repo, f"oci:{layout}:three", name="a")
    shown = json.loads(run(["skopeo", "inspect", f"oci:{layout}:three"]).stdout)
    assert record.digest == shown["Digest"]
    assert record.config.architecture == shown["Architecture"]


def test_what_podman_saves(layout: Path, repo: Repository, tmp_path: Path, podman: list[str]) -> None:
    original = import_image(repo, f"oci:{layout}:three", name="three")
    run(["skopeo", "copy", "-q", f"oci:{layout}:three", f"docker-archive:{tmp_path}/in.tar:localhost/three:1"])
    run([*podman, "load", "-q", "-i", f"{tmp_path}/in.tar"])
    identifier = run([*podman, "images", "-q", "--no-trunc"]).stdout.decode().strip()
    for form in ("docker-archive", "oci-archive"):
        saved = tmp_path / f"{form}.tar"
        run([*podman, "save", "-q", f"--format={form}", "-o", str(saved), "localhost/three:1"])
        record = import_image(repo, str(saved))
        assert str(record.reference) == "localhost/three:1"
        assert record.config.diff_ids == original.config.diff_ids
        assert record.identifier == identifier or form == "oci-archive"  # for which it writes the config anew
        assert repo.load_commit(record.commit).tree == repo.load_commit(original.commit).tree


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar"])
def test_root_tars_of_gnu_tar(repo: Repository, tmp_path: Path, form: str) -> None:
    root = tmp_path / "root"
    make_base(root)
    if form == "ustar":
        os.removexattr(root / "bin/ping", "security.capability")
    if form == "ustar":
        (root / ("long-" + "n" * 200)).unlink()
    options = ["--xattrs", "--xattrs-include=*"] if form == "pax" else []
    if form != "pax":
        os.chown(root / "bin/ping", 0, 0)  # takes the capability away, which these forms cannot hold
    run(["tar", f"--format={form}", *options, "-C", str(root), "-czf", str(tmp_path / "root.tar.gz"), "."])
    record = import_image(repo, str(tmp_path / "root.tar.gz"), name="root")
    assert facts_of_commit(repo, record.commit) == facts_of_directory(root)
    by_tree = import_image(repo, str(root), name="root")
    assert repo.load_commit(by_tree.commit).tree == repo.load_commit(record.commit).tree
    assert by_tree.config.architecture == record.config.architecture != ""


def test_layers_with_opaque_folders_and_odd_orders(repo: Repository, tmp_path: Path) -> None:
    made = Layout(tmp_path / "layout")
    layers = [
        make_tar(directory("./"), file("d/a", "1"), file("d/s/b", "2"), file("e/x", "3"), symlink("l", "d"), file("f")),
        make_tar(file("d/.wh..wh..opq"), file("d/new", "4"), file("e/.wh.x"), file(".wh.f"), hard_link("h", "d/new")),
        make_tar(directory("e", mode=0o700), file("e/x", "again"), directory("f"), file("f/.wh.none"), file("l", "5")),
    ]
    made.add(made.image(layers), "t")
    record = import_image(repo, str(made.path), name="a")
    run(["umoci", "unpack", f"--image={made.path}:t", str(tmp_path / "bundle")])
    ours, theirs = facts_of_commit(repo, record.commit), facts_of_directory(tmp_path / "bundle/rootfs")
    assert ours == theirs


def test_real_ostree_reads_an_image(layout: Path, repo: Repository, tmp_path: Path) -> None:
    record = import_image(repo, f"oci:{layout}:three", name="busybox:3")
    run(["ostree", f"--repo={repo.path}", "fsck"])
    run(["ostree", f"--repo={repo.path}", "pull-local", "--repo", str(repo.path), str(repo.path), record.reference.ref])
    shown = run(["ostree", f"--repo={repo.path}", "show", "--print-metadata-key=wherry.image.reference", record.commit])
    assert shown.stdout.decode().strip() == "'docker.io/library/busybox:3'"
    assert record.reference.ref in run(["ostree", f"--repo={repo.path}", "refs"]).stdout.decode().split()


def test_tar_reader_against_gnu_tar_names(tmp_path: Path) -> None:
    from wherry.store.tree.tar import TarReader

    root = tmp_path / "root"
    make_base(root)
    data = run(["tar", "-C", str(root), "--format=gnu", "-cf", "-", "."]).stdout
    names = sorted(entry.name for entry in TarReader(io.BytesIO(data)))
    listed = run(["tar", "--quoting-style=literal", "-tf", "-"], stdin=data).stdout.decode().splitlines()
    assert names == sorted(listed)
