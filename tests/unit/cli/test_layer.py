"""``wherry layer`` by its words: what it prints, and what it ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.build.support import write

from wherry.cli.root import run

LAYERS = {"core/gentoo": "skiff/core", "skiff/core": "apps/docker", "apps/docker": "", "virt/qemu": ""}

Said = tuple[int, str, str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("SKIFF_CONFIG", "SKIFF_EXTRA_CONFIGS_PATH"):
        monkeypatch.delenv(name, raising=False)
    write(tmp_path / "configs", LAYERS)
    return tmp_path


def call(capfd: pytest.CaptureFixture[str], *words: str) -> Said:
    status = run(["layer", *words])
    return (status, *capfd.readouterr())


def test_the_chain(folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    chain = ["apps/docker", "skiff/core", "core/gentoo", "virt/qemu"]
    asked = ("--layers-path", "configs", "core/gentoo,skiff/core", "virt/qemu")
    assert call(capfd, "resolve", *asked) == (0, "\n".join(chain) + "\n", "")
    assert json.loads(call(capfd, "resolve", "--json", *asked)[1]) == chain
    theirs = json.loads(call(capfd, "resolve", "--json", "--order", "skiffos", *asked)[1])
    assert theirs == ["core/gentoo", "apps/docker", "skiff/core", "virt/qemu"]
    monkeypatch.setenv("SKIFF_CONFIG", "virt/qemu, apps/docker")
    monkeypatch.setenv("SKIFF_EXTRA_CONFIGS_PATH", "none:configs")
    status, out, err = call(capfd, "resolve")
    assert (status, out) == (0, "virt/qemu\napps/docker\n")
    assert "SKIFF_EXTRA_CONFIGS_PATH: none: no such folder" in err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("resolve", "--layers-path", "configs"), 2, "which layers?"),
        (("resolve", "--layers-path", "configs", "virt/qemo"), 3, "did you mean 'virt/qemu'?"),
        (("resolve", "--layers-path", "configs", "virt"), 5, "not a layer's name: 'virt'"),
        (("resolve", "--layers-path", "none", "virt/qemu"), 3, "no such folder of layers: none"),
        (("resolve", "nobody/has-this"), 3, "looked below:"),
        (("show", "--layers-path", "configs", "a/b"), 3, "no layer 'a/b'"),
        (("new", "nothing"), 5, "not a layer's name"),
        (("new", "--dir", "configs", "virt/qemu"), 4, "there is such a folder already"),
    ],
)
def test_wrong_words(
    folder: Path, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], status: int, said: str
) -> None:
    found, _, err = call(capfd, *words)
    assert said in err
    assert found == status


def test_listed_and_shown(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "configs/apps/docker/metadata/unlisted").touch()
    _, out, _ = call(capfd, "ls", "--layers-path", "configs")
    assert out.splitlines()[0].split() == ["NAME", "DESCRIPTION"]
    assert ["core/gentoo", "core/gentoo", "it", "is"] in [line.split() for line in out.splitlines()]
    assert "apps/docker" not in out
    assert "apps/docker" in call(capfd, "ls", "-aq", "--layers-path", "configs")[1].split()
    shown = json.loads(call(capfd, "show", "--json", "--layers-path", "configs", "skiff/core")[1])
    assert (shown["dependencies"], shown["needed_by"]) == (["apps/docker"], ["core/gentoo"])
    assert "Stands on:   apps/docker" in call(capfd, "show", "--layers-path", "configs", "skiff/core")[1]


def test_drawn(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _, out, _ = call(capfd, "graph", "--layers-path", "configs", "core/gentoo", "skiff/core")
    assert out.splitlines() == [
        "core/gentoo",
        "└─ skiff/core",
        "   └─ apps/docker",
        "skiff/core *",
    ]
    assert (
        '"core/gentoo" -> "skiff/core";' in call(capfd, "graph", "--dot", "--layers-path", "configs", "core/gentoo")[1]
    )


def test_begun_in_a_project_and_checked(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "wherry.yaml").touch()
    made = call(capfd, "new", "site/kiosk", "-m", "The kiosk in the hall", "--depends", "skiff/core")
    assert made == (0, "layers/site/kiosk\n", "")
    listed = [line.split(None, 1) for line in call(capfd, "ls")[1].splitlines()]
    assert ["site/kiosk", "The kiosk in the hall"] in listed
    status, out, err = call(capfd, "check")
    assert (status, out) == (5, "site/kiosk -> skiff/core: error: no layer 'skiff/core'\n")
    assert "1 error in 1 layer" in err
    status, out, err = call(capfd, "check", "--layers-path", "configs", "site/kiosk")
    assert (status, out) == (0, "")
    assert "1 layer, 0 warnings" in err


def test_what_a_chain_contributes(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    overlay = folder / "configs/skiff/core/root_overlay"
    overlay.mkdir()
    (folder / "configs/apps/docker/kernel").mkdir()
    (folder / "configs/apps/docker/kernel/x").write_text("CONFIG_A=y\nCONFIG_B=m\n")
    found = json.loads(call(capfd, "plan", "--json", "--layers-path", "configs", "core/gentoo")[1])
    assert found["layers"] == ["apps/docker", "skiff/core", "core/gentoo"]
    assert (found["root_overlay"], found["symbols"]["kernel"]) == (["configs/skiff/core/root_overlay"], 2)
    _, out, _ = call(capfd, "plan", "--layers-path", "configs", "core/gentoo")
    assert f"digest:            {found['digest']}" in out
    assert "kernel:            2 symbols" in out
    _, out, _ = call(capfd, "kconfig", "--blame", "--layers-path", "configs", "kernel", "core/gentoo")
    assert out.splitlines()[0] == "CONFIG_A=y  <- apps/docker: kernel/x:1"


def test_drop_ins(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, text in (("apps/docker", '{"a": 1, "b": {"c": []}}'), ("skiff/core", '{"a": 2, "b": null}')):
        place = folder / "configs" / name / "resources/docker/daemon.json.d"
        place.mkdir(parents=True)
        (place / "x.json").write_text(text)
    asked = ("--layers-path", "configs", "docker/daemon.json", "skiff/core")
    status, out, err = call(capfd, "dropins", *asked)
    assert (status, json.loads(out)) == (0, {"a": 2})
    where = "resources/docker/daemon.json.d/x.json"
    assert f"wherry: skiff/core: {where}: /a 2 replaces 1 of apps/docker: {where}\n" in err
    assert call(capfd, "dropins", "--blame", *asked)[1].splitlines() == [
        f"/a 2  <- skiff/core: {where}",
        f"    was 1  <- apps/docker: {where}",
        f"/b (taken away)  <- skiff/core: {where}",
    ]
    document = json.loads(call(capfd, "dropins", "--json", *asked)[1])
    assert [item["layer"] for item in document["history"]["/a"]] == ["apps/docker", "skiff/core"]
    assert call(capfd, "dropins", "--layers-path", "configs", "x.json", "skiff/core")[0] == 3
