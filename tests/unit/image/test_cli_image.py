"""``wherry image``: what it prints, and how it ends."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.image.makers import Layout, file, make_tar, sha256

from wherry.cli.root import run
from wherry.core.digest import Checksum
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    path = tmp_path / "rootfs.tar"
    path.write_bytes(make_tar(file("bin/sh", "x" * 1500), file("etc/hostname", "h")))
    return path


@pytest.fixture
def machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> object:
    class Machine:
        out = ""
        err = ""
        root = tmp_path / "root"

        def __call__(self, *args: str) -> int:
            status = run(["--root", str(self.root), "--run-root", str(tmp_path / "run"), *args])
            self.out, self.err = capsys.readouterr()
            return status

    return Machine()


def test_import_list_inspect_remove(machine, rootfs: Path) -> None:  # type: ignore[no-untyped-def]
    assert machine("image", "ls") == 0
    assert machine.out == "REPOSITORY  TAG  IMAGE ID  CREATED  SIZE\n"
    assert machine("image", "import", str(rootfs), "--name", "app:1", "-c", 'CMD ["sh"]') == 0
    identifier = machine.out.strip()
    assert identifier.startswith("sha256:")
    assert machine.err.startswith("app:1: 1.5 kB, commit ")
    assert machine("image", "ls") == 0
    assert machine.out.splitlines()[1].split() == ["app", "1", identifier[7:19], "N/A", "1.5", "kB"]
    assert all(len(line) <= 80 for line in machine.out.splitlines())
    assert machine("image", "ls", "--json") == 0
    assert json.loads(machine.out)[0] | {"commit": "", "digest": ""} == {
        "reference": "docker.io/library/app:1",
        "repository": "app",
        "tag": "1",
        "id": identifier,
        "commit": "",
        "digest": "",
        "platform": "linux",
        "created": "1970-01-01T00:00:00Z",
        "size_bytes": 1501,
    }
    assert machine("image", "inspect", "app:1", "--format", "json") == 0
    shown = json.loads(machine.out)[0]
    assert (shown["Id"], shown["RepoTags"], shown["Config"]) == (identifier, ["app:1"], {"Cmd": ["sh"]})
    assert machine("image", "rm", "app:1") == 0
    assert machine.out == "app:1\n"
    assert list(Repository.open(machine.root / "store").list_objects()) == []


def test_list_filters(machine, rootfs: Path) -> None:  # type: ignore[no-untyped-def]
    for name in ("app:1", "app:2", "other:1"):
        assert machine("-q", "image", "import", str(rootfs), "--name", name) == 0
        assert machine.err == ""
    for given, count in (("app", 2), ("app:2", 1), ("docker.io/library/app", 2), ("none", 0)):
        machine("image", "ls", given, "--json")
        assert len(json.loads(machine.out)) == count
    machine("image", "ls", "-q")
    assert len(machine.out.split()) == 1  # one image of three names
    machine("image", "ls", "-q", "--no-trunc")
    assert machine.out.startswith("sha256:")
    assert machine("image", "rm", "app:1", "missing:1", "other:1") == 3
    assert machine.out == "app:1\nother:1\n"
    assert "no such image: missing:1" in machine.err
    machine("image", "ls", "-q")
    assert len(machine.out.split()) == 1


def test_standard_input(machine, rootfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    assert machine("image", "import", str(rootfs), "--name", "a:1") == 0
    identifier = machine.out
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(rootfs.read_bytes())))
    assert machine("image", "import", "-", "--name", "b:1") == 0
    assert machine.out == identifier
    assert list((machine.root / "store/tmp").glob("wherry-import-*")) == []


def test_another_repository(machine, rootfs: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    other = str(tmp_path / "other")
    assert machine("image", "ls", "--repo", other) == 3
    Repository.init(Path(other), Mode.BARE_USER)
    assert machine("image", "import", str(rootfs), "--name", "a:1", "--repo", other) == 0
    assert machine("image", "ls", "--repo", other, "-q") == 0
    assert machine.out
    assert machine("image", "rm", "--repo", other, "a:1") == 0
    assert list(Repository.open(Path(other)).list_objects())


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["import", "/no/such", "--name", "a"], 3, "no such file or directory: /no/such"),
        (["import", "ROOTFS"], 2, "give --name"),
        (["import", "ROOTFS", "--name", "Bad Name"], 5, "not the name of an image"),
        (["import", "ROOTFS", "--name", "a", "-c", "RUN x"], 5, "RUN changes more than the config"),
        (["import", "ROOTFS", "--name", "a", "--platform", "x/y/z/w"], 5, "not a platform"),
        (["inspect", "nginx"], 3, "no such image: nginx"),
        (["rm", "nginx"], 3, "no such image: nginx"),
        (["inspect", "nginx", "--format", "{{.Id"], 2, "--format"),
    ],
)
def test_errors(machine, rootfs: Path, args: list[str], status: int, message: str) -> None:  # type: ignore[no-untyped-def]
    assert machine("image", *[str(rootfs) if arg == "ROOTFS" else arg for arg in args]) == status
    assert message in machine.err


def test_names(machine, rootfs: Path) -> None:  # type: ignore[no-untyped-def]
    assert machine("image", "import", str(rootfs), "--name", "app:1") == 0
    identifier = machine.out.strip()
    assert machine("tag", "app:1", "b:1", "c:1") == 0
    assert machine("images", "-q", "--no-trunc") == 0
    assert machine.out.split() == [identifier]
    assert machine("image", "inspect", "b:1", "none:1", "--format", '{{join .RepoTags ","}} {{.Id}}') == 3
    assert machine.out == f"app:1,b:1,c:1 {identifier}\n"
    assert "no such image: none:1" in machine.err
    assert machine("image", "rename", "c:1", "d:1") == 0
    assert machine("image", "untag", "app:1", "c:1") == 3
    assert "the image has no such name: c:1" in machine.err
    assert machine("image", "untag", "app:1", "d:1") == 0
    assert machine.out == "d:1\n"
    assert machine("images", "--format", "{{.Repository}}:{{.Tag}}") == 0
    assert machine.out.split() == ["app:1", "b:1"]
    assert machine("images", "--filter", "reference=b*", "--format", "{{.Repository}}") == 0
    assert machine.out == "b\n"
    assert machine("rmi", "b:1") == 0
    assert machine("image", "untag", "app") == 3
    assert machine("image", "untag", "app:1") == 0
    assert "has no name now" in machine.err
    commit = machine.err.split()[1]
    assert machine("images", "-q") == 0
    assert machine.out == ""
    assert machine("image", "prune", "-f") == 0
    assert f"sha256:{commit}" in machine.out
    assert list(Repository.open(machine.root / "store").list_objects()) == []


def test_prune_frees_what_it_says(machine, rootfs: Path) -> None:  # type: ignore[no-untyped-def]
    assert machine("image", "import", str(rootfs), "--name", "app:1") == 0
    rootfs.write_bytes(make_tar(file("bin/sh", "y" * 70_000)))
    assert machine("image", "import", str(rootfs), "--name", "app:1") == 0  # the one before has no name now
    objects = machine.root / "store/objects"

    def size() -> int:
        return sum(path.stat().st_size for path in objects.rglob("*") if path.is_file())

    before = size()
    assert machine("image", "prune", "-f", "--json") == 0
    answer = json.loads(machine.out)
    assert len(answer["images"]) == 1
    assert before - size() == answer["freed_bytes"] > 1500
    assert machine("image", "prune", "-af", "--json") == 0
    assert json.loads(machine.out)["images"] == ["app:1"]
    assert size() == 0


def test_shared_and_unique(machine, rootfs: Path) -> None:  # type: ignore[no-untyped-def]
    assert machine("image", "import", str(rootfs), "--name", "app:1") == 0
    rootfs.write_bytes(make_tar(file("bin/sh", "x" * 1500), file("more", "m" * 40)))
    assert machine("image", "import", str(rootfs), "--name", "app:2") == 0
    assert machine("image", "ls", "--size", "--json") == 0
    found = {item["tag"]: (item["shared_bytes"], item["unique_bytes"]) for item in json.loads(machine.out)}
    assert found == {"1": (1500, 1), "2": (1500, 40)}
    assert machine("tag", "app:2", "app:3") == 0  # a further name of one image shares nothing with it
    assert machine("image", "ls", "--size", "--json") == 0
    assert [item["unique_bytes"] for item in json.loads(machine.out)] == [1, 40, 40]
    assert machine("system", "df", "--json") == 0
    assert json.loads(machine.out)["ImagesBytes"] == 1541
    assert machine("system", "df", "--format", "{{.Type}} {{.Reclaimable}}") == 0
    assert machine.out.splitlines()[0] == "Images 41 B (2%)"
    assert machine("image", "ls", "--size") == 0
    assert machine.out.splitlines()[0].split() == [
        "REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE", "SHARED", "UNIQUE",
    ]  # fmt: skip


def test_history(machine, rootfs: Path) -> None:  # type: ignore[no-untyped-def]
    assert machine("image", "import", str(rootfs), "--name", "app:1") == 0
    identifier = machine.out.strip()
    assert machine("history", "app:1") == 0
    assert machine.out.splitlines()[0].split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert machine.out.splitlines()[1].split() == [identifier[7:19], "N/A", "1.5", "kB"]
    assert machine("history", "--json", "app:1") == 0
    assert json.loads(machine.out)[0]["size_bytes"] == 1501
    assert machine("history", "-q", "--no-trunc", "app:1") == 0
    assert machine.out.strip() == identifier


def test_load_and_export(machine, rootfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    layer = make_tar(file("etc/hostname", "h"))
    config = json.dumps({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [sha256(layer)]}})
    images: list[dict[str, Any]] = [
        {"Config": "a.json", "RepoTags": ["app:1", "app:2"], "Layers": ["l.tar"]},
        {"Config": "b.json", "RepoTags": None, "Layers": ["l.tar"]},
    ]
    archive = tmp_path / "saved.tar"
    members = (file("a.json", config), file("b.json", config + " "), file("l.tar", layer))
    archive.write_bytes(make_tar(*members, file("manifest.json", json.dumps(images))))
    assert machine("load", "-i", str(archive)) == 0
    nameless = hashlib.sha256((config + " ").encode()).hexdigest()[:12]
    assert machine.out.splitlines() == [
        "Loaded image: app:1", "Loaded image: app:2", f"Loaded image: localhost/loaded:{nameless}",
    ]  # fmt: skip
    stdin = SimpleNamespace(buffer=io.BytesIO(archive.read_bytes()), isatty=lambda: False)
    monkeypatch.setattr(sys, "stdin", stdin)
    assert machine("image", "load", "--json") == 0
    assert len(json.loads(machine.out)) == 3
    assert machine("image", "load", "-i", str(rootfs)) == 5
    assert "wherry image import --name NAME" in machine.err
    images[1]["RepoTags"] = ["Bad Name"]
    archive.write_bytes(make_tar(*members, file("manifest.json", json.dumps(images))))
    assert machine("--root", str(tmp_path / "new"), "load", "-i", str(archive)) == 5
    assert "is no name" in machine.err
    assert machine("--root", str(tmp_path / "new"), "images", "-q") == 0
    assert machine.out == ""
    out = tmp_path / "out.tar"
    assert machine("image", "export", "app:1", "-o", str(out)) == 0
    with tarfile.open(out) as found:
        assert "etc/hostname" in [name.removeprefix("./") for name in found.getnames()]
    assert machine("image", "import", str(out), "--name", "again:1") == 0
    assert machine("image", "export", "none:1", "-o", str(tmp_path / "none.tar")) == 3
    assert not (tmp_path / "none.tar").exists()
    assert machine("image", "export", "app:1", "-o", str(tmp_path / "no/such")) == 1


def test_dockers_form_of_import(machine, rootfs: Path) -> None:  # type: ignore[no-untyped-def]
    assert machine("import", str(rootfs), "app:1") == 0
    assert machine("images", "--format", "{{.Repository}}:{{.Tag}}") == 0
    assert machine.out == "app:1\n"
    assert machine("import", str(rootfs), "app:1", "--name", "b:1") == 2


def test_max_size(machine, rootfs: Path) -> None:  # type: ignore[no-untyped-def]
    assert machine("image", "import", str(rootfs), "--name", "a:1", "--max-size", "2k") == 5
    assert "longer than the limit of 2048 bytes" in machine.err
    assert machine("image", "import", str(rootfs), "--name", "a:1", "--max-size", "1m") == 0


def test_sizes_are_looked_up_once(machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """So that ten images of ten thousand files each, most of them shared, take less than a second."""
    from wherry.engine import disk

    for number in range(3):
        path = tmp_path / "root.tar"
        path.write_bytes(
            make_tar(*(file(f"d/f{index}", str(index)) for index in range(50)), file("own", f"own{number}"))
        )
        assert machine("image", "import", str(path), "--name", f"app:{number}") == 0
    asked: list[str] = []
    real = disk._file_bytes

    def look(repo: Repository, checksum: Checksum) -> int:
        asked.append(checksum)
        return real(repo, checksum)

    monkeypatch.setattr(disk, "_file_bytes", look)
    assert machine("image", "ls", "--size", "--json") == 0
    assert len(asked) == len(set(asked)) == 53
    assert [item["unique_bytes"] for item in json.loads(machine.out)] == [4, 4, 4]


def test_prune_frees_what_it_says_of_everything(machine, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Objects, kept blobs, and what a killed import left; compared with the sizes of all files before and after."""
    for number in range(2):
        layout = Layout(tmp_path / f"layout{number}")
        layers = [make_tar(file("base", "b" * 9000)), make_tar(file("own", str(number) * 5000))]
        layout.add(layout.image(layers), f"app:{number}")
        assert machine("image", "import", str(layout.path), "--keep-layers") == 0
    store = machine.root / "store"
    assert machine("image", "untag", "app:1") == 0
    assert list((store / "oci/blobs/sha256").iterdir())

    def size() -> int:
        kept = [path for name in ("objects", "oci") for path in (store / name).rglob("*")]
        return sum(path.stat().st_size for path in kept if path.is_file())

    before = size()
    assert machine("image", "prune", "-f", "--json") == 0
    assert json.loads(machine.out)["freed_bytes"] == before - size() > 5000
    assert machine("image", "export", "app:0", "-o", str(tmp_path / "out.tar")) == 0
    left = size()
    assert machine("rmi", "app:0") == 0
    assert size() == 0 < left
